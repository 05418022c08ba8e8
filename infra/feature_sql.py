"""Features from a database that SQLAlchemy can speak to: one row a person in a table or view.

The identifier column holds ids that normalise to themselves: text in Unicode NFC, integers, or UUIDs. What comes back
is normalised and matched on our side, so a database that compares without case or trailing blanks finds no strangers.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    NoSuchTableError,
    SQLAlchemyError,
)

from infra.feature_sources import Helper, Normalise, collect_persons
from infra.score_settings import SqlFeatures
from streams.features import FeatureSourceError, PersonFeatures

Result = TypeVar("Result")
#: Bound parameters of one statement; some databases allow a thousand.
BATCH = 500
#: Listing all ids is one long query, in the background.
LIST_SECONDS = 120.0
#: Statements that stay compiled: one for each set of columns, that is, for each model.
CACHED_STATEMENTS = 64
#: After a column was missing, the table is looked at again so often at most.
LOOK_AGAIN_SECONDS = 5.0
#: How far a lookup's statement is stopped by the database itself before we give up on it.
_STATEMENT_SHARE = 0.9
_INTEGERS = range(-(2**63), 2**63)


def open_engine(url: str, folder: Path, seconds: float, *, autocommit: bool = False) -> sa.Engine:
    """An engine for `url` that connects at first use; a relative SQLite file lies in `folder`.

    With `autocommit` there are no transactions: each statement sees the newest values, and costs one round trip.

    Raises `ValueError` with a text that shows no password.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
            parsed = parsed.set(database=str(folder / str(parsed.database)))
        return sa.create_engine(
            parsed,
            connect_args=_connect_args(parsed.get_driver_name(), seconds),
            **({"isolation_level": "AUTOCOMMIT"} if autocommit else {}),
            hide_parameters=True,
            pool_size=1,
            max_overflow=0,
            poolclass=sa.QueuePool,
        )
    except NoSuchModuleError as error:
        raise ValueError("SQLAlchemy does not know the kind of database that the URL names") from error
    except ArgumentError as error:
        raise ValueError("this is no URL of a database, such as postgresql+psycopg://user@host/name") from error
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the driver {error.name} is not installed: pip install it (PostgreSQL: pip install 'isthmus[postgresql]')"
        ) from error


def _connect_args(driver: str, seconds: float) -> dict[str, Any]:
    """How long connecting and a statement may take, in the driver's words; `Helper` limits what has no words."""
    match driver:
        case "psycopg" | "psycopg2":
            statement_ms = max(1, int(seconds * 1000 * _STATEMENT_SHARE))
            return {
                "connect_timeout": max(2, int(seconds + 0.5)),
                "options": f"-c statement_timeout={statement_ms}",
                # A server that vanished without a word is noticed after some ten seconds, not two hours.
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
            }
        case "pymysql" | "mysqldb":
            whole = max(1, int(seconds + 0.5))
            return {"connect_timeout": whole, "read_timeout": whole, "write_timeout": whole}
        case "pysqlite":
            return {"timeout": seconds, "check_same_thread": False}
    return {}


def explain(error: SQLAlchemyError, url: sa.URL) -> str:
    """What went wrong, without values, parameters and passwords.

    The database's own words can quote an identifier, so they are told only where there was no connection yet.
    """
    if isinstance(error, NoSuchTableError):
        return "there is no such table or view"
    origin = error.orig if isinstance(error, DBAPIError) else None
    if origin is None:
        return type(error).__name__
    state = getattr(origin, "sqlstate", None) or next((str(a) for a in origin.args[:1] if isinstance(a, int)), "")
    name = f"{type(origin).__name__} {state}".strip()
    if isinstance(error, DBAPIError) and error.statement is None:
        words = " ".join(str(origin).split())
        if url.password:
            words = words.replace(str(url.password), "***")
        return f"{name}: {words}"
    return name


class SqlSource:
    """Looks persons up in one table. Lookups and the list of ids have a connection each."""

    def __init__(self, settings: SqlFeatures, url: str, folder: Path, normalise: Normalise) -> None:
        """Connects at first use. Raises `ValueError` for a URL that cannot be used."""
        self.refresh_seconds = settings.refresh_seconds
        self._id, self._normalise = settings.id, normalise
        self._schema, _, self._table_name = settings.table.rpartition(".")
        self._seconds = settings.timeout_ms / 1000
        self._lookups = open_engine(url, folder, self._seconds, autocommit=True)
        self._lists = open_engine(url, folder, LIST_SECONDS)
        self._name = f"the feature table {settings.table}"
        self._helper, self._list_helper = Helper(self._name), Helper(f"the list of ids of {settings.table}")
        self._table: sa.Table | None = None
        self._reflected_at = 0.0
        #: Columns -> statement, and the type of its parameter.
        self._statements: dict[tuple[str, ...], tuple[sa.Select[Any], sa.types.TypeEngine[Any]]] = {}

    def fetch(self, entity_ids: Sequence[str], columns: Sequence[str]) -> list[PersonFeatures | None]:
        """As `FeatureSource`; takes at most the timeout of the settings."""
        wanted = tuple(columns)
        persons = self._helper.ask(lambda: self._guard(lambda: self._look_up(entity_ids, wanted)), self._seconds)
        return [persons.get(person) for person in entity_ids]

    def known_ids(self) -> list[str]:
        """Normalised, without those that have no normal form. Takes at most two minutes."""
        return self._list_helper.ask(lambda: self._guard(self._list), LIST_SECONDS)

    def close(self) -> None:
        """Let go of the connections as soon as they are free."""
        self._helper.close(self._lookups.dispose)
        self._list_helper.close(self._lists.dispose)

    def _guard(self, work: Callable[[], Result]) -> Result:
        """Once more on a new connection if this one was dead; every failure as `FeatureSourceError`."""
        try:
            try:
                return work()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return work()
        except SQLAlchemyError as error:
            # It may have been altered or made anew.
            self._forget_table()
            raise FeatureSourceError(f"{self._name}: {explain(error, self._lookups.url)}") from None

    def _look_up(self, entity_ids: Sequence[str], columns: tuple[str, ...]) -> dict[str, PersonFeatures]:
        with self._lookups.connect() as connection:
            statement, kind = self._statement(connection, columns)
            keys = _to_keys(entity_ids, kind)
            rows: list[Any] = []
            for start in range(0, len(keys), BATCH):
                rows += connection.execute(statement, {"ids": keys[start : start + BATCH]}).all()
        return collect_persons(
            ((id_text(row[0]), dict(zip(columns, row[1:], strict=True))) for row in rows), self._normalise
        )

    def _list(self) -> list[str]:
        ids: list[str] = []
        with self._lists.connect() as connection:
            column = self._id_column(self._reflect(connection))
            options = connection.execution_options(stream_results=True, yield_per=10_000)
            for value in options.execute(sa.select(column)).scalars():
                try:
                    ids.append(self._normalise(id_text(value)))
                except ValueError:
                    continue
        return ids

    # --- the table ---

    def _statement(
        self, connection: sa.Connection, columns: tuple[str, ...]
    ) -> tuple[sa.Select[Any], sa.types.TypeEngine[Any]]:
        if (made := self._statements.get(columns)) is not None:
            return made
        table = self._reflect(connection)
        if _missing(table, columns) and time.monotonic() - self._reflected_at > LOOK_AGAIN_SECONDS:
            self._forget_table()
            table = self._reflect(connection)
        if missing := _missing(table, columns):
            raise FeatureSourceError(
                f"{self._name} has no column {', '.join(map(repr, missing))}; it has: {', '.join(table.c.keys())}"
            )
        if len(self._statements) >= CACHED_STATEMENTS:
            self._statements.clear()
        key = self._id_column(table)
        kind = _parameter_type(key)
        ids = sa.bindparam("ids", expanding=True, type_=kind)
        made = sa.select(key, *(table.c[name] for name in columns)).where(key.in_(ids)), kind
        self._statements[columns] = made
        return made

    def _reflect(self, connection: sa.Connection) -> sa.Table:
        table = self._table
        if table is None:
            table = sa.Table(self._table_name, sa.MetaData(), schema=self._schema or None, autoload_with=connection)
            self._table, self._reflected_at = table, time.monotonic()
        return table

    def _forget_table(self) -> None:
        self._table = None
        self._statements.clear()

    def _id_column(self, table: sa.Table) -> sa.Column[Any]:
        if self._id not in table.c:
            raise FeatureSourceError(f"{self._name} has no identifier column {self._id!r}")
        column = table.c[self._id]
        _parameter_type(column)
        return column


def _missing(table: sa.Table, columns: tuple[str, ...]) -> list[str]:
    return [name for name in columns if name not in table.c]


def _to_keys(entity_ids: Sequence[str], kind: sa.types.TypeEngine[Any]) -> list[object]:
    """What the database is asked for: ids that its column can hold at all, each once."""
    if isinstance(kind, sa.BigInteger):
        numbers = (_whole_number(text) for text in dict.fromkeys(entity_ids))
        return [number for number in numbers if number is not None]
    if isinstance(kind, sa.Uuid):
        uuids = (_uuid(text) for text in dict.fromkeys(entity_ids))
        return [value for value in uuids if value is not None]
    # PostgreSQL's text has no such character, and would refuse the whole question.
    return [text for text in dict.fromkeys(entity_ids) if "\0" not in text]


def id_text(value: object) -> str:
    """An identifier as a database gives it, as text."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    return "" if value is None else str(value)


def _parameter_type(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    match column.type:
        case sa.String():
            return sa.String()
        case sa.Integer() | sa.Numeric(asdecimal=True):
            # Whatever the column's width: an id that does not fit is nobody's, not an error.
            return sa.BigInteger()
        case sa.Uuid():
            return sa.Uuid()
    raise FeatureSourceError(
        f"the identifier column {column.name!r} is of type {column.type}: make it text, an integer or a UUID"
    )


def _whole_number(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return number if str(number) == text and number in _INTEGERS else None


def _uuid(text: str) -> uuid.UUID | None:
    try:
        value = uuid.UUID(text)
    except ValueError:
        return None
    return value if str(value) == text else None
