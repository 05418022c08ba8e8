"""Results that came before they were asked for: a repeated request finds its own here, for it gets no second one."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.topic_reader import ANSWER_SECONDS, POLL_SECONDS, QUIET, BrokerUnavailableError
from schemas.codec import DecodeError, decode
from schemas.scoring import Purpose, ScoreJoined

#: Joiners know copies of a request for 2 minutes after its deadline, if the settings do not say otherwise.
RECALL_SECONDS = 900
#: At 250 bytes each 25 MB.
MOST_RECALLED = 100_000
MOST_RECORDS = 1_000


class RecalledResults:
    """The newest results by request id, as they lie on the topic. Not thread-safe."""

    def __init__(self, most: int = MOST_RECALLED) -> None:
        self._most = most
        self._values: OrderedDict[bytes, bytes] = OrderedDict()

    def keep(self, key: bytes, value: bytes) -> None:
        """Remember a result; the oldest one is forgotten for it."""
        self._values[key] = value
        while len(self._values) > self._most:
            self._values.popitem(last=False)

    def find(self, key: bytes, purpose: Purpose) -> ScoreJoined | None:
        """The result of the request, if it is known and can be read."""
        value = self._values.get(key)
        if value is None:
            return None
        try:
            result = decode(value)
        except DecodeError:
            return None
        return result if isinstance(result, ScoreJoined) and result.purpose is purpose else None


def read_back(reading: Mapping[str, Any], topic: str, partitions: int, take: Callable[[list[Message]], None]) -> None:
    """Hand over what came in the last `RECALL_SECONDS` until now. Raises `BrokerUnavailableError`."""
    since_ms = int((time.time() - RECALL_SECONDS) * 1000)
    consumer = Consumer({**reading, "enable.partition.eof": True}, logger=QUIET)
    try:
        # Not asked of the consumer that follows: beside its fetches the answer was seen to take a minute.
        ends = ask_ends(consumer, topic, partitions)
        asked = [TopicPartition(topic, partition, since_ms) for partition in ends]
        found = {place.partition: place.offset for place in consumer.offsets_for_times(asked, ANSWER_SECONDS)}
        unread = {partition: end for partition, end in ends.items() if 0 <= found[partition] < end}
        consumer.assign(
            [TopicPartition(topic, p, max(found[p], end - MOST_RECALLED)) for p, end in unread.items()],
        )
        deadline = time.monotonic() + ANSWER_SECONDS
        while unread:
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(f"{topic} was not read back within {ANSWER_SECONDS:.0f} s")
            messages = consumer.consume(MOST_RECORDS, POLL_SECONDS)
            take([message for message in messages if message.error() is None])
            _cross_off(unread, messages)
    except KafkaException as error:
        raise BrokerUnavailableError(f"{topic} cannot be read back: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _cross_off(unread: dict[int, int], messages: list[Message]) -> None:
    """Remove the partitions that were read up. Their ends may lie behind marks of transactions, which nobody sees."""
    for message in messages:
        error, partition, offset = message.error(), message.partition() or 0, message.offset() or 0
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            continue
        if error is not None or offset + 1 >= unread.get(partition, 0):
            unread.pop(partition, None)


def ask_ends(consumer: Consumer, topic: str, partitions: int) -> dict[int, int]:
    """Partition -> where its committed records end now. Raises `BrokerUnavailableError`."""
    deadline = time.monotonic() + ANSWER_SECONDS
    ends: dict[int, int] = {}
    while len(ends) < partitions:
        try:
            ends[len(ends)] = consumer.get_watermark_offsets(TopicPartition(topic, len(ends)), ANSWER_SECONDS)[1]
        except KafkaException as problem:
            # A partition that was just made has no leader for a moment.
            if time.monotonic() > deadline:
                text = f"the broker does not tell where {topic} ends: {problem.args[0].str()}"
                raise BrokerUnavailableError(text) from None
            time.sleep(POLL_SECONDS)
    return ends
