"""The report is one file that needs nothing else, and says what was revealed."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from producers.charts import Scored, rates
from producers.job_report import JobResult, build_report, bytes_by_stage, losses_of, seconds_by_stage
from producers.job_view import JobStatus, JobView, TaskStatus, TaskView, human_bytes
from producers.leaks import ACCEPTED, reveals
from producers.report import write_report
from schemas.evaluation import EvaluationReport, ScoredRow
from schemas.jobs import PIPELINE, JobSpec, Leak, PartySpec, Privacy, Reason, Role, Stage, TrainSpec
from schemas.models import ModelHalf
from schemas.tasks import Measure

SPEC = JobSpec(
    "credit", PartySpec("bank", "loans", ("age",)), "y", (PartySpec("shop", "carts", ("<b>items</b>",)),),
    accept_leaks=(Leak.SMALL_TABLE,),
)  # fmt: skip
MEASURES = tuple(Measure(f"loss_pass_{step}", 0.6 / (step + 1)) for step in range(4))


def _task(stage: Stage, party: str, start_ms: int, end_ms: int) -> TaskView:
    return TaskView(
        stage, party, TaskStatus.SUCCEEDED, start_ms, end_ms, bytes_sent=1500, bytes_received=2500, measures=MEASURES
    )


def _result(status: JobStatus = JobStatus.SUCCEEDED) -> JobResult:
    draws = np.random.RandomState(5)
    rows = tuple(
        ScoredRow(
            f"id-{row}", int(label), float(np.clip(0.3 + 0.4 * label + 0.3 * noise, 0, 1)), float(draws.rand()), 0, (0,)
        )
        for row, (label, noise) in enumerate(zip(draws.randint(0, 2, 80), draws.randn(80), strict=True))
    )
    report = EvaluationReport(
        "credit-1", "credit", 200, 80, (Measure("auc", 0.9), Measure("guest_auc", 0.6), Measure("ks", 0.7)),
        (), (), (), (), (), (), (), 0, rows,
    )  # fmt: skip
    half = ModelHalf(
        "shop", Role.HOST, "credit", ("<b>items</b>",), (0.0,), (1.0,), (), 8.0, (3 << 24,), None, 4.0, b"", b""
    )
    views = {
        party: JobView(
            "credit-1", party, status, 0, 9000, Role.GUEST, SPEC,
            tasks={(stage, party): _task(stage, party, 1000 * place, 1000 * place + 500 * (1 + (party == "shop")))
                   for place, stage in enumerate(PIPELINE)},
            reason=None if status is JobStatus.SUCCEEDED else Reason.LOGITS_OUT_OF_BOX,
        )
        for party in ("bank", "shop")
    }  # fmt: skip
    return JobResult(views, "bank", report, None, [half])


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "report.html"
    write_report(build_report(_result()), path)
    return path.read_text(encoding="utf-8")


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(page: str) -> None:
    assert len(re.findall("<svg", page)) == 7, "ROC, KS, lift, calibration, loss, seconds, bytes"
    used = re.findall(r'(?:src|href)="([^"#][^"]*)"', page) + re.findall(r"url\((?!#)[^)]*\)|@import", page)
    assert used == []
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br", "use", "path"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("use", "path"):
                assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []


def test_element_ids_of_the_drawings_are_distinct(page: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    for used in re.findall(r'(?:href="#|url\(#)([^")]*)', page):
        assert used in ids


def test_names_from_outside_are_text_not_markup(page: str) -> None:
    assert "<b>items</b>" not in page
    assert "&lt;b&gt;items&lt;/b&gt;" in page


def test_accepted_leaks_and_those_of_the_protocol_are_in_plain_words(page: str) -> None:
    words = re.sub(r"\s+", " ", page).replace("&#39;", "'")
    assert "accepted by name: small_table" in words
    assert ACCEPTED[Leak.SMALL_TABLE] in words
    for _, sentence in reveals(SPEC):
        assert sentence in words


def test_a_failed_job_has_a_report_as_well(tmp_path: Path) -> None:
    result = replace(_result(JobStatus.FAILED), evaluation=None, halves=[])
    write_report(build_report(result), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "ended without a model" in text
    assert "logits_out_of_box" in text


def test_a_trusted_guest_is_called_what_it_is() -> None:
    spec = replace(SPEC, train=TrainSpec(privacy=Privacy.TRUSTED_GUEST))
    result = _result()
    views = {party: replace(view, spec=spec) for party, view in result.views.items()}
    assert "can recover the hosts' rows" in build_report(replace(result, views=views)).notice


def test_every_leak_is_explained() -> None:
    assert set(ACCEPTED) == set(Leak)


def test_a_stage_lasts_from_the_first_start_to_the_last_end() -> None:
    assert seconds_by_stage(_result()) == {str(stage): 1.0 for stage in PIPELINE}


def test_bytes_are_counted_where_they_were_sent() -> None:
    assert bytes_by_stage(_result())["train"] == {"bank": 1500, "shop": 1500}


def test_losses_end_where_the_series_ends() -> None:
    assert losses_of({"loss_pass_0": 3.0, "loss_pass_1": 2.0, "loss_pass_3": 1.0, "rows": 2.0}) == [1.5, 1.0]


def test_the_roc_of_the_report_has_the_area_that_scikit_learn_computes() -> None:
    draws = np.random.RandomState(3)
    label = draws.randint(0, 2, 300).astype(np.int8)
    score = np.round(label + draws.randn(300), 1)
    false_rate, true_rate, share = rates(Scored("x", label, score))
    assert np.trapezoid(true_rate, false_rate) == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert (share[0], share[-1], true_rate[-1], false_rate[-1]) == (0, 1, 1, 1)


def test_bytes_are_readable() -> None:
    assert [human_bytes(count) for count in (0, 999, 1234, 56_700_000, 8_000_000_000)] == [
        "0 B",
        "999 B",
        "1.2 kB",
        "56.7 MB",
        "8.0 GB",
    ]
