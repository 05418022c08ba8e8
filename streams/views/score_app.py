"""The live view of online scoring: a faust app that folds results and serving records into windows, kept in memory.

    vfl.score.results.<party>, vfl.model.serving.<party>  --read_committed-->  windows  -->  HTTP

It writes nothing. Positions are committed so that the group's lag shows how far behind it is; a process that starts
again reads the last 15 minutes again, however far it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust
from mode.supervisors import CrashingSupervisor

from schemas.scoring import ScoreJoined
from schemas.serving import ServingVersion
from streams.views import avro
from streams.views.brokers import broker_options
from streams.views.score_http import SharedWindows
from streams.views.score_recent import RecentTransport
from streams.views.score_window import LONGEST_US

_log = logging.getLogger("isthmus.score-view")

#: Below faust's request timeout.
SESSION_SECONDS, HEARTBEAT_SECONDS = 20.0, 3.0


@dataclass(frozen=True)
class ScoreViewPlaces:
    """What a view reads; `folder` is for files that faust insists on, none of which matter."""

    party: str
    #: librdkafka's properties, see `brokers.py`.
    connection: Mapping[str, Any] = field(repr=False)
    results_topic: str
    serving_topic: str
    group_id: str
    #: The same after every restart: a new process takes a killed one's partitions without waiting for it to time out.
    instance_id: str
    folder: Path


def make_score_app(places: ScoreViewPlaces, shared: SharedWindows) -> faust.App:
    """The app, not started. Raises `ValueError`, see `broker_options`. Both topics must exist."""
    app = faust.App(
        places.group_id,
        **broker_options(places.connection),
        store="memory://",
        datadir=str(places.folder),
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        processing_guarantee="at_least_once",
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        consumer_group_instance_id=places.instance_id,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
    )

    def mark(topic: str, partition: int) -> int | None:
        # Serving records are few, and taking them in twice changes nothing.
        offset = shared.windows.mark(partition) if topic == places.results_topic else None
        return None if offset is None else offset + 1

    app.transport = RecentTransport(
        app.conf.broker_consumer,
        app,
        recent_ms=LONGEST_US // 1000,
        whole=frozenset((places.serving_topic,)),
        mark=mark,
    )
    schema: faust.Schema[bytes, Any] = faust.Schema(key_type=bytes, value_serializer=avro.NAME, allow_empty=True)
    results = app.topic(places.results_topic, schema=schema)
    serving = app.topic(places.serving_topic, schema=schema)

    # An agent that faust restarts by itself would go on behind the record at which it failed.
    @app.agent(results, name="results", supervisor_strategy=CrashingSupervisor)
    async def follow_results(stream: Any) -> None:
        await _fold(stream, shared)

    @app.agent(serving, name="serving", supervisor_strategy=CrashingSupervisor)
    async def follow_serving(stream: Any) -> None:
        await _fold(stream, shared)

    return app


async def _fold(stream: Any, shared: SharedWindows) -> None:
    incoming: AsyncIterable[Any] = stream.events()
    async for event in incoming:
        message, record = event.message, event.value
        if isinstance(record, ScoreJoined):
            with shared.lock:
                shared.windows.fold_result(record, message.partition, message.offset, time.time_ns() // 1000)
        elif isinstance(record, ServingVersion):
            with shared.lock:
                shared.windows.fold_version(record)
        elif isinstance(record, avro.Unreadable):
            _log.warning("%s/%d@%d: %s", message.topic, message.partition, message.offset, record.problem)
