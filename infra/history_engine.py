"""Three kinds of databases behind one face: connecting, transactions, and rows that may be there already."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from infra.history_tables import touched

SQLITE_BUSY_SECONDS = 30
CONNECT_SECONDS = 5
#: Execution option of connections whose transactions write.
WRITES = "isthmus_writes"


class HistoryError(Exception):
    """The history cannot be opened as it is set up: a person has to act. The text never shows a password."""


class HistoryUnavailableError(Exception):
    """The database does not answer, or refuses. Trying again later may help."""


def insert_new(table: Table, dialect: str) -> Any:
    """INSERT of rows; those whose primary key is there are left as they are. Raises `HistoryError`."""
    match dialect:
        case "sqlite":
            return sqlite.insert(table).on_conflict_do_nothing()
        case "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
        case "mysql" | "mariadb":
            same = next(iter(table.primary_key.columns))
            return mysql.insert(table).on_duplicate_key_update({same.name: same})
    raise HistoryError(f"score.history: databases of the kind {dialect} are not known here")


def replace_row(table: Table, dialect: str) -> Any:
    """INSERT of rows; those whose primary key is there get the new values. Raises `HistoryError`."""
    others = [column.name for column in table.columns if not column.primary_key]
    keys = [column.name for column in table.primary_key.columns]
    match dialect:
        case "sqlite":
            lite = sqlite.insert(table)
            return lite.on_conflict_do_update(index_elements=keys, set_={name: lite.excluded[name] for name in others})
        case "postgresql":
            post = postgresql.insert(table)
            return post.on_conflict_do_update(index_elements=keys, set_={name: post.excluded[name] for name in others})
        case "mysql" | "mariadb":
            mine = mysql.insert(table)
            return mine.on_duplicate_key_update({name: mine.inserted[name] for name in others})
    raise HistoryError(f"score.history: databases of the kind {dialect} are not known here")


def count_changes(dialect: str) -> Any:
    """INSERT of rows of `touched`; those that are there count one more change."""
    more = {"changes": touched.c.changes + 1}
    match dialect:
        case "sqlite":
            return sqlite.insert(touched).on_conflict_do_update(index_elements=["second"], set_=more)
        case "postgresql":
            return postgresql.insert(touched).on_conflict_do_update(index_elements=["second"], set_=more)
    return mysql.insert(touched).on_duplicate_key_update(more)


def make_engine(url: URL) -> Engine:
    """Connects to nothing yet. Raises `HistoryError` for a kind of database that is not known, or lacks its driver."""
    kind, place = url.get_backend_name(), url.render_as_string(hide_password=True)
    if kind not in ("sqlite", "postgresql", "mysql", "mariadb"):
        raise HistoryError(f"score.history: {place} is of the kind {kind}; use sqlite, postgresql or mysql")
    arguments = {"timeout": SQLITE_BUSY_SECONDS} if kind == "sqlite" else {"connect_timeout": CONNECT_SECONDS}
    try:
        engine = create_engine(url, connect_args=arguments, pool_pre_ping=kind != "sqlite")
    except (ImportError, NoSuchModuleError, ArgumentError) as error:
        raise HistoryError(f"score.history: {place} needs a driver that is not installed: {error}") from error
    if kind == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, record: object) -> None:
    # The module's own transactions begin late and leave reads outside: ours are begun by hand.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    # A power cut may take back the last transactions, never part of one; the positions go back with the rows.
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    # Whoever is going to write waits for the one lock now: in the middle it would not be given.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
