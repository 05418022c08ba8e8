"""Features from a real PostgreSQL, through whatever happens to it; and from SQLite, where it needs no server."""

from __future__ import annotations

import functools
import logging
import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import feature_sql
from infra.feature_sources import Contradiction
from infra.feature_sql import SqlSource
from infra.score_settings import SqlFeatures
from streams.features import FeatureSourceError, PersonFeatures
from streams.kernels.ristretto import normalise_id
from tests.infra.feature_database import PASSWORD, FeatureDatabase

normalise = functools.partial(normalise_id, id_type="string")
Open = Callable[..., SqlSource]


@pytest.fixture(scope="session")
def database() -> Iterator[FeatureDatabase]:
    running = FeatureDatabase().start()
    yield running
    running.close()


@pytest.fixture
def open_source(database: FeatureDatabase, tmp_path: Path) -> Iterator[Open]:
    opened: list[SqlSource] = []

    def make(table: str, *, id: str = "id", url: str = database.url, **changes: Any) -> SqlSource:
        changes = {"timeout_ms": 20_000, **changes}
        settings = SqlFeatures(kind="sql", url_env="FEATURES_URL", table=table, id=id, **changes)
        opened.append(SqlSource(settings, url, tmp_path, normalise))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


def _values(found: list[PersonFeatures | None]) -> list[dict[str, object] | None]:
    return [None if person is None else dict(person.values) for person in found]


def test_rows_come_in_the_order_of_the_ids_and_strangers_are_none(database: FeatureDatabase, open_source: Open) -> None:
    database.run(
        "CREATE TABLE plain (id text PRIMARY KEY, age integer, income numeric(12, 2), score double precision)",
        "INSERT INTO plain VALUES ('a', 41, 1234.50, 0.1), ('b', NULL, 7, 'NaN'), ('ü', 3, 4, 5)",
    )
    source = open_source("plain")
    found = source.fetch(["ü", "nobody", "b", "a", "a"], ["income", "age", "score"])
    assert _values(found) == [
        {"income": 4.0, "age": 3.0, "score": 5.0},
        None,
        {"income": 7.0, "age": None, "score": None},
        {"income": 1234.5, "age": 41.0, "score": 0.1},
        {"income": 1234.5, "age": 41.0, "score": 0.1},
    ]
    assert all(type(value) is float for value in (found[0] or PersonFeatures({})).values.values())
    assert sorted(source.known_ids()) == ["a", "b", "ü"]


def test_what_is_no_number_passes_through_as_it_is(database: FeatureDatabase, open_source: Open) -> None:
    database.run(
        "CREATE TABLE odd (id text, town text, since date, flag boolean, far double precision)",
        "INSERT INTO odd VALUES ('a', 'Riga', '2020-01-02', true, 'Infinity')",
    )
    values = _values(open_source("odd").fetch(["a"], ["town", "flag", "far", "since"]))[0]
    assert values is not None
    assert (values["town"], values["flag"], values["far"]) == ("Riga", 1.0, math.inf)
    assert not isinstance(values["since"], float)


def test_more_ids_than_one_statement_takes(database: FeatureDatabase, open_source: Open) -> None:
    count = 2 * feature_sql.BATCH + 1
    database.run(
        "CREATE TABLE many (id text PRIMARY KEY, x integer)",
        f"INSERT INTO many SELECT 'p' || n, n FROM generate_series(1, {count}) n",
    )
    source = open_source("many")
    found = source.fetch([f"p{n}" for n in range(count + 1)], ["x"])
    assert found[0] is None
    assert [person.values["x"] for person in found[1:] if person] == [float(n) for n in range(1, count + 1)]
    assert len(source.known_ids()) == count


@pytest.mark.parametrize("kind", ["integer", "smallint", "bigint", "numeric(10, 0)", "numeric(10, 2)"])
def test_whole_numbers_can_be_ids_and_what_does_not_fit_them_is_nobody(
    database: FeatureDatabase, open_source: Open, kind: str
) -> None:
    database.run(
        "DROP TABLE IF EXISTS numbered",
        f"CREATE TABLE numbered (id {kind} PRIMARY KEY, x integer)",
        "INSERT INTO numbered VALUES (7, 1), (-3, 2)",
    )
    source = open_source("numbered")
    asked = ["7", "-3", "007", "7.0", "x", "9" * 30, "40000", "3000000000", " 7"]
    assert _values(source.fetch(asked, ["x"])) == [{"x": 1.0}, {"x": 2.0}, *[None] * 7]
    assert sorted(source.known_ids()) == ["-3", "7"]


def test_uuids_can_be_ids(database: FeatureDatabase, open_source: Open) -> None:
    one = "0190163d-8694-739b-aea5-966c26f8ad91"
    database.run("CREATE TABLE u (id uuid PRIMARY KEY, x integer)", f"INSERT INTO u VALUES ('{one}', 5)")
    source = open_source("u")
    assert _values(source.fetch([one, one.upper(), "no uuid"], ["x"])) == [{"x": 5.0}, None, None]
    assert source.known_ids() == [one]


def test_padded_ids_are_matched_by_what_they_normalise_to(database: FeatureDatabase, open_source: Open) -> None:
    database.run("CREATE TABLE padded (id char(8), x integer)", "INSERT INTO padded VALUES ('a', 1), ('A', 2)")
    source = open_source("padded")
    assert _values(source.fetch(["a", "A"], ["x"])) == [{"x": 1.0}, {"x": 2.0}]
    assert sorted(source.known_ids()) == ["A", "a"]


def test_a_database_that_compares_without_case_finds_no_strangers(tmp_path: Path, open_source: Open) -> None:
    with sqlite3.connect(tmp_path / "f.db") as connection:
        connection.execute("CREATE TABLE t (id TEXT COLLATE NOCASE, x REAL)")
        connection.execute("INSERT INTO t VALUES ('Ann', 1)")
    connection.close()
    source = open_source("t", url="sqlite:///f.db")
    assert _values(source.fetch(["Ann", "ann"], ["x"])) == [{"x": 1.0}, None]


def test_rows_that_contradict_each_other_are_no_numbers(database: FeatureDatabase, open_source: Open) -> None:
    database.run(
        "CREATE TABLE twice (id text, x integer, y integer)",
        "INSERT INTO twice VALUES ('a', 1, 5), ('a', 2, 5), ('b', 1, 1), ('c', 4, 4), ('c', 4, 4)",
    )
    values = _values(open_source("twice").fetch(["a", "b", "c"], ["x", "y"]))
    assert values == [{"x": Contradiction(2), "y": 5.0}, {"x": 1.0, "y": 1.0}, {"x": 4.0, "y": 4.0}]


def test_an_id_that_no_text_of_the_database_can_hold_spoils_nobody_elses_answer(
    database: FeatureDatabase, open_source: Open
) -> None:
    database.run("CREATE TABLE nul (id text, x integer)", "INSERT INTO nul VALUES ('a', 1)")
    injection = "a'); DROP TABLE nul; --"
    assert _values(open_source("nul").fetch(["a", "a\0", injection], ["x"])) == [{"x": 1.0}, None, None]
    assert _values(open_source("nul").fetch(["a"], ["x"])) == [{"x": 1.0}]


def test_views_and_schemas_work_and_a_missing_column_is_named_with_those_that_are_there(
    database: FeatureDatabase, open_source: Open
) -> None:
    database.run(
        "CREATE SCHEMA crm",
        "CREATE TABLE crm.people (id text, x integer)",
        "CREATE VIEW crm.features AS SELECT id, x, x * 2 AS y FROM crm.people",
        "INSERT INTO crm.people VALUES ('a', 1)",
    )
    source = open_source("crm.features")
    assert _values(source.fetch(["a"], ["y"])) == [{"y": 2.0}]
    with pytest.raises(FeatureSourceError, match=r"crm\.features has no column 'z'; it has: id, x, y"):
        source.fetch(["a"], ["y", "z"])
    with pytest.raises(FeatureSourceError, match="no such table or view"):
        open_source("crm.nothing").fetch(["a"], ["x"])
    with pytest.raises(FeatureSourceError, match="no identifier column 'key'"):
        open_source("crm.people", id="key").fetch(["a"], ["x"])


def test_a_column_that_is_added_later_is_found(
    database: FeatureDatabase, open_source: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_sql, "LOOK_AGAIN_SECONDS", 0.0)
    database.run("CREATE TABLE grows (id text, x integer)", "INSERT INTO grows VALUES ('a', 1)")
    source = open_source("grows")
    source.fetch(["a"], ["x"])
    with pytest.raises(FeatureSourceError, match="no column 'y'"):
        source.fetch(["a"], ["x", "y"])
    database.run("ALTER TABLE grows ADD COLUMN y integer DEFAULT 9")
    assert _values(source.fetch(["a"], ["x", "y"])) == [{"x": 1.0, "y": 9.0}]
    database.run("ALTER TABLE grows DROP COLUMN x")
    monkeypatch.setattr(feature_sql, "LOOK_AGAIN_SECONDS", 3_600.0)
    with pytest.raises(FeatureSourceError, match="42703"):
        source.fetch(["a"], ["x"])
    with pytest.raises(FeatureSourceError, match="no column 'x'; it has: id, y"):
        source.fetch(["a"], ["x"])
    assert _values(source.fetch(["a"], ["y"])) == [{"y": 9.0}]


@pytest.mark.parametrize("kind", ["date", "double precision", "bytea"])
def test_a_column_that_cannot_hold_ids_is_refused(database: FeatureDatabase, open_source: Open, kind: str) -> None:
    database.run("DROP TABLE IF EXISTS wrong_key", f"CREATE TABLE wrong_key (id {kind}, x integer)")
    source = open_source("wrong_key")
    with pytest.raises(FeatureSourceError, match="make it text, an integer or a UUID"):
        source.fetch(["1"], ["x"])
    with pytest.raises(FeatureSourceError, match="make it text, an integer or a UUID"):
        source.known_ids()


def test_a_database_that_was_stopped_fails_and_answers_again_once_it_is_back(
    database: FeatureDatabase, open_source: Open
) -> None:
    database.run("CREATE TABLE stays (id text, x integer)", "INSERT INTO stays VALUES ('a', 1)")
    source = open_source("stays")
    assert _values(source.fetch(["a"], ["x"])) == [{"x": 1.0}]
    database.stop()
    try:
        for _ in range(2):
            with pytest.raises(FeatureSourceError, match=r"stays: OperationalError.*refused"):
                source.fetch(["a"], ["x"])
        with pytest.raises(FeatureSourceError):
            source.known_ids()
    finally:
        database.start()
    assert _values(source.fetch(["a"], ["x"])) == [{"x": 1.0}]
    assert source.known_ids() == ["a"]


def test_a_restart_between_two_lookups_is_not_noticed(database: FeatureDatabase, open_source: Open) -> None:
    database.run("CREATE TABLE again (id text, x integer)", "INSERT INTO again VALUES ('a', 1)")
    source = open_source("again")
    source.fetch(["a"], ["x"])
    database.stop()
    database.start()
    assert _values(source.fetch(["a"], ["x"])) == [{"x": 1.0}]


def test_a_source_can_be_opened_before_its_database_is_there(database: FeatureDatabase, open_source: Open) -> None:
    database.run("CREATE TABLE later (id text, x integer)", "INSERT INTO later VALUES ('a', 1)")
    database.stop()
    try:
        source = open_source("later")
    finally:
        database.start()
    assert _values(source.fetch(["a"], ["x"])) == [{"x": 1.0}]


def test_nobody_waits_for_a_database_that_hangs_and_its_return_is_noticed(
    database: FeatureDatabase, open_source: Open
) -> None:
    database.run("CREATE TABLE hangs (id text, x integer)", "INSERT INTO hangs VALUES ('a', 1)")
    source = open_source("hangs", timeout_ms=2_000)
    source.fetch(["a"], ["x"])
    with database.paused():
        with pytest.raises(FeatureSourceError, match="gave no answer within 2 s"):
            source.fetch(["a"], ["x"])
        with pytest.raises(FeatureSourceError, match="has still not answered an earlier question"):
            source.fetch(["a"], ["x"])
    late = source._helper._late
    assert late is not None
    assert late.done.wait(60), "the old question is answered at last"
    assert _values(source.fetch(["a"], ["x"])) == [{"x": 1.0}]


def test_a_slow_statement_is_stopped_by_the_database_itself(database: FeatureDatabase, open_source: Open) -> None:
    database.run(
        "CREATE TABLE quick (id text, x integer)",
        "INSERT INTO quick VALUES ('a', 1)",
        "CREATE VIEW slow AS SELECT id, x + (pg_sleep(60) IS NULL)::int AS x FROM quick",
    )
    # Long enough that a busy machine does not give up first.
    source = open_source("slow", timeout_ms=8_000)
    with pytest.raises(FeatureSourceError, match="QueryCanceled 57014"):
        source.fetch(["a"], ["x"])


def test_no_password_and_no_value_is_in_errors_or_logs(
    database: FeatureDatabase, open_source: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, logger="sqlalchemy.engine")
    database.run(
        "CREATE TABLE secret_base (id text, x text)",
        "INSERT INTO secret_base VALUES ('canary-id', 'canary-value')",
        "CREATE VIEW secret AS SELECT id, x::integer AS x FROM secret_base",
    )
    texts: list[str] = []
    wrong = database.url.replace(PASSWORD, "canary-password")
    for source, ids in (
        (open_source("secret"), ["canary-id"]),
        (open_source("secret", url=wrong), ["canary-id"]),
        (open_source("nowhere", url=wrong.replace("@127.0.0.1", "@canary-password.invalid")), ["canary-id"]),
    ):
        with pytest.raises(FeatureSourceError) as failure:
            source.fetch(ids, ["x"])
        texts.append(str(failure.value) + repr(failure.value.__cause__) + repr(source))
    assert "InvalidTextRepresentation" in texts[0]
    assert "authentication failed" in texts[1]
    told = "\n".join([*texts[:2], caplog.text])
    assert "canary" not in told.replace("canary-password.invalid", "")
    assert PASSWORD not in told


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("no url", "no URL of a database"),
        ("martian://u:canary@h/d", "does not know the kind of database"),
        ("mysql+pymysql://u:canary@h/d", "driver pymysql is not installed"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_once_without_its_password(
    open_source: Open, url: str, text: str
) -> None:
    with pytest.raises(ValueError, match=text) as failure:
        open_source("t", url=url)
    assert "canary" not in str(failure.value)
