"""`isthmus score send|watch|load` on a real broker, against a thread that plays router and joiner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra.broker import EmbeddedBroker
from infra.settings import load_settings, save_settings
from producers.commands.score import score
from producers.score_client import make_request, new_request_id
from producers.score_follow import follow_results, is_of
from producers.topic_reader import connection_of
from schemas.scoring import Outcome, ScoreJoined, ScoreReason
from tests.producers.score_responder import Responder, points_of, refused, scored

ROOT = Path(__file__).parents[2]
PATIENT = ("--deadline-ms", "120000")


@pytest.fixture
def home(
    broker: EmbeddedBroker, new_party: Callable[[str], str], make_party_topics: Callable[..., object], tmp_path: Path
) -> str:
    name = new_party("bank")
    make_party_topics(name)
    save_settings(tmp_path, {"party": name, "access": {"kind": "custom"}, "bootstrap_servers": broker.bootstrap})
    return str(tmp_path)


def responder_of(home: str) -> Responder:
    settings = load_settings(Path(home))
    return Responder(settings.bootstrap_servers, settings.party)


def _run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(score, arguments, input=stdin, catch_exceptions=False)


def test_send_shows_a_table_and_json_lines(home: str, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("name,customer\nada,C0001\nbob,C0002\n")
    with responder_of(home) as responder:
        shown = _run("send", "C0003", "C0004", "--model", "credit-risk", "--home", home, *PATIENT)
        from_stdin = _run("send", "-", "--model", "m@canary", "--json", "--home", home, *PATIENT, stdin="C5\n\nC6\n")
        columns = ("--csv", str(table), "--id-column", "customer")
        from_csv = _run("send", *columns, "--model", "m", "--json", "--home", home, *PATIENT, "--feature", "age=41.5")
    assert (shown.exit_code, from_stdin.exit_code, from_csv.exit_code) == (0, 0, 0), shown.output
    assert "C0003" in shown.output and str(points_of("C0004")) in shown.output and "credit-risk/3" in shown.output
    told = [json.loads(line) for line in from_stdin.output.splitlines()]
    assert [(one["entity_id"], one["outcome"], one["alias"]) for one in told] == [
        ("C5", "scored", "canary"),
        ("C6", "scored", "canary"),
    ]
    assert [json.loads(line)["points"] for line in from_csv.output.splitlines()] == [
        points_of("C0001"),
        points_of("C0002"),
    ]
    brought = [[(one.name, one.value) for one in request.features] for _, request in responder.requests]
    assert brought[-2:] == [[("age", 41.5)]] * 2


def test_send_ends_with_1_when_somebody_has_no_score(home: str) -> None:
    with responder_of(home) as responder:
        responder.answer = lambda request: refused(request) if request.entity_id == "C1" else scored(request)
        result = _run("send", "C1", "C2", "--model", "m", "--home", home, *PATIENT)
        responder.answer = lambda request: None
        silent = _run("send", "C3", "--model", "m", "--request-id", "r3", "--home", home, "--deadline-ms", "5000")
    assert result.exit_code == 1
    assert "no_such_person at bank" in result.output and "1 of 2 have no score" in result.output
    assert silent.exit_code == 1
    assert "no result of request r3" in " ".join(silent.output.split())


def test_degraded_counts_as_a_score(home: str) -> None:
    with responder_of(home) as responder:
        responder.answer = lambda request: replace(
            scored(request), outcome=Outcome.DEGRADED, reason=ScoreReason.LATE, party="bureau"
        )
        result = _run("send", "C1", "--model", "m", "--home", home, *PATIENT)
    assert result.exit_code == 0
    assert "late at bureau" in result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "whom?"),
        (("C1", "C2", "--request-id", "r"), "give one id"),
        (("C1", "--feature", "age"), "NAME=NUMBER"),
        (("C1", "--feature", "age=old"), "NAME=NUMBER"),
    ],
)
def test_send_says_what_is_wrong_with_its_arguments(arguments: tuple[str, ...], complaint: str) -> None:
    result = _run("send", *arguments, "--model", "m")
    assert result.exit_code == 2
    assert complaint in result.output


def test_send_names_the_columns_that_there_are(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("name,customer\n")
    result = _run("send", "--csv", str(table), "--id-column", "id", "--model", "m")
    assert result.exit_code == 2
    assert "no column id: it has name, customer" in result.output


def test_watch_prints_committed_results_of_the_model(home: str) -> None:
    """As a process of its own, which has read to the end when it shows the first one."""
    code = "from producers.commands.score import score; score()"
    command = [sys.executable, "-c", code, "watch", "m@live", "--count", "2", "--json", "--home", home]
    with responder_of(home) as responder:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert process.stdout is not None
        others = [replace(scored(make_request("C1", model)), points=1) for model in ("other", "m@canary")]
        first = b""
        while not first:
            # Until the process follows, what is written is before its beginning.
            responder.write(replace(scored(make_request("C9", "m")), request_id=new_request_id()), *others)
            responder.write(replace(scored(make_request("C9", "m")), points=2), abort=True)
            os.set_blocking(process.stdout.fileno(), False)
            first = process.stdout.read() or b""
        os.set_blocking(process.stdout.fileno(), True)
        responder.write(scored(make_request("C9", "m")))
        text = first + process.stdout.read()
        assert process.wait(60) == 0
        process.stdout.close()
    told = [json.loads(line) for line in text.splitlines()]
    assert [(one["model"], one["alias"], one["points"]) for one in told] == [("m", "live", points_of("C9"))] * 2


def test_results_are_followed_from_now_on(home: str) -> None:
    settings = load_settings(Path(home))
    with responder_of(home) as responder:
        responder.write(scored(make_request("C1", "m")))
        results = follow_results(settings.party, connection_of(settings), "m", count=1)
        found = _first_of(results, responder)
    assert found == points_of("C2")


def _first_of(results: Iterator[ScoreJoined], responder: Responder) -> int | None:
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(next, results)
        while not first.done():
            responder.write(scored(make_request("C2", "m")))
        points = first.result().points
        thread.submit(list, results).result(60)
    return points


@pytest.mark.parametrize(
    ("model", "expected"),
    [(None, True), ("m", True), ("m@live", True), ("m@canary", False), ("m/3", True), ("m/2", False), ("n", False)],
)
def test_which_results_a_model_means(model: str | None, expected: bool) -> None:
    assert is_of(scored(make_request("C1", "m")), model) is expected


def test_load_reports_figures_for_programs_and_people(home: str, tmp_path: Path) -> None:
    people = tmp_path / "ids.txt"
    people.write_text("C0001\nC0002\n\n")
    with responder_of(home) as responder:
        told = _run(
            "load", "--model", "m", "--rate", "200", "--seconds", "1", "--ids", "C001..C050", "--home", home, *PATIENT,
            "--json",
        )  # fmt: skip
        assert len({request.request_id for _, request in responder.requests}) == 200
        assert len({request.entity_id for _, request in responder.requests}) == 50
        shown = _run("load", "--model", "m", "--rate", "50", "--seconds", "0.2", "--ids", str(people), "--home", home)
    figures = json.loads(told.output)
    assert (figures["sent"], figures["ended"], figures["lost"]) == (200, 200, 0)
    assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["outcomes"] == [{"outcome": "scored", "reason": "none", "party": "", "count": 200}]
    assert shown.exit_code == 0
    assert "10 scored" in shown.output


def test_load_ends_with_1_when_requests_are_lost(home: str) -> None:
    with responder_of(home) as responder:
        responder.answer = lambda request: None
        result = _run(
            "load", "--model", "m", "--rate", "20", "--seconds", "0.2", "--ids", "1..9", "--home", home,
            "--deadline-ms", "1",
        )  # fmt: skip
    assert result.exit_code == 1
    assert "4 of 4 requests have no outcome" in result.output


@pytest.mark.parametrize("ids", ["nowhere.txt", "5..2"])
def test_load_says_what_is_wrong_with_the_ids(ids: str) -> None:
    result = _run("load", "--model", "m", "--ids", ids)
    assert result.exit_code == 2
    assert "no such file" in result.output
