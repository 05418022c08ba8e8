"""Reading the scoring history: outcomes in pages, counts, and whether results and audit say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from infra.history_store import HistoryStore, Row
from infra.history_tables import answers, late_answers, outcomes, results

PAGE = 500
#: What a result and its outcome have in common.
COMMON = ("model", "version", "alias", "outcome", "reason", "party", "detail", "points", "band", "decision")


@dataclass(frozen=True)
class OutcomeFilter:
    """Which outcomes; times are those of joining, in microseconds since 1970, the end excluded."""

    model: str | None = None
    version: str | None = None
    from_us: int | None = None
    to_us: int | None = None
    request_id: str | None = None


def read_outcomes(store: HistoryStore, wanted: OutcomeFilter, page: int = PAGE) -> Iterator[Row]:
    """The outcomes, oldest first, `answers` as a list. Pages are read one by one, each in a transaction of its own."""
    order = (outcomes.c.joined_at_us, outcomes.c.request_id, outcomes.c.purpose)
    after: ColumnElement[bool] | None = None
    while True:
        query = _filtered(select(outcomes), wanted).order_by(*order).limit(page)
        if after is not None:
            query = query.where(after)
        with store.transaction(writes=False) as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        for row in rows:
            yield {**row, "answers": json.loads(row["answers"])}
        if len(rows) < page:
            return
        time_us, request_id, purpose = (rows[-1][column.name] for column in order)
        after = or_(
            order[0] > time_us,
            and_(order[0] == time_us, order[1] > request_id),
            and_(order[0] == time_us, order[1] == request_id, order[2] > purpose),
        )


def count_outcomes(store: HistoryStore, wanted: OutcomeFilter) -> dict[tuple[str, str], int]:
    """(outcome, reason) -> number of requests."""
    columns = (outcomes.c.outcome, outcomes.c.reason)
    query = _filtered(select(*columns, func.count()), wanted).group_by(*columns).order_by(*columns)
    with store.transaction(writes=False) as connection:
        return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}


def read_answers(store: HistoryStore, request_id: str) -> list[Row]:
    """Everything that hosts answered about a request, late answers included; at a host, what it answered itself."""
    query = select(answers).where(answers.c.request_id == request_id).order_by(answers.c.host, answers.c.asked_at_us)
    with store.transaction(writes=False) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def count_late(store: HistoryStore) -> int:
    """Answers that came too late, or to no request."""
    with store.transaction(writes=False) as connection:
        return int(connection.execute(select(func.count()).select_from(late_answers)).scalar_one())


def find_mismatches(store: HistoryStore, from_us: int = 0, limit: int = 100) -> list[tuple[str, str]]:
    """(request id, what is wrong) where results and audit say different things of requests joined since then.

    Scores for comparison only have no result. Requests that were joined a moment ago may have come from one topic only.
    """
    both = and_(outcomes.c.request_id == results.c.request_id, outcomes.c.purpose == results.c.purpose)
    differ = or_(*(outcomes.c[name].is_distinct_from(results.c[name]) for name in COMMON))
    queries = {
        "no result": select(outcomes.c.request_id)
        .outerjoin(results, both)
        .where(results.c.request_id.is_(None), outcomes.c.purpose != "shadow", outcomes.c.joined_at_us >= from_us),
        "no audit": select(results.c.request_id)
        .outerjoin(outcomes, both)
        .where(outcomes.c.request_id.is_(None), results.c.joined_at_us >= from_us),
        "result and audit differ": select(results.c.request_id)
        .join(outcomes, both)
        .where(differ, results.c.joined_at_us >= from_us),
    }
    found: list[tuple[str, str]] = []
    with store.transaction(writes=False) as connection:
        for what, query in queries.items():
            found += [(row[0], what) for row in connection.execute(query.limit(limit))]
    return sorted(found)[:limit]


def _filtered(query: Select[Any], wanted: OutcomeFilter) -> Select[Any]:
    if wanted.model is not None:
        query = query.where(outcomes.c.model == wanted.model)
    if wanted.version is not None:
        query = query.where(outcomes.c.version == wanted.version)
    if wanted.from_us is not None:
        query = query.where(outcomes.c.joined_at_us >= wanted.from_us)
    if wanted.to_us is not None:
        query = query.where(outcomes.c.joined_at_us < wanted.to_us)
    if wanted.request_id is not None:
        query = query.where(outcomes.c.request_id == wanted.request_id)
    return query
