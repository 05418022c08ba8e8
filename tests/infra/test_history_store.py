"""The history on SQLite and on a real PostgreSQL: what is booked stays as it was booked, once, with its position."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateTable

from infra.history_engine import count_changes, insert_new, replace_row
from infra.history_queries import OutcomeFilter, count_outcomes, find_mismatches, read_answers, read_outcomes
from infra.history_store import (
    Booking,
    HistoryError,
    HistoryStore,
    HistoryUnavailableError,
    PositionMovedError,
    Progress,
    open_history,
)
from infra.history_tables import answers, metadata, positions, statements, touched
from infra.settings import PartySettings
from tests.infra.feature_database import PASSWORD
from tests.infra.postgres import Postgres

TOPIC = "vfl.score.audit.bank.v1"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HistoryStore]:
    url = f"sqlite:///{tmp_path}/history.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").new_database()
    opened = HistoryStore(make_url(url))
    yield opened
    opened.close()


def outcome(number: int, **changes: Any) -> dict[str, Any]:
    """A row of `outcomes`: request `r<number>`, joined at second `number`."""
    return {
        "request_id": f"r{number:03d}",
        "purpose": "live",
        "pseudonym": b"\0\1",
        "model": "credit",
        "version": "1",
        "alias": "live",
        "outcome": "scored",
        "reason": "none",
        "party": "",
        "detail": "",
        "band": "A",
        "decision": "accept",
        "answers": "[]",
        "guest_logit": -(2**62),
        "alone_logit": None,
        "logit": 2**62,
        "points": 600,
        "requested_at_ms": 1,
        "deadline_ms": 2,
        "routed_at_us": 3,
        "joined_at_us": number * 1_000_000,
    } | changes


def result(number: int, **changes: Any) -> dict[str, Any]:
    """The row of `results` that goes with `outcome(number)`."""
    row = {name: value for name, value in outcome(number).items() if name not in _ONLY_AUDIT}
    return {**row, "probability": 0.5, "answered_at_us": 4} | changes


_ONLY_AUDIT = {"pseudonym", "answers", "guest_logit", "alone_logit", "logit", "deadline_ms"}


def answer(number: int, asked_at_us: int, **changes: Any) -> dict[str, Any]:
    """A row of `answers`: request `r<number>`."""
    return {
        "request_id": f"r{number:03d}",
        "purpose": "live",
        "guest": "bank",
        "host": "bureau",
        "leaf": bytes([number]) * 32,
        "how": "used",
        "model": "credit",
        "version": "1",
        "reason": "none",
        "answered": True,
        "value": 3,
        "quantum": 5,
        "asked_at_us": asked_at_us,
        "answered_at_us": asked_at_us + 1,
        "bucket": 7,
        "token": None,
    } | changes


def step(expected: int | None, next_offset: int, partition: int = 0) -> tuple[Progress, ...]:
    return (Progress(TOPIC, partition, expected, next_offset),)


def test_rows_and_position_are_booked_together_and_a_repetition_changes_nothing(store: HistoryStore) -> None:
    rows = [outcome(number) for number in range(3)]
    store.book(Booking(step(None, 10), outcomes=rows))
    assert store.read_positions([(TOPIC, 0), (TOPIC, 1)]) == {(TOPIC, 0): 10, (TOPIC, 1): 0}
    changed = [outcome(number, points=1) for number in range(4)]
    store.book(Booking(step(10, 20), outcomes=changed))
    found = list(read_outcomes(store, OutcomeFilter()))
    assert [row["points"] for row in found] == [600, 600, 600, 1], "what is there stays"
    assert found[:3] == [{**row, "answers": []} for row in rows]


def test_a_writer_that_thinks_to_be_elsewhere_writes_nothing(store: HistoryStore) -> None:
    store.book(Booking(step(None, 10)))
    for expected in (None, 5, 15):
        with pytest.raises(PositionMovedError, match="stands at 10"):
            store.book(Booking(step(expected, 30), outcomes=[outcome(1)]))
    assert store.read_positions([(TOPIC, 0)]) == {(TOPIC, 0): 10}
    assert list(read_outcomes(store, OutcomeFilter())) == []


def test_a_booking_that_fails_in_the_middle_leaves_nothing(store: HistoryStore) -> None:
    with pytest.raises(HistoryUnavailableError):
        store.book(Booking(step(None, 10), outcomes=[outcome(1)], results=[{**result(1), "model": None}]))
    assert list(read_outcomes(store, OutcomeFilter())) == []
    assert store.read_positions([(TOPIC, 0)]) == {(TOPIC, 0): 0}


def _booked(store: HistoryStore) -> dict[bytes, int]:
    with store.transaction() as connection:
        return {row[0]: row[1] for row in connection.execute(select(answers.c.leaf, answers.c.asked_at_us))}


def _changes(store: HistoryStore) -> dict[int, int]:
    with store.transaction() as connection:
        return {row[0]: row[1] for row in connection.execute(select(touched.c.second, touched.c.changes))}


def test_an_answer_counts_once_under_the_earliest_time_of_asking(store: HistoryStore) -> None:
    store.book(Booking(step(None, 1), answers=[answer(1, 5_000_000), answer(1, 4_000_000), answer(2, 4_000_001)]))
    assert _booked(store) == {b"\1" * 32: 4_000_000, b"\2" * 32: 4_000_001}
    assert _changes(store) == {4: 1}
    store.book(Booking(step(1, 2), answers=[answer(1, 9_000_000)]))
    assert _changes(store) == {4: 1}, "nothing new was said"
    store.book(Booking(step(2, 3), answers=[answer(1, 2_999_999), answer(1, 3_000_000)]))
    assert _booked(store)[b"\1" * 32] == 2_999_999
    assert _changes(store) == {2: 1, 4: 2}, "it came to one second's account, and left another's"
    store.book(Booking(step(3, 4), answers=[answer(1, 4_500_000, leaf=b"\3" * 32)]))
    assert len(_booked(store)) == 3, "another content is another answer"


def test_a_partition_is_caught_up_when_all_are(store: HistoryStore) -> None:
    store.read_positions([(TOPIC, 0), (TOPIC, 1)])
    store.note_caught_up([(TOPIC, 0)], 700)
    assert store.caught_up_ms(TOPIC, 2) == 0
    store.note_caught_up([(TOPIC, 1)], 600)
    assert store.caught_up_ms(TOPIC, 2) == 600
    assert store.caught_up_ms(TOPIC, 3) == 0, "one partition was never looked at"


def test_pages_give_every_outcome_once_in_order_also_where_times_are_equal(store: HistoryStore) -> None:
    rows = [outcome(number, joined_at_us=number // 4) for number in range(23)]
    rows += [outcome(number, purpose="shadow", joined_at_us=2) for number in range(8, 12)]
    store.book(Booking(step(None, 1), outcomes=rows))
    found = [
        (row["joined_at_us"], row["request_id"], row["purpose"]) for row in read_outcomes(store, OutcomeFilter(), 3)
    ]
    assert found == sorted((row["joined_at_us"], row["request_id"], row["purpose"]) for row in rows)


def test_outcomes_are_found_by_model_version_time_and_request(store: HistoryStore) -> None:
    rows = [
        outcome(1),
        outcome(2, version="2"),
        outcome(3, model="Credit", outcome="refused", reason="not_served"),
        outcome(4, outcome="refused", reason="not_served"),
    ]
    store.book(Booking(step(None, 1), outcomes=rows))

    def numbers(**wanted: Any) -> list[int]:
        return [int(row["request_id"][1:]) for row in read_outcomes(store, OutcomeFilter(**wanted))]

    assert numbers(model="credit") == [1, 2, 4]
    assert numbers(model="credit", version="1") == [1, 4]
    assert numbers(from_us=2_000_000, to_us=4_000_000) == [2, 3]
    assert numbers(request_id="r003") == [3]
    assert numbers(request_id="R003") == []
    assert count_outcomes(store, OutcomeFilter(model="credit")) == {("refused", "not_served"): 1, ("scored", "none"): 2}


def test_what_results_and_audit_say_differently_is_found(store: HistoryStore) -> None:
    audited = [outcome(number) for number in (1, 2, 3)] + [outcome(5, purpose="shadow")]
    told = [result(1), result(2, points=None), result(4)]
    store.book(Booking(step(None, 1), outcomes=audited, results=told))
    assert find_mismatches(store) == [
        ("r002", "result and audit differ"),
        ("r003", "no result"),
        ("r004", "no audit"),
    ]
    assert find_mismatches(store, from_us=4_000_000) == [("r004", "no audit")]


def test_answers_to_a_request_come_with_all_that_is_known(store: HistoryStore) -> None:
    store.book(Booking(step(None, 1), answers=[answer(1, 7), answer(1, 6, leaf=b"z" * 32), answer(2, 5)]))
    assert read_answers(store, "r001") == [answer(1, 6, leaf=b"z" * 32), answer(1, 7)]


def test_a_database_that_was_emptied_under_the_writer_starts_from_the_beginning(store: HistoryStore) -> None:
    store.book(Booking(step(None, 10), outcomes=[outcome(1)]))
    metadata.drop_all(store.engine)
    with pytest.raises(HistoryUnavailableError):
        store.book(Booking(step(10, 11), outcomes=[outcome(2)]))
    with pytest.raises(PositionMovedError, match="stands at 0"):
        store.book(Booking(step(10, 11), outcomes=[outcome(2)]))
    assert store.read_positions([(TOPIC, 0)]) == {(TOPIC, 0): 0}


def test_a_killed_postgresql_is_told_without_its_password_and_goes_on_after_a_restart() -> None:
    server = Postgres()
    try:
        store = HistoryStore(make_url(server.new_database()))
        store.book(Booking(step(None, 10), outcomes=[outcome(1)]))
        server.kill()
        with pytest.raises(HistoryUnavailableError) as told:
            store.book(Booking(step(10, 20), outcomes=[outcome(2)]))
        assert PASSWORD not in str(told.value)
        server.start()
        store.book(Booking(step(10, 20), outcomes=[outcome(2)]))
        assert [row["request_id"] for row in read_outcomes(store, OutcomeFilter())] == ["r001", "r002"]
        store.close()
    finally:
        server.close()


def test_mysql_gets_tables_that_it_can_index_and_its_own_upserts() -> None:
    """Compiled only: no server of that kind runs here."""
    dialect: Any = mysql.dialect()
    for table in metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=dialect))
        assert " TEXT" not in text.split("PRIMARY KEY")[-1]
        key_bytes = sum(
            4 * (getattr(column.type.dialect_impl(dialect), "length", None) or 2)
            for column in table.primary_key.columns
        )
        assert key_bytes <= 3072, table.name
    assert "COLLATE utf8mb4_bin" in str(CreateTable(answers).compile(dialect=dialect))
    assert "ON DUPLICATE KEY UPDATE" in str(insert_new(positions, "mysql").compile(dialect=dialect))
    assert "VALUES(digest)" in str(replace_row(statements, "mysql").compile(dialect=dialect))
    assert "changes = (touched.changes +" in str(count_changes("mysql").compile(dialect=dialect))


def _settings(tmp_path: Path, history: dict[str, Any]) -> PartySettings:
    document = {
        "party": "bank",
        "access": {"kind": "custom"},
        "bootstrap_servers": "localhost:9092",
        "score": {"history": history},
    }
    settings = PartySettings.model_validate(document)
    settings._home = tmp_path
    return settings


def test_sqlite_lies_in_the_home_by_default_with_a_write_ahead_log(tmp_path: Path) -> None:
    store = open_history(_settings(tmp_path, {}))
    with store.transaction() as connection:
        assert connection.execute(select(func.count()).select_from(answers)).scalar_one() == 0
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    store.close()
    assert (tmp_path / "history.db").exists()


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ({"url": "nonsense"}, "no URL of a database"),
        ({"url": "oracle://somewhere/x"}, "of the kind oracle; use sqlite, postgresql or mysql"),
        ({"url": "mysql+nodriver://somewhere/x"}, "needs a driver that is not installed"),
        ({"url_env": "HISTORY_URL_OF_NOBODY"}, "HISTORY_URL_OF_NOBODY, and that variable is not set"),
    ],
)
def test_a_url_that_cannot_be_used_says_why(tmp_path: Path, history: dict[str, Any], message: str) -> None:
    with pytest.raises(HistoryError, match=message):
        open_history(_settings(tmp_path, history))


def test_the_url_can_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTORY_URL", f"sqlite:///{tmp_path}/elsewhere.db")
    store = open_history(_settings(tmp_path, {"url_env": "HISTORY_URL"}))
    store.book(Booking(step(None, 1), outcomes=[outcome(1, answers=json.dumps([{"host": "bureau"}]))]))
    assert next(read_outcomes(store, OutcomeFilter()))["answers"] == [{"host": "bureau"}]
    store.close()
    assert (tmp_path / "elsewhere.db").exists()
