"""What a party reveals of its steps in one job, from its books and its topics: what `replay.py` executes.

The secrets of the job's streams are derived again: those that the party sent in from its own secrets, those of its
peers by unwrapping the keys that their records brought along, for which the party's own keys of that time are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from schemas.audit import CrossedEnvelope, EnvelopesCrossed, TakenRecord
from schemas.codec import decode
from schemas.cohorts import COHORT
from schemas.envelope import SealedRecord
from schemas.revelations import RevealedStep, RevealedStream
from streams.engine.agreement import MARK_BYTES
from streams.engine.seal import EpochKey, Keyring, Stream, stream_of

#: The bytes of an input, as it lies on its topic.
Fetch = Callable[[EnvelopesCrossed, TakenRecord], bytes]


def gather_steps(books: Iterable[EnvelopesCrossed]) -> list[EnvelopesCrossed]:
    """One entry a step, in the order of their commits: what a step with very much to tell told in pieces is joined."""
    steps: list[EnvelopesCrossed] = []
    newest: dict[str, int] = {}
    for entry in books:
        if entry.taken is None and not entry.due and entry.stage in newest:
            step = steps[newest[entry.stage]]
            steps[newest[entry.stage]] = replace(step, crossed=(*step.crossed, *entry.crossed))
        else:
            newest[entry.stage] = len(steps)
            steps.append(entry)
    return steps


def reveal_steps(
    keyring: Keyring, job_id: str, steps: Iterable[EnvelopesCrossed], fetch: Fetch
) -> Iterator[RevealedStream | RevealedStep]:
    """The steps of one job, each after the secrets that it needs. Raises `SealError`, and whatever `fetch` raises."""
    secrets = _Secrets(keyring, job_id)
    for step in steps:
        value, taken = b"", step.taken
        if taken is not None and taken.sender != keyring.party:
            value = fetch(step, taken)
            if taken.sender:
                yield from secrets.of_received(value)
        elif taken is not None and taken.origin.partition(":")[0] == COHORT:
            envelope = decode(fetch(step, taken))
            assert isinstance(envelope, SealedRecord)
            value = keyring.open(envelope)
        for crossed in step.crossed:
            if crossed.is_sent:
                yield from secrets.of_sent(crossed, step.manifest[:MARK_BYTES])
        yield RevealedStep(step, value)


class _Secrets:
    """Which epochs of which streams were revealed already."""

    def __init__(self, keyring: Keyring, job_id: str) -> None:
        self._keyring = keyring
        self._job_id = job_id
        self._epochs: dict[Stream, EpochKey] = {}

    def of_received(self, value: bytes) -> Iterator[RevealedStream]:
        envelope = decode(value)
        assert isinstance(envelope, SealedRecord)
        stream = stream_of(envelope)
        if envelope.wrapped_key:
            epoch = EpochKey(envelope.epoch, self._keyring.unwrap_epoch_key(envelope))
            yield self._reveal(stream, envelope.manifest, epoch)

    def of_sent(self, crossed: CrossedEnvelope, mark: bytes) -> Iterator[RevealedStream]:
        stream = Stream(self._keyring.party, crossed.peer, self._job_id, crossed.origin, crossed.stage)
        if crossed.wrapped_key:
            number = self._epochs[stream].number + 1 if stream in self._epochs else 1
            yield self._reveal(stream, mark, EpochKey(number, self._keyring.epoch_key(stream, number, mark)))

    def _reveal(self, stream: Stream, mark: bytes, epoch: EpochKey) -> RevealedStream:
        self._epochs[stream] = epoch
        return RevealedStream(
            stream.sender,
            stream.receiver,
            stream.origin,
            stream.stage,
            mark,
            epoch.number,
            self._keyring.stream_secret(stream, mark, epoch),
        )
