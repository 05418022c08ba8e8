"""How many partitions topics have, asked again now and then: they may be given more while processes run."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.engine.errors import LogUnavailableError
from streams.engine.kafka_errors import text_of
from streams.engine.kafka_settings import CLIENT

_log = logging.getLogger(__name__)

#: A new partition is used so late.
FRESH_SECONDS = 30.0
REQUEST_SECONDS = 10.0
#: An answer that is known already is not waited for: the old one is good enough while the broker is away.
REFRESH_SECONDS = 0.5
#: A topic that is not there is asked for no more often than this.
MISSING_SECONDS = 1.0


class PartitionCounts:
    """A client of its own. Any thread may ask."""

    def __init__(self, bootstrap_servers: str, properties: Mapping[str, Any]) -> None:
        self._servers = bootstrap_servers
        self._admin = AdminClient({**CLIENT, **properties, "bootstrap.servers": bootstrap_servers}, logger=_log)
        self._counts: dict[str, tuple[int, float]] = {}

    def __call__(self, topic: str) -> int:
        """Raises `LookupError` when there is no such topic, `LogUnavailableError` when nobody answers."""
        now = time.monotonic()
        count, fresh_until = self._counts.get(topic, (0, 0.0))
        if now < fresh_until:
            if not count:
                raise LookupError(f"there is no topic {topic}")
            return count
        try:
            found = self._admin.list_topics(topic, timeout=REFRESH_SECONDS if count else REQUEST_SECONDS).topics
        except KafkaException as error:
            if not count:
                raise LogUnavailableError(
                    f"no answer about topic {topic} from {self._servers}: {text_of(error)}; is this the broker's"
                    " address, and does it run?"
                ) from error
            self._counts[topic] = (count, now + FRESH_SECONDS)
            return count
        told = found.get(topic)
        if told is None or told.error is not None or not told.partitions:
            self._counts[topic] = (0, now + MISSING_SECONDS)
            raise LookupError(f"there is no topic {topic}")
        # Kafka only ever adds partitions; fewer are an old answer of a broker that has just come back.
        count = max(count, len(told.partitions))
        self._counts[topic] = (count, now + FRESH_SECONDS)
        return count
