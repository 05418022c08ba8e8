"""Holds what machines did against what their joint table says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from schemas.codec import encode
from schemas.record import Record
from schemas.tasks import TaskFailed, TaskResumed
from streams.machine import Output, ToEvents, ToPeer, ToRegistry, ToStage
from streams.machines.transition import Transition
from tests.machines.driver import Entry

#: What any step may tell besides what its row lists.
ALWAYS = frozenset({TaskFailed, TaskResumed})


def sent_types(outputs: Iterable[Output]) -> set[type[Record]]:
    """The classes of the records in these outputs."""
    return {type(o.record) for o in outputs if isinstance(o, ToPeer | ToStage | ToEvents | ToRegistry)}


def _without_note(entry: Entry) -> Record:
    """The state after, without the note of a fault that a machine may take before it knows its peers."""
    if not hasattr(entry.before, "faults"):
        return entry.after
    return replace(entry.after, faults=entry.before.faults)  # type: ignore[type-var]


def check_entries(
    entries: Iterable[Entry],
    transitions: Sequence[Transition],
    role_of: Callable[[str], str],
    phase_of: Callable[[Record], str],
) -> set[tuple[str, str, type[Record]]]:
    """Assert that every step is in the table, changed nothing, or failed. Gives the rows that were used."""
    rows = {(row.role, str(row.phase), row.event): row for row in transitions}
    assert len(rows) == len(transitions), "the table has two rows for the same role, phase and event"
    used = set()
    for entry in entries:
        role, before, after = role_of(entry.party), phase_of(entry.before), phase_of(entry.after)
        sent = sent_types(entry.outputs)
        key = (role, before, type(entry.record))
        if TaskFailed in sent:
            assert after == "ended" and before != "ended", key
            used |= {key} if key in rows and TaskFailed in rows[key].sends else set()
            continue
        if key not in rows:
            assert not entry.outputs, f"{key} is not in the table"
            assert encode(entry.before) == encode(_without_note(entry)), f"{key} is not in the table"
            continue
        row = rows[key]
        assert after == before or after in {str(phase) for phase in row.to}, (key, after)
        assert sent <= {*row.sends, *ALWAYS}, (key, sent)
        if entry.outputs or encode(entry.before) != encode(entry.after):
            used.add(key)
    return used
