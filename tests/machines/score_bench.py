"""A joiner of one partition without a broker: input logs, a state log, transactions that succeed or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from schemas.codec import decode, encode
from schemas.jobs import ScoreBand
from schemas.scoring import (
    AnswerLate,
    Purpose,
    RoutedScore,
    ScoreAnswer,
    ScoreAudited,
    ScoreJoined,
    ScoreReason,
)
from schemas.scoring_states import JoinDelta
from streams.kernels.scorecard import POINT_QUANTUM
from streams.machines.score.deltas import DeltaLog
from streams.machines.score.joiner import Draft
from streams.machines.score.ledger import JoinRules
from streams.machines.score.verdicts import write_late, write_outcomes

#: When the tests begin.
NOW_MS = 1_000_000
BANDS = (ScoreBand("low", 0, "decline"), ScoreBand("middle", 600, "look"), ScoreBand("high", 640, "accept"))


def routed(request_id: str = "r", **fields: object) -> RoutedScore:
    """A request that waits for `host`; one second to its deadline, half of it to wait."""
    item = RoutedScore(
        request_id=request_id,
        pseudonym=b"p" * 16,
        model="credit",
        version="v1",
        alias="live",
        purpose=Purpose.LIVE,
        requested_at_ms=NOW_MS,
        deadline_ms=NOW_MS + 1_000,
        request_partition=0,
        request_offset=0,
        appended_at_ms=NOW_MS,
        routed_at_us=NOW_MS * 1000,
        hosts=("host",),
        guest_logit=1 << 20,
        alone_logit=1 << 19,
        wait_until_ms=NOW_MS + 500,
        base_points=600,
        points_to_double_odds=20,
        bands=BANDS,
    )
    return replace(item, **fields)  # type: ignore[arg-type]


def answered(request_id: str = "r", **fields: object) -> ScoreAnswer:
    answer = ScoreAnswer(
        request_id=request_id,
        model="credit",
        version="v1",
        purpose=Purpose.LIVE,
        reason=ScoreReason.NONE,
        value=20,
        quantum=POINT_QUANTUM,
        asked_at_us=NOW_MS * 1000,
        answered_at_us=NOW_MS * 1000 + 7,
    )
    return replace(answer, **fields)  # type: ignore[arg-type]


def refused(reason: ScoreReason, request_id: str = "r", **fields: object) -> ScoreAnswer:
    return answered(request_id, reason=reason, value=0, quantum=0, **fields)


@dataclass
class Bench:
    """What was committed, and a draft over it."""

    rules: JoinRules = field(default_factory=lambda: JoinRules("guest"))
    now_ms: int = NOW_MS

    def __post_init__(self) -> None:
        self.log = DeltaLog(self.rules)
        self.draft = Draft(self.log.ledger)
        #: The state topic.
        self.state: dict[int, bytes] = {}
        self.joined: list[ScoreJoined] = []
        self.audited: list[ScoreAudited] = []
        self.late: list[AnswerLate] = []
        self.complaints: list[str] = []
        self._draft_complaints: list[str] = []

    def route(self, *items: RoutedScore) -> Bench:
        self._draft_complaints += self.draft.take_routed(items, self.now_ms)
        return self

    def answer(self, *answers: ScoreAnswer, host: str = "host") -> Bench:
        self._draft_complaints += self.draft.take_answers(host, answers, self.now_ms * 1000)
        return self

    def fire(self, now_ms: int | None = None) -> Bench:
        self.now_ms = max(self.now_ms, now_ms or 0)
        self.draft.fire(self.now_ms)
        return self

    def commit(self) -> Bench:
        for joined, audited in write_outcomes(self.draft.verdicts, self.now_ms * 1000):
            self.audited.append(audited)
            if joined is not None:
                self.joined.append(joined)
        self.late += write_late(self.draft.late)
        self.complaints += self._draft_complaints
        self._settle(is_rewrite=False)
        return self

    def rewrite(self) -> Bench:
        """As the engine does between transactions when the log sprawls."""
        assert not self.draft.verdicts
        self._settle(is_rewrite=True)
        return self

    def abort(self) -> Bench:
        self.draft.undo()
        self._begin()
        return self

    def restart(self) -> Bench:
        """What was not committed is lost, the rest is read back."""
        self.log = self.restored()
        self._begin()
        return self

    def restored(self) -> DeltaLog:
        deltas = [decode(value) for value in self.state.values()]
        assert all(isinstance(delta, JoinDelta) for delta in deltas)
        return DeltaLog.restore(self.rules, deltas, self.now_ms)  # type: ignore[arg-type]

    def check_state(self) -> None:
        """What is in memory is what would be read back."""
        now, then = self.log.ledger, self.restored().ledger
        assert {key: (each.item, each.answers) for key, each in now.waiting.items()} == {
            key: (each.item, each.answers) for key, each in then.waiting.items()
        }
        assert now.early == then.early and now.finished == then.finished and now.marks == then.marks
        assert set(self.log.stored) == set(self.state) == set(self.restored().stored)
        assert {s: (each.open, each.forget_ms) for s, each in self.log.stored.items()} == {
            s: (each.open, each.forget_ms) for s, each in self.restored().stored.items()
        }

    def outcomes(self) -> Counter[tuple[str, Purpose]]:
        return Counter((each.request_id, each.purpose) for each in self.audited)

    def _settle(self, *, is_rewrite: bool) -> None:
        positions = {"routed": 1, "answers": 1}
        change = self.log.rewrite(positions) if is_rewrite else self.log.write(self.draft, positions, self.now_ms)
        for sequence in change.deleted:
            del self.state[sequence]
        for delta in change.deltas:
            assert delta.sequence not in self.state
            self.state[delta.sequence] = encode(delta)
        self.log.apply(self.draft, change, self.now_ms)
        self._begin()

    def _begin(self) -> None:
        self.draft = Draft(self.log.ledger)
        self._draft_complaints = []


def only(records: Iterable[ScoreAudited]) -> ScoreAudited:
    [record] = records
    return record
