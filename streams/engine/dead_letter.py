"""What cannot be processed is set aside, in the transaction that moves past it: never a crash loop, never a loss."""

from __future__ import annotations

from schemas.codec import encode
from schemas.deadletter import DeadLetter
from streams.engine.ports import InputRecord, OutputRecord

#: Of the original. With the letter's own fields it stays below Kafka's default limit of 1,048,588 bytes.
KEPT_BYTES = 900_000
KEPT_KEY_BYTES = 10_000
REASON_CHARACTERS = 2_000


class UndeliverableError(Exception):
    """The record cannot be given to the machine; the text is the reason on the dead letter."""


def make_dead_letter(topic: str, party: str, stage: str, record: InputRecord, reason: str) -> OutputRecord:
    """The letter, as a record of the party's dead letter topic. It has one partition."""
    value = record.value
    letter = DeadLetter(
        party=party,
        stage=stage,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=reason[:REASON_CHARACTERS],
        key=None if record.key is None else record.key[:KEPT_KEY_BYTES],
        value=None if value is None else value[:KEPT_BYTES],
        value_bytes=0 if value is None else len(value),
    )
    return OutputRecord(topic, 0, letter.key or b"", encode(letter))
