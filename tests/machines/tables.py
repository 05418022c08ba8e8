"""Holds what machines did against what their joint table says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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
            continue
        if key not in rows:
            assert not entry.outputs and encode(entry.before) == encode(entry.after), f"{key} is not in the table"
            continue
        row = rows[key]
        assert after == before or after in {str(phase) for phase in row.to}, (key, after)
        assert sent <= {*row.sends, *ALWAYS}, (key, sent)
        used.add(key)
    return used
