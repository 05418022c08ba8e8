"""Tables of features from files and queries: what is taken from them, and everything that can be wrong with them."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from infra.datasets import load_dataset
from infra.settings import DatasetSettings, PartySettings
from producers import feature_files
from producers.feature_files import read_csv, read_parquet, read_sql
from producers.feature_loader import Choice, FeatureTable, FeatureTableError
from schemas.jobs import PartySpec, Role
from streams.dataset import Dataset

Rows = Sequence[tuple[Any, ...]]
#: Writes a table and reads it again: columns as "name TYPE", rows.
ReadBack = Callable[..., FeatureTable]


def _csv_text(value: Any) -> str:
    return "" if value is None else str(value)


@pytest.fixture(params=["csv", "parquet", "sql"])
def read_back(request: pytest.FixtureRequest, tmp_path: Path) -> ReadBack:
    """The same table from each kind of source."""

    def make(columns: Sequence[str], rows: Rows, choice: Choice) -> FeatureTable:
        names = [column.split()[0] for column in columns]
        marks = ", ".join("?" * len(names))
        if request.param == "csv":
            path = tmp_path / "table.csv"
            path.write_text("\n".join(",".join(map(_csv_text, row)) for row in (names, *rows)) + "\n")
            return read_csv(path, choice)
        if request.param == "parquet":
            path = tmp_path / "table.parquet"
            with duckdb.connect(":memory:") as memory:
                memory.execute(f"CREATE TABLE t ({', '.join(columns)})")
                if rows:
                    memory.executemany(f"INSERT INTO t VALUES ({marks})", rows)
                memory.execute(f"COPY t TO '{path}' (FORMAT parquet)")
            return read_parquet(path, choice)
        connection = sqlite3.connect(tmp_path / "table.db")
        connection.execute(f"CREATE TABLE t ({', '.join(columns)})")
        connection.executemany(f"INSERT INTO t VALUES ({marks})", rows)
        connection.commit()
        connection.close()
        return read_sql("SELECT * FROM t", "sqlite:///table.db", tmp_path, choice)

    return make


def test_numbers_are_taken_and_texts_left_out(read_back: ReadBack) -> None:
    columns = ["id VARCHAR", "age BIGINT", "town VARCHAR", "income DOUBLE"]
    table = read_back(columns, [("ann", 41, "Riga", 0.1), ("bob", None, "Bonn", -2.5)], Choice("id"))
    assert table.ids == ("ann", "bob")
    assert table.columns == ("age", "income")
    assert table.left_out == ("town",)
    np.testing.assert_array_equal(table.values, [[41.0, 0.1], [np.nan, -2.5]])


def test_columns_that_are_named_come_in_the_order_of_their_names(read_back: ReadBack) -> None:
    columns = ["a DOUBLE", "id BIGINT", "b DOUBLE", "c DOUBLE"]
    table = read_back(columns, [(1.0, 7, 2.0, 3.0)], Choice("id", columns=("c", "a")))
    assert (table.ids, table.columns, table.values.tolist()) == (("7",), ("c", "a"), [[3.0, 1.0]])


def test_ids_are_normalised_as_the_jobs_ids(read_back: ReadBack) -> None:
    rows = [(" Ann@X.org ", 1.0), ("BOB@x.org", 2.0)]
    assert read_back(["mail VARCHAR", "x DOUBLE"], rows, Choice("mail", "email")).ids == ("ann@x.org", "bob@x.org")


def test_all_mistakes_are_told_together_with_their_rows(read_back: ReadBack) -> None:
    columns = ["id VARCHAR", "x VARCHAR", "y DOUBLE"]
    rows = [
        ("zoe", "1", 1.0),
        ("zoe", "2", float("inf")),
        ("", "three", 1.0),
        ("bob", "4", 1.0),
        (" zoe", "5", float("-inf")),
    ]
    with pytest.raises(FeatureTableError) as failure:
        read_back(columns, rows, Choice("id", columns=("x", "y", "z")))
    told = failure.value.mistakes
    assert len(told) == 5
    assert "there is no column 'z'" in told[0]
    assert told[1].startswith("1 identifiers cannot be used: data row 3; the identifier is empty")
    assert told[2].startswith("2 rows repeat the identifier of an earlier row (after normalisation): data rows 2, 5;")
    assert told[3] == "1 values of column 'x' are not numbers: data row 3; correct or encode them"
    assert told[4] == "2 values of column 'y' are infinite: data rows 2, 5; correct them"
    assert "zoe" not in str(failure.value) and "three" not in str(failure.value)


def test_rows_are_counted_over_all_pieces(read_back: ReadBack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_files, "PIECE_ROWS", 2)
    rows = [(f"p{number}", str(number)) for number in range(8)]
    bad = [(name, "odd" if name == "p6" else text) for name, text in rows]
    bad[7] = ("p1", "7")
    with pytest.raises(FeatureTableError, match=r"data row 8;.*\n.*'y' are not numbers: data row 7;"):
        read_back(["id VARCHAR", "y VARCHAR"], bad, Choice("id"))


def test_a_table_without_rows_is_refused(read_back: ReadBack) -> None:
    with pytest.raises(FeatureTableError, match="no rows"):
        read_back(["id VARCHAR", "x DOUBLE"], [], Choice("id"))


def test_a_table_without_the_column_of_ids_is_refused(read_back: ReadBack) -> None:
    with pytest.raises(FeatureTableError, match="identifier column 'key' is not in"):
        read_back(["id VARCHAR", "x DOUBLE"], [("a", 1.0)], Choice("key"))


def test_a_table_without_numbers_is_refused(read_back: ReadBack) -> None:
    with pytest.raises(FeatureTableError, match="no column of numbers besides 'id'"):
        read_back(["id VARCHAR", "x VARCHAR"], [("a", "b")], Choice("id"))


def test_the_column_of_ids_is_no_feature(read_back: ReadBack) -> None:
    with pytest.raises(FeatureTableError, match="'id' is the identifier column"):
        read_back(["id VARCHAR", "x DOUBLE"], [("a", 1.0)], Choice("id", columns=("id", "x")))


def test_parquet_types_become_numbers_or_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "odd [1]*.parquet"
    columns = "id UBIGINT, dec DECIMAL(10,2), flag BOOLEAN, day DATE, moment TIMESTAMP, small FLOAT, n BIGINT"
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"CREATE TABLE t ({columns})")
        row = [2**63 + 1, Decimal("1.25"), True, date(2020, 1, 2), datetime(2020, 1, 2), 0.5, None]  # noqa: DTZ001
        connection.execute("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet)")
    table = read_parquet(path, Choice("id"))
    assert table.ids == (str(2**63 + 1),)
    assert dict(zip(table.columns, table.values[0].tolist(), strict=True)) == pytest.approx(
        {"dec": 1.25, "flag": 1.0, "small": 0.5, "n": float("nan")}, nan_ok=True
    )
    assert table.left_out == ("day", "moment")


@pytest.mark.parametrize("content", [b"", b"id,x\n1,2\n", b"PAR1" + b"\0" * 50 + b"PAR1"])
def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.parquet"
    path.write_bytes(content)
    with pytest.raises(FeatureTableError, match=r"bad\.parquet cannot be read as Parquet"):
        read_parquet(path, Choice("id"))


def test_csv_numbers_are_those_that_a_job_reads(tmp_path: Path) -> None:
    """To the last bit: a model must meet the numbers in scoring that it was trained on."""
    path = tmp_path / "numbers.csv.gz"
    drawn = np.random.default_rng(7).standard_normal((500, 3)) * 10.0 ** np.arange(-12, 13, 12)
    lines = [f"p{row},{a!r},{b:.17e},{c:.19f}" for row, (a, b, c) in enumerate(drawn.tolist())]
    with gzip.open(path, "wt", encoding="utf-8-sig") as file:
        file.write("\n".join(["id,a,b,c", *lines]))
    settings = PartySettings(
        party="bank", bootstrap_servers="x:1", datasets={"n": DatasetSettings(path=str(path), id="id")}
    )
    trained = load_dataset(
        settings, PartySpec("bank", "n", ()), role=Role.HOST, label="", path_prefix="", normalise=lambda text: text
    )
    assert isinstance(trained, Dataset)
    loaded = read_csv(path, Choice("id"))
    assert loaded.columns == trained.columns
    assert loaded.values.tobytes() == trained.values.tobytes()


def test_the_label_of_a_dataset_is_no_feature(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,x,churned\na,1,0\nb,2,1\n")
    assert read_csv(path, Choice("id"), "churned").columns == ("x",)
    with pytest.raises(FeatureTableError, match="label"):
        read_csv(path, Choice("id", columns=("churned",)), "churned")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"id,x\n", "has a header but no rows"),
        (b"id,x,x\n1,2,3\n", "names columns twice"),
        (b"id,x\n1,2,3\n", "line 2"),
        (b"id,x\n\xff,1\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(FeatureTableError, match=text):
        read_csv(path, Choice("id"))


@pytest.mark.parametrize(
    ("query", "url", "text"),
    [
        ("SELECT x FROM y", "sqlite:///q.db", "the query failed: no such table: y"),
        ("CREATE TABLE z (a)", "sqlite:///q.db", "gives no rows"),
        ("SELECT 1 AS id, 2 AS x, 3 AS x", "sqlite:///q.db", "has the column 'x' 2 times"),
        ("SELECT 1", "martian://u:canary@h/d", "does not know the kind of database"),
        ("SELECT 1", "postgresql+psycopg://u:canary@127.0.0.1:1/d", "refused"),
    ],
)
def test_a_query_that_cannot_be_used_is_refused(tmp_path: Path, query: str, url: str, text: str) -> None:
    with pytest.raises(FeatureTableError, match=text) as failure:
        read_sql(query, url, tmp_path, Choice("id"))
    assert "canary" not in str(failure.value)


def test_a_query_may_hold_what_looks_like_parameters(tmp_path: Path) -> None:
    query = "SELECT 'a:b%s' AS id, 5 % 3 AS x WHERE 'x%' LIKE 'x%'"
    table = read_sql(query, "sqlite:///q.db", tmp_path, Choice("id"))
    assert (table.ids, table.values.tolist()) == (("a:b%s",), [[2.0]])
