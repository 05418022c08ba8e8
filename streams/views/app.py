"""The live view of a party's jobs: a faust app that folds the event topic into one compacted record a job.

    vfl.job.events.<party>  --read_committed-->  fold  -->  vfl.job.view.<party>

The view topic is the changelog of the app's table: what consumers read is what a restarted process restores itself
from, so there is no second copy to go wrong. Faust commits its position in the events after the view was written; a
crash in between makes it read some events again, which the fold recognises by their places. The partition of a job is
the same on both topics.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust
from mode.supervisors import CrashingSupervisor

from schemas.views import JobStatus
from streams.views import avro
from streams.views.brokers import broker_options
from streams.views.committed import CommittedTransport
from streams.views.job_status import ENDED, Place, apply_event, note_silence

_log = logging.getLogger("isthmus.view")

#: Between two looks for jobs of which nothing was heard.
SILENCE_LOOK_SECONDS = 5.0
#: Below faust's request timeout; how long the broker waits for a view that died, when no other takes its place.
SESSION_SECONDS = 20.0
HEARTBEAT_SECONDS = 3.0


@dataclass(frozen=True)
class ViewPlaces:
    """Where a view reads and writes; `folder` is for files that faust insists on, none of which matter."""

    party: str
    #: librdkafka's properties, see `brokers.py`.
    connection: Mapping[str, Any] = field(repr=False)
    events_topic: str
    view_topic: str
    group_id: str
    #: The same after every restart: a new process takes a killed one's partitions without waiting for it to time out.
    instance_id: str
    folder: Path


class StatusTable(faust.Table):  # type: ignore[type-arg]
    """A table whose process ends when the view topic refuses a record.

    Faust itself would only warn and commit its position: the end of a job could be missing from the view for ever.
    """

    def send_changelog(self, partition: int | None, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        """Send a status to the view topic, in the contract's format whatever faust would choose for a table."""
        sent = super().send_changelog(partition, key, value, "raw", avro.NAME)
        sent.add_done_callback(_end_if_lost)
        return sent


def _end_if_lost(sent: Any) -> None:
    if not sent.cancelled() and (error := sent.exception()) is not None:
        _log.critical("the view topic did not take a status, ending to start again: %r", error)
        # At once: an orderly end would commit the position.
        os._exit(1)


def make_app(places: ViewPlaces) -> faust.App:
    """The app, not started. Both topics must exist, with equally many partitions. Raises as `broker_options`."""
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
        Table=StatusTable,
    )
    app.transport = CommittedTransport(app.conf.broker_consumer, app)
    schema: faust.Schema[bytes, Any] = faust.Schema(key_type=bytes, value_serializer=avro.NAME, allow_empty=True)
    events = app.topic(places.events_topic, schema=schema)
    view = app.topic(places.view_topic, schema=schema, acks=False)
    statuses = app.Table("statuses", schema=schema, changelog_topic=view)

    # An agent that faust restarts by itself would go on behind the event at which it failed.
    @app.agent(events, name="fold", supervisor_strategy=CrashingSupervisor)
    async def fold(stream: Any) -> None:
        await _fold(stream, statuses, places.party)

    async def tell_silence() -> None:
        _tell_silence(app, statuses, places.events_topic)

    app.timer(SILENCE_LOOK_SECONDS)(tell_silence)
    return app


async def _fold(stream: Any, statuses: Any, party: str) -> None:
    incoming: AsyncIterable[Any] = stream.events()
    async for event in incoming:
        message = event.message
        if isinstance(event.value, avro.Unreadable):
            _log.warning("%s/%d@%d: %s", message.topic, message.partition, message.offset, event.value.problem)
            continue
        place = Place(message.partition, message.offset, round(message.timestamp * 1000))
        known = statuses.get(event.key)
        # A newer release may have written what this one cannot read, before somebody went back to this one.
        before = known if isinstance(known, JobStatus) else None
        after = apply_event(before, event.value, place, party)
        if after is not before:
            statuses[event.key] = after


def _tell_silence(app: Any, statuses: Any, events_topic: str) -> None:
    """Write anew the statuses of jobs that are not over: how long nothing was heard is the one thing time changes.

    Past the table: what is folded stays free of clocks.
    """
    if app.rebalancing:
        return
    mine = {assigned.partition for assigned in app.consumer.assignment() if assigned.topic == events_topic}
    now_ms = time.time_ns() // 1_000_000
    for key, status in statuses.items():
        if isinstance(status, JobStatus) and status.standing not in ENDED and status.event_partition in mine:
            statuses.send_changelog(status.event_partition, key, note_silence(status, now_ms))
