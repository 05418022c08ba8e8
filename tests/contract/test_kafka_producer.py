"""What the producer does when the client library does not come back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streams.engine import kafka_producer
from streams.engine.kafka_producer import KafkaProducer
from streams.engine.kafka_settings import KafkaTimeouts
from streams.engine.ports import ClientError, ClientErrorKind

over = threading.Event()


class StuckClient:
    """Takes every call, and returns from none but `purge` before the test is over."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self.purged = False

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            over.wait()

        return call

    def purge(self) -> None:
        self.purged = True


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaProducer]:
    over.clear()
    monkeypatch.setattr(kafka_producer, "Producer", StuckClient)
    monkeypatch.setattr(kafka_producer, "OVERRUN_SECONDS", 0.05)
    yield KafkaProducer({}, "vfl.bank.train.0", KafkaTimeouts(call_seconds=0.05), lambda: None)
    over.set()


@pytest.mark.parametrize(
    "call",
    [
        lambda producer: producer.init(),
        lambda producer: producer.send_offsets({}),
        lambda producer: producer.commit(),
    ],
    ids=["init", "send_offsets", "commit"],
)
def test_a_call_that_never_returns_is_unanswered(
    producer: KafkaProducer, call: Callable[[KafkaProducer], None]
) -> None:
    with pytest.raises(ClientError, match="did not come back in time") as caught:
        call(producer)
    assert caught.value.kind is ClientErrorKind.TIMED_OUT


def test_a_stuck_client_is_left_alone(producer: KafkaProducer) -> None:
    """Another call would wait as well, and so would cleaning up."""
    with pytest.raises(ClientError, match="did not come back"):
        producer.commit()
    with pytest.raises(ClientError, match="stuck in an earlier call"):
        producer.send_offsets({})
    producer.close()
    assert not producer._producer.purged  # type: ignore[attr-defined]
