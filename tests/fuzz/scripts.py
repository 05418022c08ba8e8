"""Scripts of a hostile peer: from where in an honest job, and what is sent then. As JSON they are the corpus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from schemas.catalogue import record_classes
from schemas.record import Record
from streams.machine import RefusedError
from tests.fuzz.arenas import STRANGER, Arena, arena
from tests.fuzz.notation import record_from_json, record_to_json
from tests.fuzz.referee import as_told, check_refusal, check_step
from tests.fuzz.variation import altered, records_of

MOST_MOVES = 6


@dataclass(frozen=True)
class Say:
    """Somebody else sends a record."""

    sender: str
    record: Record


@dataclass(frozen=True)
class Honest:
    """What happened at this number of the honest job happens now, whoever did it."""

    place: int


@dataclass(frozen=True)
class Script:
    """`start` is a number of the honest job's events."""

    arena: str
    start: int
    moves: tuple[Say | Honest, ...]


def play(script: Script) -> None:
    """Let the machine take every move. Raises `AssertionError` when it breaks a promise, or what it raises itself."""
    ring = arena(script.arena)
    state = ring.state_at(script.start)
    for move in script.moves:
        if isinstance(move, Honest):
            event = ring.moments[move.place % len(ring.moments)].event
            author = event.sender
        else:
            event, author = as_told(ring, move.sender, move.record), move.sender
        try:
            step = ring.machine.step(state, event)
        except RefusedError as refused:
            check_refusal(ring, event, author, str(refused))
            continue
        check_step(ring, state, event, step, author)
        state = step.state


def scripts(name: str) -> st.SearchStrategy[Script]:
    """Scripts against one arena: anything at any time, or what is due, but altered."""
    ring = arena(name)
    moves = _moves(ring)
    anytime = st.builds(
        Script,
        st.just(name),
        st.integers(0, len(ring.moments)),
        st.lists(moves, min_size=1, max_size=MOST_MOVES).map(tuple),
    )
    due = [place for place, moment in enumerate(ring.moments) if moment.event.sender == ring.peer]

    def alter_due(place: int) -> st.SearchStrategy[Script]:
        record = ring.moments[place].event.record
        once = altered(record, "job_id")
        first = st.one_of(once, once, once.flatmap(altered))
        # What follows is what would have followed, then anything.
        rest = st.one_of(st.just(Honest(place + 1)), moves) if place + 1 < len(ring.moments) else moves
        return st.builds(
            lambda one, others: Script(name, place, (Say(ring.peer, one), *others)), first, st.lists(rest, max_size=3)
        )

    return st.one_of(st.sampled_from(due).flatmap(alter_due), anytime)


def _moves(ring: Arena) -> st.SearchStrategy[Say | Honest]:
    senders = st.sampled_from((ring.peer, ring.peer, ring.peer, STRANGER))
    heard = st.sampled_from(ring.heard)
    twice = heard.flatmap(altered).flatmap(altered)
    peers = sorted({type(record) for record in ring.heard}, key=lambda cls: cls.__name__)
    of_stage = st.sampled_from(peers).flatmap(records_of)
    anything = st.sampled_from(record_classes()).flatmap(records_of).map(_about(ring))
    record = st.one_of(heard, heard.flatmap(altered), twice, of_stage.map(_about(ring)), anything)
    say = st.builds(Say, senders, record)
    honest = st.builds(Honest, st.integers(0, len(ring.moments) - 1))
    return st.one_of(say, say, say, honest)


def _about(ring: Arena) -> Any:
    """Records about other jobs never reach a machine: let most be about this one."""

    def change(record: Any) -> Any:
        return replace(record, job_id=ring.job_id) if hasattr(record, "job_id") else record

    return change


def script_to_json(script: Script) -> dict[str, Any]:
    moves: list[dict[str, Any]] = []
    for move in script.moves:
        match move:
            case Honest(place):
                moves.append({"honest": place})
            case Say(sender, record):
                moves.append({"from": sender, "record": record_to_json(record)})
    return {"arena": script.arena, "start": script.start, "moves": moves}


def script_from_json(data: dict[str, Any]) -> Script:
    moves: list[Say | Honest] = []
    for move in data["moves"]:
        if "honest" in move:
            moves.append(Honest(move["honest"]))
        else:
            moves.append(Say(move["from"], record_from_json(move["record"])))
    return Script(data["arena"], data["start"], tuple(moves))


__all__ = ["Honest", "Say", "Script", "play", "script_from_json", "script_to_json", "scripts"]
