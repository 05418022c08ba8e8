"""The queryable history of scoring, in a database of the party's choice: SQLite, PostgreSQL or MySQL.

What is written and how far the topics were read go into one transaction: the database itself says where to go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from infra.history_engine import (
    WRITES,
    HistoryError,
    HistoryUnavailableError,
    count_changes,
    insert_new,
    make_engine,
)
from infra.history_tables import answers, archive_cuts, late_answers, metadata, outcomes, positions, results
from infra.settings import PartySettings

Row = dict[str, Any]

#: Request ids looked up with one question.
LOOKED_UP = 500
US = 1_000_000


class PositionMovedError(Exception):
    """The database stands elsewhere than the writer thought: another writer has had the partition meanwhile."""


@dataclass(frozen=True)
class Progress:
    """A topic's partition was read from `expected` (none: from its beginning) up to before `next_offset`."""

    topic: str
    partition: int
    expected: int | None
    next_offset: int


@dataclass(frozen=True)
class Booking:
    """Rows of the tables, and the progress that they stand for."""

    progress: tuple[Progress, ...] = ()
    outcomes: list[Row] = field(default_factory=list)
    results: list[Row] = field(default_factory=list)
    answers: list[Row] = field(default_factory=list)
    late_answers: list[Row] = field(default_factory=list)


class HistoryStore:
    """A database of one party. Any thread may call it, each call is a transaction.

    Every method raises `HistoryUnavailableError`.
    """

    def __init__(self, url: URL) -> None:
        """Connects to nothing yet. Raises `HistoryError` for a URL that cannot be used."""
        self.url = url
        self.place = url.render_as_string(hide_password=True)
        self.engine = make_engine(url)
        self._is_prepared = False

    @contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[Connection]:
        """A transaction on prepared tables, committed at the end of the block."""
        try:
            if not self._is_prepared:
                metadata.create_all(self.engine)
                self._is_prepared = True
            with self.engine.execution_options(**{WRITES: writes}).begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            # Whoever brings the database back may bring an empty one.
            self._is_prepared = False
            cause = error.__cause__ or error
            text = str(cause).strip().splitlines()
            raise HistoryUnavailableError(f"{self.place}: {text[0] if text else type(cause).__name__}") from error

    def close(self) -> None:
        """Let go of the connections."""
        self.engine.dispose()

    # --- writing ---

    def book(self, booking: Booking) -> None:
        """Write rows and progress, all or nothing; rows that are there already stay. Raises `PositionMovedError`."""
        with self.transaction() as connection:
            for progress in sorted(booking.progress, key=lambda one: (one.topic, one.partition)):
                self._check_position(connection, progress)
            for table, rows in ((outcomes, booking.outcomes), (results, booking.results)):
                self._insert_new(connection, table, rows)
            self._insert_new(connection, late_answers, booking.late_answers)
            self._book_answers(connection, booking.answers)
            for progress in booking.progress:
                connection.execute(_at(progress).values(next_offset=progress.next_offset))

    def note_caught_up(self, places: Iterable[tuple[str, int]], at_ms: int) -> None:
        """The tables hold everything that these partitions held at that time."""
        with self.transaction() as connection:
            for topic, partition in sorted(places):
                here = (positions.c.topic == topic) & (positions.c.partition == partition)
                connection.execute(update(positions).where(here).values(caught_up_ms=at_ms))

    def read_positions(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Where to go on. Partitions that were never read get their place in the table now, with offset 0."""
        wanted = sorted(places)
        with self.transaction() as connection:
            rows = [
                {"topic": topic, "partition": partition, "next_offset": 0, "caught_up_ms": 0}
                for topic, partition in wanted
            ]
            self._insert_new(connection, positions, rows)
            found = connection.execute(select(positions.c.topic, positions.c.partition, positions.c.next_offset))
            known = {(row.topic, row.partition): int(row.next_offset) for row in found}
        return {place: known[place] for place in wanted}

    def caught_up_ms(self, topic: str, partitions: int) -> int:
        """The time up to which the topic's records are in the tables for certain; 0: not known of all partitions."""
        with self.transaction(writes=False) as connection:
            rows = connection.execute(select(positions.c.caught_up_ms).where(positions.c.topic == topic)).all()
        return min(int(row[0]) for row in rows) if len(rows) >= partitions else 0

    # --- the archive's ---

    def last_cut(self, topic: str, partition: int) -> tuple[int, int, bool] | None:
        """First offset, next offset and whether it is written, of the newest cut."""
        table = archive_cuts
        here = (table.c.topic == topic) & (table.c.partition == partition)
        query = select(table.c.first_offset, table.c.next_offset, table.c.written).where(here)
        with self.transaction(writes=False) as connection:
            row = connection.execute(query.order_by(table.c.first_offset.desc()).limit(1)).one_or_none()
        return None if row is None else (int(row[0]), int(row[1]), bool(row[2]))

    def add_cut(self, topic: str, partition: int, first_offset: int, next_offset: int) -> None:
        """Decide for good what goes into files together; a cut that is there stays as it is."""
        row = {"topic": topic, "partition": partition, "first_offset": first_offset, "next_offset": next_offset}
        with self.transaction() as connection:
            self._insert_new(connection, archive_cuts, [{**row, "written": False}])

    def mark_written(self, topic: str, partition: int, first_offset: int) -> None:
        """The cut's files are in the store."""
        table = archive_cuts
        here = (table.c.topic == topic) & (table.c.partition == partition) & (table.c.first_offset == first_offset)
        with self.transaction() as connection:
            connection.execute(update(table).where(here).values(written=True))

    # --- inside ---

    def _check_position(self, connection: Connection, progress: Progress) -> None:
        row = {"topic": progress.topic, "partition": progress.partition, "next_offset": 0, "caught_up_ms": 0}
        self._insert_new(connection, positions, [row])
        here = (positions.c.topic == progress.topic) & (positions.c.partition == progress.partition)
        found = connection.execute(select(positions.c.next_offset).where(here).with_for_update()).scalar_one()
        if found != (progress.expected or 0):
            raise PositionMovedError(
                f"{progress.topic}[{progress.partition}] stands at {found} in {self.place}, not at {progress.expected}"
            )

    def _insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        if rows:
            connection.execute(insert_new(table, connection.dialect.name), rows)

    def _book_answers(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Each content once, under the earliest time of asking; and note which seconds' accounts changed."""
        earliest: dict[tuple[Any, ...], Row] = {}
        for row in rows:
            key = _answer_key(row)
            if key not in earliest or row["asked_at_us"] < earliest[key]["asked_at_us"]:
                earliest[key] = row
        known = self._known_answers(connection, sorted({row["request_id"] for row in earliest.values()}))
        new = [row for key, row in earliest.items() if key not in known]
        moved = [row for key, row in earliest.items() if key in known and row["asked_at_us"] < known[key]]
        self._insert_new(connection, answers, new)
        for row in moved:
            here = [answers.c[name] == value for name, value in zip(_ANSWER_KEY, _answer_key(row), strict=True)]
            connection.execute(update(answers).where(*here).values(asked_at_us=row["asked_at_us"]))
        times = [row["asked_at_us"] for row in (*new, *moved)] + [known[_answer_key(row)] for row in moved]
        seconds = sorted({time_us // US for time_us in times})
        if seconds:
            touches = [{"second": second, "changes": 1} for second in seconds]
            connection.execute(count_changes(connection.dialect.name), touches)

    def _known_answers(self, connection: Connection, request_ids: Sequence[str]) -> dict[tuple[Any, ...], int]:
        known: dict[tuple[Any, ...], int] = {}
        columns = [answers.c[name] for name in _ANSWER_KEY]
        for start in range(0, len(request_ids), LOOKED_UP):
            some = answers.c.request_id.in_(request_ids[start : start + LOOKED_UP])
            for row in connection.execute(select(*columns, answers.c.asked_at_us).where(some)):
                known[(*row[:-2], bytes(row[-2]))] = int(row[-1])
        return known


def open_history(settings: PartySettings) -> HistoryStore:
    """The history that the settings name. Raises `HistoryError`; whether a database answers shows at the first use."""
    history = settings.score.history
    text = history.url
    if history.url_env is not None:
        text = os.environ.get(history.url_env, "")
        if not text:
            raise HistoryError(f"score.history.url_env names {history.url_env}, and that variable is not set")
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise HistoryError("score.history: this is no URL of a database, such as sqlite:///history.db") from error
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        url = url.set(database=str(settings.resolve(url.database)))
    return HistoryStore(url)


def await_history(store: HistoryStore, seconds: float) -> None:
    """Wait until the database answers. Raises `HistoryUnavailableError` when it does not within that time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with store.transaction():
                return
        except HistoryUnavailableError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


_ANSWER_KEY = ("request_id", "purpose", "guest", "host", "leaf")


def _answer_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _ANSWER_KEY)


def _at(progress: Progress) -> Any:
    here = (positions.c.topic == progress.topic) & (positions.c.partition == progress.partition)
    return update(positions).where(here)


__all__ = [
    "Booking",
    "HistoryError",
    "HistoryStore",
    "HistoryUnavailableError",
    "PositionMovedError",
    "Progress",
    "Row",
    "await_history",
    "open_history",
]
