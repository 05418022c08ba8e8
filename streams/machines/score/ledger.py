"""What the joiner of one partition knows between two transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.scoring import Purpose, RoutedScore
from schemas.scoring_states import HeldAnswer
from streams.machines.score.verdicts import fits

#: For how long an answer waits for a request: longer than any router takes from asking to writing its own part.
HOLD_MS = 60_000
#: A host's answer is waited for this long after we took the request up, whatever `wait_until_ms` says, but not beyond
#: the deadline: after a rest of ours the answers lie in the log already, and are as good as before.
GRACE_MS = 500
#: A deadline further away than this counts as this: nothing is remembered for ever.
LONGEST_MEMORY_MS = 86_400_000
_PREFIXES = {purpose: f"{purpose.value}/" for purpose in Purpose}


@dataclass(frozen=True)
class JoinRules:
    """The settings of one party's joiner. `most_early` bounds the keys with answers that came before their request."""

    party: str
    most_waiting: int = 20_000
    remember_ms: int = 120_000
    most_early: int = 100_000

    @property
    def settle_ms(self) -> int:
        """After how long marks follow."""
        return self.remember_ms // 2


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that some of its hosts have not answered."""

    item: RoutedScore
    due_ms: int
    answers: tuple[HeldAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class Early:
    """Answers to a request that is not there, until they are let go."""

    due_ms: int
    answers: tuple[HeldAnswer, ...]


class Mark(NamedTuple):
    """How far a partition of the request topic was taken up: the highest offset, and the latest time of appending."""

    offset: int = -1
    appended_ms: int = 0

    def join(self, other: Mark) -> Mark:
        """The further of both."""
        return Mark(max(self.offset, other.offset), max(self.appended_ms, other.appended_ms))


@dataclass
class Ledger:
    """What was committed for one partition. Changed by `deltas.apply` only, but for `due`, which a draft may empty."""

    rules: JoinRules
    waiting: dict[str, Waiting] = field(default_factory=dict)
    early: dict[str, Early] = field(default_factory=dict)
    #: Keys of requests with outcomes. Texts and numbers only: the garbage collector need not look at them one by one.
    finished: dict[str, int] = field(default_factory=dict)
    #: Partition of the request topic -> up to where nothing new is to come.
    marks: dict[int, Mark] = field(default_factory=dict)
    #: When waiting and early ones are due; those that are neither any more are passed over.
    due: list[tuple[int, str]] = field(default_factory=list)

    def next_due_ms(self) -> int | None:
        """When the next request or answer has waited enough."""
        return self.due[0][0] if self.due else None


def key_of(request_id: str, purpose: Purpose) -> str:
    """What an outcome belongs to."""
    return _PREFIXES[purpose] + request_id


def due_of(item: RoutedScore, taken_ms: int) -> int:
    """Until when a request that was taken up then waits for hosts."""
    return min(item.deadline_ms, max(item.wait_until_ms, taken_ms + GRACE_MS))


def choose_answers(item: RoutedScore, answers: Sequence[HeldAnswer]) -> tuple[HeldAnswer, ...]:
    """Of answers that came before the request: the first of each host that fits it."""
    chosen: dict[str, HeldAnswer] = {}
    for held in answers:
        if fits(item, held):
            chosen.setdefault(held.host, held)
    return tuple(chosen.values())
