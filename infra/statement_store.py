"""Statements of account in the history's database: what they are made of, what was said, what came of it.

An account is given as a row of its six columns: guest, host, start_ms, model, version, answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, func, or_, select, update

from infra.history_engine import insert_new, replace_row
from infra.history_store import HistoryStore, Row
from infra.history_tables import answers, differences, intervals, statements, touched, verdicts

ACCOUNT = ("guest", "host", "start_ms", "model", "version", "answered")
#: Rows that come from the database at once.
STREAMED = 5_000

AGREED, ASKING, DIFFERS, WAITING = "agreed", "asking", "differs", "waiting"


@dataclass(frozen=True)
class AccountReport:
    """An account as both houses see it; a side that has said nothing yet is None."""

    account: Row
    end_ms: int
    own_count: int | None
    peer_count: int | None
    own_sum: int | None
    peer_sum: int | None
    #: agreed, asking, differs, or waiting for a statement.
    status: str
    #: (request id, kind, blame)
    differences: tuple[tuple[str, str, str], ...]


class StatementStore:
    """The reconciler's side of a history. Every method raises `HistoryUnavailableError`."""

    def __init__(self, history: HistoryStore, party: str) -> None:
        self._history = history
        self._party = party

    # --- what statements are made of ---

    def changed_intervals(self, length_ms: int, from_ms: int, until_ms: int) -> dict[int, int]:
        """Intervals between these times whose answers are not in statements yet: start -> sum of changes."""
        time_ms = touched.c.second * 1000
        start = (time_ms - time_ms % length_ms).label("start_ms")
        query = select(start, func.sum(touched.c.changes)).where(touched.c.second >= from_ms // 1000)
        query = query.where(touched.c.second < until_ms // 1000).group_by(start)
        known = select(intervals.c.start_ms, intervals.c.changes).where(intervals.c.length_ms == length_ms)
        with self._history.transaction(writes=False) as connection:
            now = {int(row[0]): int(row[1]) for row in connection.execute(query)}
            then = {int(row[0]): int(row[1]) for row in connection.execute(known)}
        return {
            start_ms: changes
            for start_ms, changes in sorted(now.items())
            if start_ms + length_ms <= until_ms and then.get(start_ms) != changes
        }

    def note_interval(self, start_ms: int, length_ms: int, changes: int) -> None:
        """Statements of the interval have everything up to this sum of changes."""
        self._replace(intervals, [{"start_ms": start_ms, "length_ms": length_ms, "changes": changes}])

    def forget_before(self, time_ms: int) -> None:
        """Which seconds' accounts changed is of no use any more."""
        with self._history.transaction() as connection:
            connection.execute(delete(touched).where(touched.c.second < time_ms // 1000))
            connection.execute(delete(intervals).where(intervals.c.start_ms < time_ms))

    def accounts_in(self, start_ms: int, length_ms: int) -> list[Row]:
        """The accounts that have answers in the interval, or had when a statement was made."""
        columns = [answers.c[name] for name in ACCOUNT if name != "start_ms"]
        now = select(*columns).where(_asked_in(start_ms, length_ms)).distinct()
        said = select(*(statements.c[name] for name in ACCOUNT if name != "start_ms"))
        said = said.where(statements.c.start_ms == start_ms, statements.c.end_ms == start_ms + length_ms)
        with self._history.transaction(writes=False) as connection:
            found = {tuple(row) for query in (now, said) for row in connection.execute(query)}
        return [
            {
                "guest": guest,
                "host": host,
                "start_ms": start_ms,
                "model": model,
                "version": version,
                "answered": answered,
            }
            for guest, host, model, version, answered in sorted(found)
        ]

    def leaves(
        self, account: Row, length_ms: int, buckets: Sequence[int] | None = None
    ) -> Iterator[tuple[str, bytes, int]]:
        """(request id, leaf, value) of the account's answers, in the order of (bucket, leaf), one by one."""
        columns = (answers.c.request_id, answers.c.leaf, answers.c.value)
        here = [answers.c[name] == account[name] for name in ACCOUNT if name != "start_ms"]
        query = select(*columns).where(_asked_in(account["start_ms"], length_ms), *here)
        if buckets is not None:
            query = query.where(answers.c.bucket.in_(buckets))
        query = query.order_by(answers.c.bucket, answers.c.leaf).execution_options(yield_per=STREAMED)
        with self._history.transaction(writes=False) as connection:
            for row in connection.execute(query):
                yield row[0], bytes(row[1]), int(row[2])

    # --- what was said ---

    def statement(self, account: Row, sender: str) -> Row | None:
        """The newest statement of that sender about the account."""
        query = select(statements).where(_is(statements, account), statements.c.sender == sender)
        with self._history.transaction(writes=False) as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else dict(row)

    def put_statement(self, row: Row) -> None:
        """Keep a statement in place of an earlier one."""
        self._replace(statements, [row])

    def unsent(self) -> list[Row]:
        """Own statements that the peers may not have."""
        query = select(statements).where(statements.c.sent.is_(False), statements.c.sender == self._party)
        with self._history.transaction(writes=False) as connection:
            return [dict(row) for row in connection.execute(query.order_by(statements.c.start_ms)).mappings()]

    def mark_sent(self, row: Row) -> None:
        """The broker has this statement; a later one may be there by now."""
        here = and_(_is(statements, row), statements.c.sender == row["sender"])
        same = statements.c.made_at_ms == row["made_at_ms"]
        with self._history.transaction() as connection:
            connection.execute(update(statements).where(here, same).values(sent=True))

    def unanswered(self, until_ms: int) -> list[Row]:
        """Accounts of intervals that end by then of which a peer spoke and this party did not."""
        own = statements.alias()
        same = and_(*(own.c[name] == statements.c[name] for name in ACCOUNT), own.c.sender == self._party)
        query = select(*(statements.c[name] for name in ACCOUNT)).outerjoin(own, same)
        query = query.where(statements.c.sender != self._party, own.c.sender.is_(None), statements.c.end_ms <= until_ms)
        with self._history.transaction(writes=False) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    # --- what came of it ---

    def verdict(self, account: Row) -> Row | None:
        """What was found so far, `open_buckets` as a list."""
        with self._history.transaction(writes=False) as connection:
            row = connection.execute(select(verdicts).where(_is(verdicts, account))).mappings().one_or_none()
        return None if row is None else {**row, "open_buckets": json.loads(row["open_buckets"])}

    def put_verdict(self, verdict: Row, forget: bool = False) -> None:
        """Keep a verdict; `forget` also forgets all differences of the account."""
        row = {**verdict, "open_buckets": json.dumps(verdict["open_buckets"])}
        with self._history.transaction() as connection:
            if forget:
                connection.execute(delete(differences).where(_is(differences, verdict)))
            connection.execute(replace_row(verdicts, connection.dialect.name), [row])

    def asking(self, before_ms: int) -> list[Row]:
        """Accounts whose differences were asked for before that time, and are not all known."""
        query = select(*(verdicts.c[name] for name in ACCOUNT))
        query = query.where(verdicts.c.status == ASKING, verdicts.c.asked_at_ms < before_ms)
        with self._history.transaction(writes=False) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def add_differences(
        self, verdict: Row, bucket: int, found: Iterable[tuple[str, str]], blame: str, *, from_start: bool
    ) -> None:
        """Keep (request id, kind) of a part of a bucket, and the verdict that goes with it."""
        account = {name: verdict[name] for name in ACCOUNT}
        rows = [
            {**account, "request_id": request_id, "bucket": bucket, "kind": kind, "blame": blame}
            for request_id, kind in found
        ]
        row = {**verdict, "open_buckets": json.dumps(verdict["open_buckets"])}
        with self._history.transaction() as connection:
            if from_start:
                here = and_(_is(differences, account), differences.c.bucket == bucket)
                connection.execute(delete(differences).where(here))
            if rows:
                connection.execute(insert_new(differences, connection.dialect.name), rows)
            connection.execute(replace_row(verdicts, connection.dialect.name), [row])

    def report(
        self, peer: str | None = None, from_ms: int | None = None, to_ms: int | None = None
    ) -> list[AccountReport]:
        """Every account of which somebody spoke, by time; `to_ms` excluded."""
        query = select(statements).order_by(*(statements.c[name] for name in ("start_ms", *ACCOUNT)))
        if peer is not None:
            query = query.where(or_(statements.c.guest == peer, statements.c.host == peer))
        if from_ms is not None:
            query = query.where(statements.c.end_ms > from_ms)
        if to_ms is not None:
            query = query.where(statements.c.start_ms < to_ms)
        found: list[AccountReport] = []
        with self._history.transaction(writes=False) as connection:
            said = [dict(row) for row in connection.execute(query).mappings()]
            sides: dict[tuple[Any, ...], dict[bool, Row]] = {}
            for row in said:
                key = tuple(row[name] for name in ACCOUNT)
                sides.setdefault(key, {})[row["sender"] == self._party] = row
            for key, rows in sides.items():
                account = dict(zip(ACCOUNT, key, strict=True))
                status = connection.execute(select(verdicts.c.status).where(_is(verdicts, account))).scalar()
                names = select(differences.c.request_id, differences.c.kind, differences.c.blame)
                named = connection.execute(names.where(_is(differences, account)).order_by(differences.c.request_id))
                own, other = rows.get(True), rows.get(False)
                found.append(
                    AccountReport(
                        account,
                        next(iter(rows.values()))["end_ms"],
                        own["count"] if own else None,
                        other["count"] if other else None,
                        own["value_sum"] if own else None,
                        other["value_sum"] if other else None,
                        status or WAITING,
                        tuple((one[0], one[1], one[2]) for one in named),
                    )
                )
        return found

    def _replace(self, table: Table, rows: list[Row]) -> None:
        with self._history.transaction() as connection:
            connection.execute(replace_row(table, connection.dialect.name), rows)


def _is(table: Table, account: Row) -> ColumnElement[bool]:
    conditions: list[Any] = [table.c[name] == account[name] for name in ACCOUNT]
    return and_(*conditions)


def _asked_in(start_ms: int, length_ms: int) -> ColumnElement[bool]:
    start_us, end_us = start_ms * 1000, (start_ms + length_ms) * 1000
    return and_(answers.c.asked_at_us >= start_us, answers.c.asked_at_us < end_us)
