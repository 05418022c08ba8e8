"""What a party's jobs revealed of the same rows, folded from its own events: the register's ledgers, for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from infra.settings import PartySettings
from infra.topics import events_topic
from producers.topic_reader import TopicReader, connection_of
from schemas.cohorts import CohortCharged
from schemas.jobs import Role
from schemas.record import Record


@dataclass(frozen=True)
class CohortAccount:
    """One cohort of one secret of the party. `cohort` is equal for equal rows (and labels), in hex.

    `bits` is what `jobs` revealed, and what those that still run (`open_jobs`) may reveal at most.
    """

    role: Role
    dataset: str
    label: str
    cohort: str
    rows: int
    jobs: tuple[str, ...]
    open_jobs: tuple[str, ...]
    peers: tuple[str, ...]
    bits: int
    limit: float


def fold_cohorts(records: Iterable[Record | None]) -> tuple[CohortAccount, ...]:
    """The accounts, the one whose first job is the oldest first. The latest word about a job counts."""
    latest = {record.job_id: record for record in records if isinstance(record, CohortCharged)}
    groups: dict[tuple[str, str, str, bytes], list[CohortCharged]] = {}
    for each in latest.values():
        if each.passes:
            groups.setdefault((each.role, each.dataset, each.label, each.cohort), []).append(each)
    return tuple(_account(group) for group in groups.values())


def read_cohorts(settings: PartySettings) -> tuple[CohortAccount, ...]:
    """The accounts of the party. Raises `BrokerUnavailableError`."""
    reader = TopicReader(connection_of(settings), events_topic(settings.party))
    try:
        return fold_cohorts(entry.record for entry in reader.read_to_end())
    finally:
        reader.close()


def describe_account(account: CohortAccount) -> str:
    """One line, such as `guest people, label churn  3f2a91c0  1,200 rows  2 jobs  440 of 1,069 bits  to shop: a, b`."""
    label = f", label {account.label}" if account.label else ""
    jobs = f"{len(account.jobs)} job{'' if len(account.jobs) == 1 else 's'}"
    running = f" ({len(account.open_jobs)} running, counted at most)" if account.open_jobs else ""
    return (
        f"{account.role} {account.dataset}{label}  {account.cohort[:8]}  {account.rows:,} rows  {jobs}{running}"
        f"  {account.bits:,} of {account.limit:,.0f} bits  to {', '.join(account.peers)}: {', '.join(account.jobs)}"
    )


def _account(group: list[CohortCharged]) -> CohortAccount:
    last = group[-1]
    return CohortAccount(
        role=last.role,
        dataset=last.dataset,
        label=last.label,
        cohort=last.cohort.hex(),
        rows=last.rows,
        jobs=tuple(sorted(each.job_id for each in group)),
        open_jobs=tuple(sorted(each.job_id for each in group if not each.is_final)),
        peers=tuple(sorted({each.peer for each in group})),
        bits=sum(each.bits for each in group),
        limit=last.limit,
    )
