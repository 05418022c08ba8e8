"""The score host: from a guest's questions to answers that are as coarse as the host wants them, and its books.

    admit       quota, age, version                       what is refused here needs no look-up
    answer      this party's part of the logits of one version's rows, or the reason why a row has none
    audit       what was answered, for the own books

A question asked again is answered with the same, as long as the features stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from schemas.scoring import AnswerAudited, Purpose, ScoreAnswer, ScoreAsk, ScoreReason
from streams.features import PersonFeatures
from streams.kernels.scorecard import POINT_QUANTUM, TOKEN_BYTES, bits_quantum, share_logit
from streams.kernels.scoring import quantise_logits
from streams.machines.score.halves import Problem
from streams.machines.score.models import HostModel
from streams.machines.score.request_check import MOST_ID_CHARACTERS
from streams.machines.score.resolution import Refusal

#: A question whose guest stopped waiting so long ago is not looked up. Generous, for the parties' clocks differ.
STALE_MS = 10_000


def quantum_of(precision: Literal["points"] | int) -> int:
    """The setting `score.precision` as a quantum. Raises `ValueError`."""
    return bits_quantum(precision) if isinstance(precision, int) else POINT_QUANTUM


# --- quota ---


@dataclass(frozen=True, slots=True)
class Quota:
    """Questions a second that a guest may ask in the long run, and how many may come at once."""

    per_second: int
    burst: int


class Bucket(NamedTuple):
    """What a guest has left, and as of when."""

    tokens: float
    at_us: int


def draw(quota: Quota, bucket: Bucket | None, now_us: int, wanted: int) -> tuple[Bucket, int]:
    """The bucket afterwards, and how many of the wanted are granted. A new guest's bucket is full."""
    if bucket is None:
        bucket = Bucket(quota.burst, now_us)
    # A clock that was put back must not cost the guest anything.
    seconds = max(0, now_us - bucket.at_us) / 1_000_000
    tokens = min(float(quota.burst), bucket.tokens + seconds * quota.per_second)
    granted = min(wanted, int(tokens))
    return Bucket(tokens - granted, now_us), granted


# --- questions -> groups ---


def find_ask_mistake(ask: ScoreAsk) -> str:
    """What makes a question one that cannot be booked; empty if nothing. A guest's router sends no such thing."""
    if not 1 <= len(ask.request_id) <= MOST_ID_CHARACTERS or "\0" in ask.request_id:
        return "the request id does not have 1 to 200 characters other than NUL"
    if len(ask.token) != TOKEN_BYTES:
        return f"a token of {len(ask.token)} bytes"
    # Answer and books repeat them.
    if max(len(ask.model), len(ask.version)) > MOST_ID_CHARACTERS:
        return f"a model or a version of more than {MOST_ID_CHARACTERS} characters"
    return ""


class Asked(NamedTuple):
    """A question, and the partition to which its answer goes."""

    ask: ScoreAsk
    partition: int


class Answered(NamedTuple):
    """A question and its answer."""

    asked: Asked
    answer: ScoreAnswer


@dataclass(frozen=True, slots=True)
class AskedGroup:
    """Questions about one version, with features of one kind of source."""

    model: HostModel
    is_parity: bool
    items: list[Asked]

    @property
    def tokens(self) -> list[bytes]:
        """Who is asked about, one entry a question."""
        return [asked.ask.token for asked in self.items]


#: Model, version -> what the host needs of it, if the guest that asks is the guest of that model.
FindModel = Callable[[str, str], HostModel | Refusal]


def admit(
    asked: Sequence[Asked], granted: int, now_us: int, find_model: FindModel
) -> tuple[list[AskedGroup], list[Answered]]:
    """The questions of one guest: those to be looked up, and the answers to the others. The first ones are granted."""
    groups: dict[tuple[str, str, bool], AskedGroup] = {}
    refused: list[Answered] = []
    stale_ms = now_us // 1000 - STALE_MS
    for place, item in enumerate(asked):
        ask = item.ask
        key = (ask.model, ask.version, ask.purpose is Purpose.PARITY)
        group = groups.get(key)
        if place >= granted:
            refused.append(_refuse(item, Problem(ScoreReason.QUOTA_EXCEEDED), now_us))
        elif ask.wait_until_ms < stale_ms:
            refused.append(_refuse(item, Problem(ScoreReason.LATE), now_us))
        elif group is not None:
            group.items.append(item)
        else:
            model = find_model(ask.model, ask.version)
            if isinstance(model, Refusal):
                refused.append(_refuse(item, Problem(model.reason), now_us))
            else:
                groups[key] = AskedGroup(model, key[2], [item])
    return list(groups.values()), refused


# --- groups -> answers ---


def answer(
    group: AskedGroup,
    persons: Sequence[str | None],
    rows: Mapping[str, PersonFeatures | None] | Problem,
    quantum: int,
    now_us: int,
) -> list[Answered]:
    """One answer a question. `persons` are the ids behind the tokens, `rows` has an entry for each of them.

    A `Problem` instead of rows is everybody's. A guest learns the reason and a column's name, and no more than that.
    """
    if isinstance(rows, Problem):
        return [_refuse(item, rows, now_us) for item in group.items]
    values, places, problems = group.model.rows.read(_values(person, rows) for person in persons)
    told = iter(quantise_logits(group.model.half.score(values)[:, 0]).tolist() if places else ())
    return [
        _refuse(item, problems[place], now_us)
        if place in problems
        else _give(item, share_logit(next(told), quantum), quantum, now_us)
        for place, item in enumerate(group.items)
    ]


def _values(person: str | None, rows: Mapping[str, PersonFeatures | None]) -> Mapping[str, object] | None:
    found = None if person is None else rows.get(person)
    return None if found is None else found.values


def _give(item: Asked, value: int, quantum: int, now_us: int) -> Answered:
    return _answered(item, ScoreReason.NONE, value, quantum, now_us, "")


def _refuse(item: Asked, problem: Problem, now_us: int) -> Answered:
    return _answered(item, problem.reason, 0, 0, now_us, problem.detail)


def _answered(item: Asked, reason: ScoreReason, value: int, quantum: int, now_us: int, detail: str) -> Answered:
    ask = item.ask
    return Answered(
        item,
        ScoreAnswer(
            request_id=ask.request_id,
            model=ask.model,
            version=ask.version,
            purpose=ask.purpose,
            reason=reason,
            value=value,
            quantum=quantum,
            asked_at_us=ask.asked_at_us,
            answered_at_us=now_us,
            detail=detail,
        ),
    )


def audit(guest: str, answered: Answered) -> AnswerAudited:
    """The entry in the host's books."""
    ask, said = answered.asked.ask, answered.answer
    return AnswerAudited(
        request_id=ask.request_id,
        guest=guest,
        token=ask.token,
        model=ask.model,
        version=ask.version,
        purpose=ask.purpose,
        reason=said.reason,
        value=said.value,
        quantum=said.quantum,
        asked_at_us=said.asked_at_us,
        answered_at_us=said.answered_at_us,
    )
