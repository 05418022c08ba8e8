"""The joiner's state as a log of deltas: written with each transaction, deleted from its beginning, read back.

A delta can be deleted when no request waits and no answer is held that is told in it, and its finished requests are
forgotten. Deltas are deleted in their order: what one tells as waiting is never left without the later one that tells
it as finished. The last one stays, for its positions and marks. Where a few requests with late deadlines keep many
deltas from being deleted, the whole state is written again in new ones, and all older ones are deleted.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from schemas.scoring import RoutedScore
from schemas.scoring_states import FinishedScores, HeldAnswer, JoinDelta, JoinPosition, RequestMark
from streams.machines.score.delta_sizes import DELTA_BYTES, cut_group, size_of_answer, size_of_item, size_of_key
from streams.machines.score.joiner import Draft
from streams.machines.score.ledger import (
    HOLD_MS,
    Early,
    JoinRules,
    Ledger,
    Mark,
    Waiting,
    choose_answers,
    due_of,
    key_of,
)

_T = TypeVar("_T")

#: What was seen and what is forgotten within so long a time is taken together.
STEP_MS = 1_000
#: The state is written again when its deltas tell this many times what it holds, and so many things more.
SPRAWL_FACTOR, SPRAWL_ENTRIES = 4, 20_000


@dataclass
class Stored:
    """A delta that lies in the log."""

    entries: int
    #: Requests and answers told in it that are not finished.
    open: int = 0
    #: Partition of the request topic -> when the last finished request is forgotten.
    forget_ms: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """What a transaction writes: new deltas, and the sequences of those to be deleted."""

    deltas: tuple[JoinDelta, ...]
    deleted: tuple[int, ...]
    #: Whether the new deltas tell everything, not what has changed.
    is_whole: bool = False


class DeltaLog:
    """A ledger together with what lies in the log of it."""

    def __init__(self, rules: JoinRules) -> None:
        self.ledger = Ledger(rules)
        self.stored: dict[int, Stored] = {}
        self.next_sequence = 0
        self._entries = 0
        #: Key of what waits or is held -> the deltas that tell of it.
        self._homes: dict[str, list[int]] = {}
        #: Partition of the request topic -> end of a step of time -> keys that are forgotten then.
        self._steps: dict[int, dict[int, list[str]]] = {}
        #: The same ends as heaps.
        self._ends: dict[int, list[int]] = {}
        #: Partition of the request topic -> when we saw it up to where; at most one note a step.
        self._seen: dict[int, deque[tuple[int, Mark]]] = {}

    @classmethod
    def restore(cls, rules: JoinRules, deltas: Iterable[JoinDelta], now_ms: int) -> DeltaLog:
        """From all deltas of the log, in any order."""
        log = cls(rules)
        items: dict[str, RoutedScore] = {}
        held: dict[str, list[HeldAnswer]] = {}
        for delta in sorted(deltas, key=lambda each: each.sequence):
            log._store(delta)
            for key in delta.released:
                held.pop(key, None)
            items.update((key_of(item.request_id, item.purpose), item) for item in delta.waiting)
            for each in delta.held:
                held.setdefault(key_of(each.answer.request_id, each.answer.purpose), []).append(each)
            for group in delta.finished:
                for key in group.keys:
                    items.pop(key, None)
                    held.pop(key, None)
            log.ledger.marks = {m.request_partition: Mark(m.request_offset, m.appended_at_ms) for m in delta.marks}
        for key, item in items.items():
            answers = choose_answers(item, held.pop(key, ()))
            log.ledger.waiting[key] = Waiting(item, due_of(item, now_ms), answers)
        for key, answers_held in held.items():
            log.ledger.early[key] = Early(hold_end_ms(answers_held), tuple(answers_held))
        log.ledger.due = [(waiting.due_ms, key) for key, waiting in log.ledger.waiting.items()]
        log.ledger.due += [(early.due_ms, key) for key, early in log.ledger.early.items()]
        heapq.heapify(log.ledger.due)
        log._forget()
        return log

    @property
    def is_sprawling(self) -> bool:
        """Whether the log tells far more than there is."""
        ledger = self.ledger
        holds = len(ledger.waiting) + len(ledger.early) + len(ledger.finished)
        return self._entries > SPRAWL_FACTOR * holds + SPRAWL_ENTRIES

    # --- writing ---

    def write(self, draft: Draft, positions: Mapping[str, int], now_ms: int) -> Change:
        """What tells of the draft; `positions` are those of all input topics after it."""
        self._follow(now_ms)
        groups = _group((partition, forget_ms, key) for key, (partition, forget_ms) in draft.finished.items())
        waiting = [w.item for key, w in draft.waiting.items() if w is not None and key not in self.ledger.waiting]
        held = [each for key in dict.fromkeys((*draft.waiting, *draft.early)) for each in self._new_answers(draft, key)]
        deltas = self._pack(positions, draft.released, waiting, held, groups)
        return Change(tuple(deltas), tuple(self._deletable()))

    def rewrite(self, positions: Mapping[str, int]) -> Change:
        """The whole state in new deltas, and all older ones deleted."""
        ledger = self.ledger
        groups = [
            FinishedScores(partition, end_ms, tuple(keys))
            for partition, steps in self._steps.items()
            for end_ms, keys in steps.items()
        ]
        waiting = [each.item for each in ledger.waiting.values()]
        held = [held for each in ledger.waiting.values() for held in each.answers]
        held += [held for each in ledger.early.values() for held in each.answers]
        deltas = self._pack(positions, (), waiting, held, groups)
        return Change(tuple(deltas), tuple(self.stored), is_whole=True)

    def apply(self, draft: Draft, change: Change, now_ms: int) -> None:
        """The draft's transaction, with this change, was committed."""
        ledger = self.ledger
        for sequence in change.deleted:
            self._entries -= self.stored.pop(sequence).entries
        if change.is_whole:
            self._homes.clear()
            self._steps.clear()
            self._ends.clear()
        for delta in change.deltas:
            self._store(delta)
        _overlay(ledger.waiting, draft.waiting)
        _overlay(ledger.early, draft.early)
        self._note(draft.seen, now_ms)
        for entry in draft.due:
            heapq.heappush(ledger.due, entry)
        self._forget()

    def _new_answers(self, draft: Draft, key: str) -> Sequence[HeldAnswer]:
        """The answers under this key that no delta tells."""
        now = draft.waiting.get(key) or draft.early.get(key)
        if now is None:
            return ()
        told: tuple[HeldAnswer, ...] = ()
        if key not in draft.released:
            before = self.ledger.waiting.get(key) or self.ledger.early.get(key)
            told = before.answers if before is not None else ()
        return [each for each in now.answers if each not in told] if told else now.answers

    def _pack(
        self,
        positions: Mapping[str, int],
        released: Sequence[str],
        waiting: Sequence[RoutedScore],
        held: Sequence[HeldAnswer],
        groups: Sequence[FinishedScores],
    ) -> Iterator[JoinDelta]:
        """One delta, or several where one would be too large; what is told first comes first."""
        at = tuple(JoinPosition(topic, position) for topic, position in positions.items())
        seen = tuple(
            RequestMark(partition, mark.offset, mark.appended_ms) for partition, mark in self.ledger.marks.items()
        )
        sequence = self.next_sequence
        parts: list[tuple[int, str | RoutedScore | HeldAnswer | FinishedScores]] = [
            *((size_of_key(key), key) for key in released),
            *((size_of_item(item), item) for item in waiting),
            *((size_of_answer(each), each) for each in held),
            *(part for group in groups for part in cut_group(group)),
        ]
        start = 0
        while start < len(parts) or sequence == self.next_sequence:
            size, end = 0, start
            while end < len(parts) and (end == start or size + parts[end][0] <= DELTA_BYTES):
                size += parts[end][0]
                end += 1
            chosen = [part for _, part in parts[start:end]]
            yield JoinDelta(
                sequence=sequence,
                positions=at,
                marks=seen,
                waiting=tuple(part for part in chosen if isinstance(part, RoutedScore)),
                released=tuple(part for part in chosen if isinstance(part, str)),
                held=tuple(part for part in chosen if isinstance(part, HeldAnswer)),
                finished=tuple(part for part in chosen if isinstance(part, FinishedScores)),
            )
            start = end
            sequence += 1

    # --- what lies there ---

    def _store(self, delta: JoinDelta) -> None:
        """Account for a delta that lies in the log now."""
        stored = Stored(len(delta.waiting) + len(delta.held) + sum(len(group.keys) for group in delta.finished))
        self.stored[delta.sequence] = stored
        self.next_sequence = delta.sequence + 1
        self._entries += stored.entries
        for key in delta.released:
            self._leave_home(key)
        told = [key_of(item.request_id, item.purpose) for item in delta.waiting]
        told += [key_of(each.answer.request_id, each.answer.purpose) for each in delta.held]
        for key in told:
            self._homes.setdefault(key, []).append(delta.sequence)
            stored.open += 1
        for group in delta.finished:
            partition, end_ms = group.request_partition, group.forget_at_ms
            stored.forget_ms[partition] = max(stored.forget_ms.get(partition, end_ms), end_ms)
            steps = self._steps.setdefault(partition, {})
            if end_ms not in steps:
                steps[end_ms] = []
                heapq.heappush(self._ends.setdefault(partition, []), end_ms)
            steps[end_ms] += group.keys
            self.ledger.finished.update(dict.fromkeys(group.keys, end_ms))
            for key in group.keys:
                self._leave_home(key)

    def _leave_home(self, key: str) -> None:
        for sequence in self._homes.pop(key, ()):
            if sequence in self.stored:
                self.stored[sequence].open -= 1

    def _deletable(self) -> Iterator[int]:
        for sequence, stored in self.stored.items():
            if stored.open or any(end_ms >= self._mark_ms(q) for q, end_ms in stored.forget_ms.items()):
                return
            yield sequence

    def _note(self, seen: Mapping[int, Mark], now_ms: int) -> None:
        for partition, mark in seen.items():
            notes = self._seen.setdefault(partition, deque())
            if notes and notes[-1][0] > now_ms - STEP_MS:
                notes[-1] = (notes[-1][0], notes[-1][1].join(mark))
            else:
                notes.append((now_ms, mark))

    def _follow(self, now_ms: int) -> None:
        """Let the marks follow what was seen long enough ago."""
        marks = self.ledger.marks
        for partition, notes in self._seen.items():
            while notes and notes[0][0] <= now_ms - self.ledger.rules.settle_ms:
                _, mark = notes.popleft()
                marks[partition] = marks.get(partition, mark).join(mark)

    def _forget(self) -> None:
        for partition, ends in self._ends.items():
            mark_ms = self._mark_ms(partition)
            while ends and ends[0] < mark_ms:
                for key in self._steps[partition].pop(heapq.heappop(ends)):
                    self.ledger.finished.pop(key, None)

    def _mark_ms(self, partition: int) -> int:
        mark = self.ledger.marks.get(partition)
        return 0 if mark is None else mark.appended_ms


def hold_end_ms(answers: Sequence[HeldAnswer]) -> int:
    """When answers without a request are let go: counted from the first."""
    return answers[0].received_at_us // 1000 + HOLD_MS


def _overlay(entries: dict[str, _T], changes: Mapping[str, _T | None]) -> None:
    for key, entry in changes.items():
        if entry is None:
            entries.pop(key, None)
        else:
            entries[key] = entry


def _group(finished: Iterable[tuple[int, int, str]]) -> list[FinishedScores]:
    """By partition and step of time."""
    groups: dict[tuple[int, int], list[str]] = {}
    for partition, forget_ms, key in finished:
        groups.setdefault((partition, -(-forget_ms // STEP_MS) * STEP_MS), []).append(key)
    return [FinishedScores(partition, end_ms, tuple(keys)) for (partition, end_ms), keys in groups.items()]
