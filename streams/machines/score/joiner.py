"""The joiner of one partition: requests that wait for hosts, answers that came early, requests that have their outcome.

A ledger is what was committed; a draft is what a transaction will change. A draft that is dropped leaves nothing.

Each (request, purpose) gets exactly one outcome. Its first item counts, others are copies, and how they are known is:

    while it waits, and until it is forgotten      by its key
    when it is forgotten                           the request topic was taken up beyond `deadline + remember`
    what comes then and was published before that  lies behind the mark of its partition: it was seen, nothing happens
    what comes then and was published after that   is no request but an echo: a complaint, never an outcome

All times in this are the broker's, as it appended to the request topic, and marks are kept for each of its partitions:
how long anything lay in a backlog and how wrong other clocks are does not matter. A mark follows what was seen after
half of `remember`, by our clock, because routers may write what took them long after what did not. It is exact if that
is enough for them, if requests with one id lie in one partition, as with every producer that uses the id as the key,
and if the broker's clock is not set back by more than `remember`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace

from schemas.scoring import RoutedScore, ScoreAnswer
from schemas.scoring_states import HeldAnswer
from streams.machines.score.ledger import (
    HOLD_MS,
    LONGEST_MEMORY_MS,
    Early,
    Ledger,
    Mark,
    Waiting,
    choose_answers,
    due_of,
    key_of,
)
from streams.machines.score.verdicts import (
    Verdict,
    fault_of_answer,
    fault_of_item,
    fits,
    judge_answers,
    judge_arrival,
    judge_overload,
)

#: Answers of one host to one request that is not there. A request is asked about once; an alias may have been pointed
#: elsewhere before it is asked about again.
MOST_EARLY_ANSWERS = 4


class Draft:
    """What a transaction will change in a ledger."""

    def __init__(self, base: Ledger) -> None:
        self.base = base
        #: Changed entries; None where there is none any more.
        self.waiting: dict[str, Waiting | None] = {}
        self.early: dict[str, Early | None] = {}
        #: Keys -> partition in the request topic, and when it can be forgotten.
        self.finished: dict[str, tuple[int, int]] = {}
        #: How far the items of this draft lie in the request topic.
        self.seen: dict[int, Mark] = {}
        #: Keys of committed early answers that were let go.
        self.released: list[str] = []
        self.verdicts: list[Verdict] = []
        #: Answers that were not applied.
        self.late: list[HeldAnswer] = []
        #: Requests that wait and keys with early answers, as of this draft.
        self.waiting_count = len(base.waiting)
        self.early_count = len(base.early)
        self.due: list[tuple[int, str]] = []
        self._taken_due: list[tuple[int, str]] = []

    def undo(self) -> None:
        """The transaction did not happen; the ledger is as before."""
        for entry in self._taken_due:
            heapq.heappush(self.base.due, entry)
        self._taken_due.clear()

    def next_due_ms(self) -> int | None:
        """As `Ledger.next_due_ms`, of what this draft has added."""
        return self.due[0][0] if self.due else None

    # --- what comes in ---

    def take_routed(self, items: Iterable[RoutedScore], now_ms: int) -> list[str]:
        """Requests in the order of their log. Gives the complaints about those that get no outcome."""
        complaints: list[str] = []
        remember_ms = self.base.rules.remember_ms
        for item in items:
            mark = self.base.marks.get(item.request_partition, Mark())
            key = key_of(item.request_id, item.purpose)
            last_ms = item.deadline_ms + remember_ms
            if self._is_known(key) or (item.request_offset < mark.offset and last_ms < mark.appended_ms):
                pass  # A copy.
            elif fault := fault_of_item(item):
                complaints.append(fault)
            elif item.appended_at_ms > last_ms:
                late_ms = item.appended_at_ms - item.deadline_ms
                complaints.append(f"request {item.request_id!r} was published {late_ms} ms after its own deadline")
            else:
                self._open(key, item, now_ms)
            place = Mark(item.request_offset, item.appended_at_ms)
            self.seen[item.request_partition] = self.seen.get(item.request_partition, place).join(place)
        return complaints

    def take_answers(self, host: str, answers: Iterable[ScoreAnswer], now_us: int) -> list[str]:
        """Answers of one host. Gives the complaints about those that nothing can be done with."""
        complaints: list[str] = []
        for answer in answers:
            if fault := fault_of_answer(answer):
                complaints.append(fault)
                continue
            key, held = key_of(answer.request_id, answer.purpose), HeldAnswer(host, answer, now_us)
            waiting = self._waiting(key)
            if waiting is not None:
                self._add_answer(key, waiting, held)
            elif self._is_known(key):
                self.late.append(held)
            else:
                self._hold(key, held, now_us // 1000)
        return complaints

    def fire(self, now_ms: int) -> None:
        """End the waiting that is over."""
        for heap, taken in ((self.base.due, self._taken_due), (self.due, [])):
            while heap and heap[0][0] <= now_ms:
                entry = heapq.heappop(heap)
                taken.append(entry)
                self._end_waiting(entry[1], now_ms)

    # --- inside ---

    def _open(self, key: str, item: RoutedScore, now_ms: int) -> None:
        early = self._early(key)
        fitting: tuple[HeldAnswer, ...] = ()
        if early is not None:
            self._drop_early(key)
            fitting = choose_answers(item, early.answers)
            self.late += [held for held in early.answers if held not in fitting]
        verdict = judge_arrival(item, now_ms, self.base.rules.party)
        if verdict is None:
            verdict = judge_answers(item, fitting, is_over=False)
            if verdict is None and self.waiting_count >= self.base.rules.most_waiting:
                verdict = judge_overload(item, self.base.rules.party)
        if verdict is None:
            waiting = Waiting(item, due_of(item, now_ms), fitting)
            self.waiting[key] = waiting
            self.waiting_count += 1
            heapq.heappush(self.due, (waiting.due_ms, key))
            return
        if not verdict.answers:
            self.late += fitting
        self._finish(key, verdict)

    def _add_answer(self, key: str, waiting: Waiting, held: HeldAnswer) -> None:
        if not fits(waiting.item, held) or any(other.host == held.host for other in waiting.answers):
            self.late.append(held)
            return
        answers = (*waiting.answers, held)
        verdict = judge_answers(waiting.item, answers, is_over=False)
        if verdict is None:
            self.waiting[key] = replace(waiting, answers=answers)
        else:
            self._stop_waiting(key)
            self._finish(key, verdict)

    def _hold(self, key: str, held: HeldAnswer, now_ms: int) -> None:
        early = self._early(key)
        if early is None:
            if self.early_count >= self.base.rules.most_early:
                self.late.append(held)
                return
            early = Early(now_ms + HOLD_MS, ())
            self.early_count += 1
            heapq.heappush(self.due, (early.due_ms, key))
        elif _is_enough(early, held):
            self.late.append(held)
            return
        self.early[key] = Early(early.due_ms, (*early.answers, held))

    def _end_waiting(self, key: str, now_ms: int) -> None:
        waiting = self._waiting(key)
        if waiting is not None and waiting.due_ms <= now_ms:
            verdict = judge_answers(waiting.item, waiting.answers, is_over=True)
            assert verdict is not None
            self._stop_waiting(key)
            self._finish(key, verdict)
            return
        early = self._early(key)
        if early is not None and early.due_ms <= now_ms:
            self.late += early.answers
            self._drop_early(key)
            if key in self.base.early:
                self.released.append(key)

    def _finish(self, key: str, verdict: Verdict) -> None:
        item = verdict.item
        mark = self.base.marks.get(item.request_partition, Mark())
        known_ms = max(item.deadline_ms, item.appended_at_ms, mark.appended_ms)
        forget_ms = min(known_ms, item.appended_at_ms + LONGEST_MEMORY_MS) + self.base.rules.remember_ms
        self.finished[key] = (item.request_partition, forget_ms)
        self.verdicts.append(verdict)

    def _stop_waiting(self, key: str) -> None:
        self.waiting_count -= 1
        if key in self.base.waiting:
            self.waiting[key] = None
        else:
            del self.waiting[key]

    def _drop_early(self, key: str) -> None:
        self.early_count -= 1
        if key in self.base.early:
            self.early[key] = None
        else:
            del self.early[key]

    def _is_known(self, key: str) -> bool:
        base = self.base
        return key in base.finished or key in self.finished or key in self.waiting or key in base.waiting

    def _waiting(self, key: str) -> Waiting | None:
        return self.waiting[key] if key in self.waiting else self.base.waiting.get(key)

    def _early(self, key: str) -> Early | None:
        return self.early[key] if key in self.early else self.base.early.get(key)


def _is_enough(early: Early, held: HeldAnswer) -> bool:
    """Whether the host has answered this before, or has said more about one request than any of its questions asked."""
    of_host = [other for other in early.answers if other.host == held.host]
    return len(of_host) >= MOST_EARLY_ANSWERS or any(_question(other) == _question(held) for other in of_host)


def _question(held: HeldAnswer) -> tuple[str, str, str]:
    return held.host, held.answer.model, held.answer.version
