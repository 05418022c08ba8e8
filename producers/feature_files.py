"""Tables of features to load: CSV, Parquet, the result of a query. All mistakes of a table are told together."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infra.csv_table import MISSING, CsvTable, Findings, UnreadableTableError
from infra.datasets import NUMERIC_SHARE
from infra.settings import DatasetSettings
from infra.table_columns import NumberColumn, Numbers
from producers.feature_loader import Choice, FeatureTable, FeatureTableError
from schemas.jobs import PartySpec
from streams.kernels.ristretto import normalise_id

#: Rows that are taken apart at once: numbers are kept as arrays, not as objects.
PIECE_ROWS = 10_000
#: Rows that a message names.
NAMED_ROWS = 5
#: A query for features may read a whole warehouse.
QUERY_SECONDS = 3_600.0


def read_csv(path: Path, choice: Choice, label: str | None = None) -> FeatureTable:
    """A file as jobs read it, number for number; never the label. Raises `FeatureTableError`."""
    findings = Findings("")
    table = CsvTable(path, DatasetSettings(path=str(path), id=choice.id, label=label), findings)
    columns = table.choose_columns(PartySpec("", path.name, choice.columns), "", None)
    check = _Check(choice, [mistake.message for mistake in findings.mistakes])
    if columns is None:
        raise FeatureTableError(check.mistakes)
    try:
        for piece in table.read(columns, None):
            check.add(piece[choice.id].tolist(), {name: piece[name] for name in columns})
    except UnreadableTableError:
        raise FeatureTableError([mistake.message for mistake in findings.mistakes]) from None
    return check.table()


def read_parquet(path: Path, choice: Choice) -> FeatureTable:
    """Raises `FeatureTableError`."""
    try:
        import duckdb
    except ModuleNotFoundError:
        raise FeatureTableError(["Parquet files need duckdb: pip install 'isthmus[parquet]'"]) from None
    # Nothing is fetched from anywhere, whatever the file says.
    options: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=options) as connection:
        try:
            result = connection.execute("SELECT * FROM read_parquet(?)", [_literal(path)])
            names = [str(description[0]) for description in result.description or ()]
            return _read_pieces(names, _pieces(functools.partial(result.fetchmany, PIECE_ROWS)), choice, str(path))
        except duckdb.Error as error:
            first_line = str(error).strip().splitlines()[0]
            raise FeatureTableError([f"the file {path} cannot be read as Parquet: {first_line}"]) from error


def read_sql(query: str, url: str, folder: Path, choice: Choice) -> FeatureTable:
    """The rows of a query; a relative SQLite file lies in `folder`. Raises `FeatureTableError`."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    from infra.feature_sql import open_engine

    try:
        engine = open_engine(url, folder, QUERY_SECONDS)
    except ValueError as error:
        raise FeatureTableError([str(error)]) from error
    try:
        with engine.connect() as connection:
            # The query goes to the database as it is: no % and no : in it means a parameter.
            options = {"no_parameters": True, "stream_results": True, "yield_per": PIECE_ROWS}
            result = connection.exec_driver_sql(query, execution_options=options)
            if not result.returns_rows:
                raise FeatureTableError(["the query gives no rows: write one that begins with SELECT"])
            return _read_pieces(list(result.keys()), map(list, result.partitions()), choice, "the query's result")
    except SQLAlchemyError as error:
        words = str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
        if engine.url.password:
            words = words.replace(str(engine.url.password), "***")
        raise FeatureTableError([f"the query failed: {' '.join(words.split())}"]) from None
    finally:
        engine.dispose()


def _literal(path: Path) -> str:
    """The path for duckdb, which takes some characters for patterns."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path.absolute()))


def _pieces(fetch: Callable[[], list[Any]]) -> Iterator[list[Any]]:
    while piece := fetch():
        yield piece


def _read_pieces(
    names: Sequence[str], pieces: Iterable[Sequence[Sequence[Any]]], choice: Choice, place: str
) -> FeatureTable:
    """A table that comes as rows of Python objects."""
    mistakes = [f"{place} has the column {name!r} {count} times" for name, count in Counter(names).items() if count > 1]
    if choice.id not in names:
        mistakes.append(f"the identifier column {choice.id!r} is not in {place}")
    for name in choice.columns:
        if name == choice.id:
            mistakes.append(f"{name!r} is the identifier column, which cannot be a feature")
        elif name not in names:
            mistakes.append(f"there is no column {name!r} in {place}")
    check = _Check(choice, mistakes)
    if choice.id not in names or len(set(names)) < len(names):
        raise FeatureTableError(check.mistakes)
    features = [name for name in choice.columns or names if name in names and name != choice.id]
    for rows in pieces:
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        check.add(
            [_id_text(value) for value in columns[choice.id]], {name: _series(columns[name]) for name in features}
        )
    if not check.rows:
        raise FeatureTableError([*check.mistakes, f"{place} has no rows"])
    return check.table()


def _id_text(value: object) -> str:
    from infra.feature_sql import id_text

    return id_text(value)


def _series(values: Sequence[Any]) -> pd.Series[Any]:
    return pd.Series([None if isinstance(value, str) and value in MISSING else value for value in values], dtype=object)


@dataclass
class _Check:
    """Takes a table piece by piece and collects what is wrong with it."""

    choice: Choice
    mistakes: list[str]
    rows: int = 0
    _ids: list[str] = field(default_factory=list)
    _first_rows: dict[str, int] = field(default_factory=dict)
    _unusable: list[int] = field(default_factory=list)
    _reason: str = ""
    _repeated: list[int] = field(default_factory=list)
    _columns: dict[str, NumberColumn] = field(default_factory=dict)

    def add(self, ids: Sequence[str], columns: dict[str, pd.Series[Any]]) -> None:
        """The next rows."""
        for row, raw in enumerate(ids, start=self.rows + 1):
            self._add_id(row, raw)
        for name, series in columns.items():
            self._columns.setdefault(name, NumberColumn()).add(series)
        self.rows += len(ids)

    def _add_id(self, row: int, raw: str) -> None:
        try:
            text = normalise_id(raw, self.choice.id_type)
        except ValueError as error:
            self._reason = self._reason or str(error)
            self._unusable.append(row)
            return
        if self._first_rows.setdefault(text, row) != row:
            self._repeated.append(row)
        self._ids.append(text)

    def table(self) -> FeatureTable:
        """What was added. Raises `FeatureTableError` if anything is wrong with it."""
        columns = {name: column.numbers() for name, column in self._columns.items()}
        wanted = {name: numbers for name, numbers in columns.items() if self._is_wanted(name, numbers)}
        if self._unusable:
            self._note(self._unusable, "identifiers cannot be used", self._reason)
        if self._repeated:
            cure = "keep one row for each identifier"
            self._note(self._repeated, "rows repeat the identifier of an earlier row (after normalisation)", cure)
        for name, numbers in wanted.items():
            for places, what in ((numbers.wrong, "not numbers"), (numbers.infinite, "infinite")):
                if len(places):
                    cure = "correct or encode them" if places is numbers.wrong else "correct them"
                    self._note((places + 1).tolist(), f"values of column {name!r} are {what}", cure)
        if not wanted and not self.mistakes:
            self.mistakes.append(f"there is no column of numbers besides {self.choice.id!r}")
        if self.mistakes:
            raise FeatureTableError(self.mistakes)
        values = np.column_stack([numbers.values for numbers in wanted.values()])
        left_out = tuple(name for name in columns if name not in wanted)
        return FeatureTable(tuple(self._ids), tuple(wanted), values, left_out)

    def _is_wanted(self, name: str, numbers: Numbers) -> bool:
        """As in jobs: a column of which more than half is numbers was meant to be numeric."""
        present = self.rows - len(numbers.missing)
        return name in self.choice.columns or len(numbers.wrong) <= present * (1 - NUMERIC_SHARE)

    def _note(self, rows: Sequence[int], what: str, cure: str) -> None:
        named = ", ".join(map(str, itertools.islice(rows, NAMED_ROWS)))
        more = ", ..." if len(rows) > NAMED_ROWS else ""
        self.mistakes.append(f"{len(rows)} {what}: data row{'s' if len(rows) > 1 else ''} {named}{more}; {cure}")
