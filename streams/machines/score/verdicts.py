"""What becomes of a request, as a function of what the router wrote and the hosts answered.

    the router gave a reason               refused; expired if it is `deadline_exceeded` or `late`
    taken up after its deadline            expired, `deadline_exceeded`, the guest
    every host answered without a reason   scored
    a host answered `quota_exceeded`       refused
    a host answered another reason         degraded; without a model of the guest alone refused
    a host did not answer in time          degraded, `late`; without a model of the guest alone expired
    too many requests wait already         refused, `overloaded`, the guest

The party is the first by name of those to whom the row applies. A verdict waits for all hosts, so that it depends on
what was said, not on who was faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.scoring import (
    AnswerLate,
    AuditedAnswer,
    Outcome,
    Purpose,
    RoutedScore,
    ScoreAnswer,
    ScoreAudited,
    ScoreJoined,
    ScoreReason,
)
from schemas.scoring_states import HeldAnswer
from streams.kernels.metrics import probabilities
from streams.kernels.scorecard import (
    LEAST_QUANTUM,
    MOST_QUANTUM,
    QUANTUM_BITS,
    count_points,
    find_band,
    restore_share,
)

#: No half says more than a logit of so much; far above every clip, and far below what 64 bits hold.
MOST_SHARE = 1 << (QUANTUM_BITS + 10)
MOST_LOGIT = 1 << 40
#: Of the texts in an item and in an answer: whatever is made of them fits a Kafka record.
MOST_ITEM_CHARACTERS, MOST_ANSWER_CHARACTERS = 50_000, 5_000
MOST_BANDS, MOST_HOSTS = 1_000, 100

_OUT_OF_TIME = frozenset({ScoreReason.LATE, ScoreReason.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome before it is written. `logit` has 20 fractional bits; `answers` are what was heard, by name."""

    item: RoutedScore
    outcome: Outcome
    reason: ScoreReason
    party: str = ""
    detail: str = ""
    logit: int | None = None
    answers: tuple[HeldAnswer, ...] = ()


def judge_arrival(item: RoutedScore, now_ms: int, guest: str) -> Verdict | None:
    """The verdict that needs no answers, if there is one."""
    if item.reason is not ScoreReason.NONE:
        outcome = Outcome.EXPIRED if item.reason in _OUT_OF_TIME else Outcome.REFUSED
        return Verdict(item, outcome, item.reason, item.party, item.detail)
    if now_ms > item.deadline_ms:
        return Verdict(item, Outcome.EXPIRED, ScoreReason.DEADLINE_EXCEEDED, guest)
    return None


def judge_answers(item: RoutedScore, answers: Sequence[HeldAnswer], *, is_over: bool) -> Verdict | None:
    """The verdict from at most one answer of each host; None while some are missing and it is not over."""
    if len(answers) < len(item.hosts) and not is_over:
        return None
    heard = {held.host: held for held in answers}
    ordered = tuple(heard[host] for host in item.hosts if host in heard)
    failures = [
        (held.answer.reason, host, held.answer.detail) if (held := heard.get(host)) else (ScoreReason.LATE, host, "")
        for host in item.hosts
        if host not in heard or heard[host].answer.reason is not ScoreReason.NONE
    ]
    if not failures:
        assert item.guest_logit is not None
        logit = item.guest_logit + sum(restore_share(held.answer.value, held.answer.quantum) for held in ordered)
        return Verdict(item, Outcome.SCORED, ScoreReason.NONE, logit=logit, answers=ordered)
    quota = next((failure for failure in failures if failure[0] is ScoreReason.QUOTA_EXCEEDED), None)
    reason, party, detail = quota or failures[0]
    if quota is None and item.alone_logit is not None:
        return Verdict(item, Outcome.DEGRADED, reason, party, detail, item.alone_logit, ordered)
    outcome = Outcome.EXPIRED if reason in _OUT_OF_TIME else Outcome.REFUSED
    return Verdict(item, outcome, reason, party, detail, answers=ordered)


def judge_overload(item: RoutedScore, guest: str) -> Verdict:
    """The verdict when there is no room to wait."""
    return Verdict(item, Outcome.REFUSED, ScoreReason.OVERLOADED, guest)


def fits(item: RoutedScore, held: HeldAnswer) -> bool:
    """Whether the answer is one to this question: of a host that was asked, by the version that was chosen."""
    answer = held.answer
    return held.host in item.hosts and (answer.model, answer.version) == (item.model, item.version)


def fault_of_item(item: RoutedScore) -> str:
    """Why no outcome can be made of the item; empty when one can."""
    texts = (item.request_id, item.model, item.version, item.alias, item.party, item.detail, *item.hosts)
    characters = sum(map(len, texts)) + sum(len(band.name) + len(band.decision) for band in item.bands)
    if characters > MOST_ITEM_CHARACTERS or len(item.bands) > MOST_BANDS or len(item.hosts) > MOST_HOSTS:
        return f"request {item.request_id[:100]!r} has texts too long to be kept"
    if item.purpose is Purpose.UNKNOWN:
        return f"request {item.request_id!r} has a purpose of a newer release"
    if item.reason is ScoreReason.NONE:
        if item.guest_logit is None:
            return f"request {item.request_id!r} has neither the guest's part nor a reason"
        if max(abs(item.guest_logit), abs(item.alone_logit or 0)) > MOST_LOGIT:
            return f"request {item.request_id!r} has a logit that no model gives"
    return ""


def fault_of_answer(answer: ScoreAnswer) -> str:
    """Why the answer cannot be used, nor noted; empty when it can."""
    if len(answer.request_id) + len(answer.model) + len(answer.version) + len(answer.detail) > MOST_ANSWER_CHARACTERS:
        return f"an answer to request {answer.request_id[:100]!r} has texts too long to be kept"
    if answer.purpose is Purpose.UNKNOWN:
        return f"an answer to request {answer.request_id!r} has a purpose of a newer release"
    if answer.reason is not ScoreReason.NONE:
        return ""
    if not LEAST_QUANTUM <= answer.quantum <= MOST_QUANTUM or abs(answer.value * answer.quantum) > MOST_SHARE:
        return f"an answer to request {answer.request_id!r} is {answer.value} * {answer.quantum}: no half says that"
    return ""


def write_outcomes(verdicts: Sequence[Verdict], now_us: int) -> list[tuple[ScoreJoined | None, ScoreAudited]]:
    """The records of each verdict; what is scored by a second version for comparison is told in the audit only."""
    logits = np.array([0 if verdict.logit is None else verdict.logit for verdict in verdicts], dtype=np.int64)
    chances = probabilities(logits).tolist()
    return [_write(verdict, chance, now_us) for verdict, chance in zip(verdicts, chances, strict=True)]


def write_late(held: Iterable[HeldAnswer]) -> list[AnswerLate]:
    """The notes about answers that were not applied."""
    return [
        AnswerLate(
            request_id=answer.request_id,
            host=each.host,
            model=answer.model,
            version=answer.version,
            purpose=answer.purpose,
            reason=answer.reason,
            value=answer.value,
            quantum=answer.quantum,
            asked_at_us=answer.asked_at_us,
            answered_at_us=answer.answered_at_us,
            received_at_us=each.received_at_us,
        )
        for each in held
        for answer in (each.answer,)
    ]


def _write(verdict: Verdict, chance: float, now_us: int) -> tuple[ScoreJoined | None, ScoreAudited]:
    item, logit = verdict.item, verdict.logit
    points, band, decision = None, "", ""
    if logit is not None:
        points = count_points(logit, item.base_points, item.points_to_double_odds)
        index = find_band(points, [each.from_points for each in item.bands]) if item.bands else None
        if index is not None:
            band, decision = item.bands[index].name, item.bands[index].decision
    answers = tuple(
        AuditedAnswer(held.host, said.reason, said.value, said.quantum, said.asked_at_us, said.answered_at_us)
        for held in verdict.answers
        for said in (held.answer,)
    )
    audited = ScoreAudited(
        request_id=item.request_id,
        pseudonym=item.pseudonym,
        model=item.model,
        version=item.version,
        alias=item.alias,
        purpose=item.purpose,
        outcome=verdict.outcome,
        reason=verdict.reason,
        party=verdict.party,
        detail=verdict.detail,
        guest_logit=item.guest_logit,
        alone_logit=item.alone_logit,
        answers=answers,
        logit=logit,
        points=points,
        band=band,
        decision=decision,
        requested_at_ms=item.requested_at_ms,
        deadline_ms=item.deadline_ms,
        routed_at_us=item.routed_at_us,
        joined_at_us=now_us,
    )
    if item.purpose is Purpose.SHADOW:
        return None, audited
    joined = ScoreJoined(
        request_id=item.request_id,
        model=item.model,
        version=item.version,
        alias=item.alias,
        outcome=verdict.outcome,
        reason=verdict.reason,
        party=verdict.party,
        detail=verdict.detail,
        points=points,
        probability=None if logit is None else chance,
        band=band,
        decision=decision,
        purpose=item.purpose,
        requested_at_ms=item.requested_at_ms,
        routed_at_us=item.routed_at_us,
        answered_at_us=max((said.answered_at_us for said in answers), default=0),
        joined_at_us=now_us,
    )
    return joined, audited
