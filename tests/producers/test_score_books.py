"""`isthmus score history` and `reconcile` on books that were written without a broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from consumers.score_rows import RowMaker
from infra.history_store import Booking, Progress, open_history
from infra.settings import load_settings, save_settings
from producers.commands.errors import ReportingGroup
from producers.commands.score_books import history, reconcile
from schemas.record import Record
from schemas.scoring import Purpose, ScoreReason
from tests.consumers.score_houses import BANK, BUREAU, House, answered, late, make_houses, settle, used


def _run(*arguments: str) -> Result:
    group = click.Group("score", commands={"history": history, "reconcile": reconcile}) if arguments else None
    assert group is not None
    top = ReportingGroup("isthmus", commands={"score": group})
    result = CliRunner().invoke(top, ["score", *arguments], catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def home(tmp_path: Path) -> Path:
    settings = {"party": BANK, "access": {"kind": "custom"}, "bootstrap_servers": "localhost:1", "peers": [BUREAU]}
    save_settings(tmp_path / "home", settings)
    return tmp_path / "home"


def book(home: Path, *records: Record) -> None:
    store, rows = open_history(load_settings(home)), RowMaker(BANK)
    booking = Booking((Progress("topic", 0, None, len(records)),))
    for record in records:
        rows.add(record, booking)
    store.book(booking)
    store.close()


#: 14 November 2023, 22:13:20 UTC
SECOND = 1_700_000_000


@pytest.fixture
def booked(home: Path) -> Path:
    book(
        home,
        used(answered("first", 3, asked_at_us=SECOND * 1_000_000)),
        used(answered("second", asked_at_us=(SECOND + 60) * 1_000_000, reason=ScoreReason.NO_SUCH_PERSON)),
        used(answered("third", asked_at_us=(SECOND + 120) * 1_000_000, version="2")),
        late(answered("first", 4, asked_at_us=(SECOND + 1) * 1_000_000)),
    )
    return home


def _ids(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [row["request_id"] for row in json.loads(result.stdout)["outcomes"]]


def test_outcomes_are_listed_with_their_counts(booked: Path) -> None:
    result = _run("history", "--home", str(booked))
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == ("2023-11-14 22:13:20.003  first  credit/1  scored  points 600  band A  decision accept")
    assert "second  credit/1  degraded (no_such_person) by bureau" in lines[1]
    assert lines[-1] == "3 outcomes: 1 degraded (no_such_person), 2 scored"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model", "credit", "--version", "1"], ["first", "second"]),
        (["--model", "other"], []),
        (["--from", "2023-11-14T22:14"], ["second", "third"]),
        (["--from", "2023-11-14T23:14:00+01:00", "--to", "2023-11-14T22:15"], ["second"]),
        (["--to", "2023-11-14"], []),
        (["--from", "2023-11-14", "--to", "2023-11-15"], ["first", "second", "third"]),
        (["--request", "third"], ["third"]),
        (["--limit", "2"], ["first", "second"]),
    ],
)
def test_outcomes_are_chosen_by_model_version_time_and_request(
    booked: Path, options: list[str], expected: list[str]
) -> None:
    assert _ids(_run("history", *options, "--json", "--home", str(booked))) == expected


def test_outcomes_can_be_counted_only(booked: Path) -> None:
    told = json.loads(_run("history", "--count", "--json", "--version", "1", "--home", str(booked)).stdout)
    assert told["outcomes"] == 2
    assert sum(entry["count"] for entry in told["counts"]) == 2
    text = _run("history", "--count", "--home", str(booked)).output
    assert text == "3 outcomes: 1 degraded (no_such_person), 2 scored\n"


def test_a_request_is_shown_with_every_answer(booked: Path) -> None:
    document = json.loads(_run("history", "--request", "first", "--json", "--home", str(booked)).stdout)
    assert [(answer["how"], answer["value"]) for answer in document["answers"]] == [("used", 3), ("late", 4)]
    text = _run("history", "--request", "first", "--home", str(booked)).output
    assert "bank asked bureau for credit/1 (live): 4 x 5, late" in text


def test_what_is_left_out_is_said(booked: Path) -> None:
    assert "shown are the first 2" in _run("history", "--limit", "2", "--home", str(booked)).output


def test_a_time_that_is_none_is_told(booked: Path) -> None:
    result = _run("history", "--from", "yesterday", "--home", str(booked))
    assert result.exit_code == 2
    assert "'yesterday' is no time: write 2026-11-22" in result.output


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"url": "oracle://x"}, 78, "use sqlite, postgresql or mysql"),
        ({"url": "postgresql+psycopg://reader:hunter2@127.0.0.1:1/x"}, 1, "the history does not answer"),
    ],
)
def test_a_history_that_cannot_be_read_is_told_without_the_password(
    tmp_path: Path, change: dict[str, Any], code: int, text: str
) -> None:
    settings = {
        "party": BANK,
        "access": {"kind": "custom"},
        "bootstrap_servers": "localhost:1",
        "score": {"history": change},
    }
    save_settings(tmp_path, settings)
    for command in ("history", "reconcile"):
        result = _run(command, "--home", str(tmp_path))
        assert result.exit_code == code
        assert text in result.output
        assert "hunter2" not in result.output


# --- reconcile -------------------------------------------------------------------------------------------------------


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[tuple[House, House]]:
    """Their histories lie where the settings of their homes say."""
    pair = make_houses(tmp_path)
    yield pair
    for house in pair:
        house.history.close()


def test_agreement_is_exit_code_0(houses: tuple[House, House], tmp_path: Path) -> None:
    given = [answered(f"r{number}", number) for number in range(5)]
    houses[0].book(*(used(answer) for answer in given))
    houses[1].book(*given)
    settle(*houses)
    result = _run("reconcile", "--home", str(tmp_path / BUREAU))
    assert result.exit_code == 0
    assert json.loads(_run("reconcile", "--json", "--home", str(tmp_path / BUREAU)).stdout)["agreed"] is True
    assert result.output == (
        "2023-11-14 22:14:00 to 22:15:00  bank asked bureau  credit/1 answers: bureau 5, bank 5: agreed\n"
    )


def test_a_difference_is_exit_code_1_with_the_requests(houses: tuple[House, House], tmp_path: Path) -> None:
    given = [answered(f"r{number:02d}", number) for number in range(20)]
    houses[0].book(*(used(answer) for answer in given))
    houses[1].book(*given[:8], answered("invented"))
    settle(*houses)
    result = _run("reconcile", "--home", str(tmp_path / BANK))
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].endswith("answers: bank 20, bureau 9: DIFFERENT, 13 requests")
    assert lines[1] == "    invented: bureau has an answer, bank has none; our books contradict bureau's"
    assert lines[2] == "    r08: bank has an answer, bureau has none; our books contradict bureau's"
    assert lines[-1] == "    and 3 more: --json has all"
    as_json = _run("reconcile", "--json", "--home", str(tmp_path / BANK))
    assert as_json.exit_code == 1
    document = json.loads(as_json.stdout)
    assert document["agreed"] is False
    (report,) = document["intervals"]
    assert (report["status"], report["own_count"], report["peer_count"]) == ("differs", 20, 9)
    assert len(report["differences"]) == 13


def test_reports_are_chosen_by_peer_and_time(houses: tuple[House, House], tmp_path: Path) -> None:
    houses[0].book(used(answered("r")))
    settle(houses[0], houses[1])
    home = str(tmp_path / BANK)

    def count(*options: str) -> int:
        return len(json.loads(_run("reconcile", "--json", "--home", home, *options).stdout)["intervals"])

    assert count() == count("--peer", BUREAU) == 1
    assert count("--peer", "shop") == 0
    assert count("--from", "2023-11-14T22:14:30", "--to", "2023-11-14T22:14:31") == 1
    assert count("--from", "2023-11-14T22:15") == 0
    assert count("--to", "2023-11-14T22:14") == 0


def test_a_peer_that_has_said_nothing_is_waited_for(houses: tuple[House, House], tmp_path: Path) -> None:
    assert "no statements yet" in _run("reconcile", "--home", str(tmp_path / BANK)).output
    houses[0].book(used(answered("r")))
    houses[0].look()
    result = _run("reconcile", "--home", str(tmp_path / BANK))
    assert result.exit_code == 0
    assert "bank 1, bureau nothing yet: waiting for bureau" in result.output
    assert json.loads(_run("reconcile", "--json", "--home", str(tmp_path / BANK)).stdout)["agreed"] is False


def test_shadow_scores_are_marked(home: Path) -> None:
    audited = used(answered("r"))
    book(home, audited.__class__(**{**vars(audited), "purpose": Purpose.SHADOW}))
    assert "credit/1 shadow  scored" in _run("history", "--home", str(home)).output
