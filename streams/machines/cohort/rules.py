"""When a job may reveal something of its rows, given what earlier jobs revealed. Pure numbers and one text each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.cohorts import AskCohort, CohortEntry
from schemas.jobs import Leak, Role
from streams.kernels.cohorts import Comparison, compare_cohorts
from streams.kernels.leak_budget import MINIMUM_SUPPORT


@dataclass(frozen=True)
class Objection:
    """Why not, and by which name it would have to be accepted."""

    leak: Leak
    detail: str


def find_objection(entries: Sequence[CohortEntry], ask: AskCohort) -> Objection | None:
    """The first thing that speaks against the job and is not accepted."""
    compared = [(entry, _compare(entry, ask.entry)) for entry in entries]
    objections = (_object_to_overlap(compared, ask), _object_to_bits(compared, ask))
    return next((each for each in objections if each is not None and each.leak not in ask.accepted), None)


def needed_difference(entry: CohortEntry, other: CohortEntry) -> int:
    """Rows in which two cohorts must differ: for each number of a gradient as many as a column needs in one cohort.

    The wider job decides: columns that only one of them has may follow from the other's.
    """
    return MINIMUM_SUPPORT * max(entry.columns, other.columns)


def _compare(entry: CohortEntry, other: CohortEntry) -> Comparison | None:
    """How the cohorts lie to each other; `None`: too far from each other to matter, which their sizes tell already."""
    if entry.id_type != other.id_type or abs(entry.count - other.count) >= needed_difference(entry, other):
        return None
    return compare_cohorts(entry.rows.content, other.rows.content)


def _object_to_overlap(compared: Sequence[tuple[CohortEntry, Comparison | None]], ask: AskCohort) -> Objection | None:
    """Cohorts with rows in common must be the same, labels included, or differ in many rows."""
    near: list[tuple[int, CohortEntry]] = []
    for entry, comparison in compared:
        if entry.id_type != ask.entry.id_type:
            return Objection(Leak.OVERLAPPING_COHORT, _describe_id_types(entry, ask))
        if comparison is not None and comparison.shared:
            near.append((comparison.differing, entry))
    near = [(rows, entry) for rows, entry in near if 0 < rows < needed_difference(entry, ask.entry)]
    if not near:
        return None
    return Objection(Leak.OVERLAPPING_COHORT, _describe_overlap(*min(near, key=lambda pair: pair[0]), ask))


def _object_to_bits(compared: Sequence[tuple[CohortEntry, Comparison | None]], ask: AskCohort) -> Objection | None:
    """All jobs of the same rows share one budget."""
    same = [entry for entry, comparison in compared if comparison is not None and comparison.is_same]
    total = ask.entry.bits + sum(entry.bits for entry in same)
    if total <= ask.limit:
        return None
    spent = f"{len(same)} earlier jobs of the same rows ({_list_jobs(same)})" if same else "no earlier job"
    detail = (
        f"the {ask.entry.count} training rows of {_name(ask)}: this job may reveal {ask.entry.bits} bits to"
        f" {ask.entry.peer}, {spent} revealed {total - ask.entry.bits}, together more than the limit of"
        f" {ask.limit:.0f} bits; train with fewer passes or columns, or with new rows"
    )
    return Objection(Leak.SMALL_TABLE, detail)


def _describe_overlap(differing: int, entry: CohortEntry, ask: AskCohort) -> str:
    needed = needed_difference(entry, ask.entry)
    labels = ", or in their labels" if ask.role is Role.GUEST else ""
    return (
        f"the training rows of {_name(ask)} differ from those of job {entry.job} in {differing} rows{labels}: the two"
        f" jobs' gradients together would tell about these rows alone. Train on exactly the rows of {entry.job}, or on"
        f" rows that differ in at least {needed} ({MINIMUM_SUPPORT} for each of the peer's columns)"
    )


def _describe_id_types(entry: CohortEntry, ask: AskCohort) -> str:
    return (
        f"job {entry.job} matched the rows of {_name(ask)} by ids of type {entry.id_type}, this one by"
        f" {ask.entry.id_type}: whether they are the same rows cannot be told. Use align.id_type {entry.id_type}"
    )


def _name(ask: AskCohort) -> str:
    return f"dataset {ask.dataset!r}, label {ask.label!r}" if ask.role is Role.GUEST else f"dataset {ask.dataset!r}"


def _list_jobs(entries: Sequence[CohortEntry], most: int = 5) -> str:
    named = ", ".join(entry.job for entry in entries[:most])
    return f"{named} and {len(entries) - most} more" if len(entries) > most else named
