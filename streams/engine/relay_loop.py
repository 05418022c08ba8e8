"""The at-least-once loop, for processes that keep no state: what they do twice, their readers see to be the same.

    turn:   1. poll        what is there; a group's rebalance is served
            2. handle      outputs are on their way as soon as they are computed
            3. reap        positions move past records all of whose outputs the broker has
            4. commit      those positions, now and then and without waiting

Handling does not wait for the delivery of what was handled before; what is under way is bounded, and nothing more is
read while there is too much of it. A broker that is away is waited for.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaException, Producer

from streams.engine import failpoints
from streams.engine.dead_letter import UndeliverableError, make_dead_letter
from streams.engine.errors import EngineError, LogUnavailableError
from streams.engine.kafka_errors import text_of
from streams.engine.kafka_settings import CLIENT, PRODUCER, KafkaTimeouts
from streams.engine.ports import OutputRecord
from streams.engine.relay_lanes import Lanes
from streams.engine.relay_parcels import Flight, Parcel
from streams.engine.relay_ports import Later, RelayHandler, RelayPlaces, StampedRecord
from streams.engine.relay_reader import RelayReader

_log = logging.getLogger(__name__)

#: Records that are handled together. Under load this sets how much is computed at once, and for how long others wait.
POLL_RECORDS = 500
#: Under way at most; a second's work and more at any speed that was measured.
MOST_RECORDS = 20_000
MOST_OUTPUTS = 40_000
#: How long the loop waits for deliveries when there is too much under way, until it serves the group again.
ROOM_SECONDS = 0.02
#: For deliveries, before partitions are given away and before the end. What is late is done again by the next owner.
HAND_OVER_SECONDS = 2.0
#: librdkafka gives up on a record after five minutes by default; a broker may be away for longer.
_FOR_EVER = 0


class RelayLoop:
    """One member of a group, and an idempotent producer.

    >>> RelayLoop(places, handler).run()
    """

    def __init__(
        self,
        places: RelayPlaces,
        handler: RelayHandler,
        *,
        timeouts: KafkaTimeouts | None = None,
        poll_records: int = POLL_RECORDS,
        most_outputs: int = MOST_OUTPUTS,
    ) -> None:
        self._places = places
        self._handler = handler
        self._poll_records = poll_records
        self._most_outputs = most_outputs
        self._flight = Flight()
        self._lanes = Lanes()
        self._stopping = False
        #: Turns that were made, for whoever watches.
        self.turns = 0
        base: dict[str, Any] = {
            "bootstrap.servers": places.bootstrap_servers,
            **CLIENT,
            **places.properties,
            "client.id": places.instance_id,
            "logger": _log,
        }
        self._reader = RelayReader(places, base, timeouts or KafkaTimeouts(), self._flight, self._deliver)
        properties: dict[str, Any] = {
            **base,
            **PRODUCER,
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": _FOR_EVER,
            "error_cb": self._reader.on_error,
        }
        self._producer = Producer(properties)
        self._producers = [self._producer]
        self._patient = self._producer
        if places.patient:
            self._patient = Producer({**properties, "linger.ms": places.patience_ms})
            self._producers.append(self._patient)

    def run(self) -> None:
        """Process until `stop` is called. Raises `EngineError`; whatever it raises, starting again is safe."""
        try:
            self.start()
            while not self._stopping:
                self.turn()
        finally:
            self.close()

    def start(self) -> None:
        """Become a member of the group."""
        self._reader.join()
        _log.info("%s at %s runs", self._places.process, self._places.party)

    def stop(self) -> None:
        """Ask `run` to end. Fit for a signal handler and for another thread."""
        self._stopping = True

    def turn(self) -> None:
        """Read what is there, and see to what is under way."""
        for producer in self._producers:
            producer.poll(0)
        self._collect()
        self._flight.reap()
        self._check_end()
        if self._flight.outputs > self._most_outputs or self._flight.records > MOST_RECORDS:
            self._reader.hold()
            self._make_room()
        else:
            records = self._reader.poll(self._poll_records)
            self._check_end()
            if records:
                self._process(records)
        self._reader.commit()
        self.turns += 1

    def close(self) -> None:
        """Commit what is delivered, and leave. What is not is done again by whoever comes next."""
        self._lanes.close()
        self._deliver()
        self._reader.close(HAND_OVER_SECONDS)
        for producer in self._producers:
            with contextlib.suppress(KafkaException):
                producer.purge()

    def _deliver(self) -> None:
        """Have the broker take as much as it will in a short time."""
        for producer in self._producers:
            with contextlib.suppress(KafkaException):
                producer.flush(HAND_OVER_SECONDS)
        self._flight.reap()

    def _make_room(self) -> None:
        for producer in self._producers:
            producer.poll(ROOM_SECONDS / len(self._producers))

    # --- handling ---

    def _process(self, records: Sequence[StampedRecord]) -> None:
        failpoints.reach(failpoints.AFTER_POLL)
        parcel = self._flight.open(records)
        opened: list[tuple[StampedRecord, Any]] = []
        for record in records:
            try:
                opened.append((record, self._handler.open(record)))
            except UndeliverableError as error:
                self._set_aside(record, str(error), parcel)
        if opened:
            self._handle(opened, parcel)
        self._flight.close(parcel)
        failpoints.reach(failpoints.AFTER_PRODUCE)

    def _handle(self, opened: Sequence[tuple[StampedRecord, Any]], parcel: Parcel) -> None:
        """All at once; if that fails one by one, so that one record cannot keep the others from their outcome."""
        try:
            for step in self._handler.handle([item for _, item in opened]):
                failpoints.reach(failpoints.AFTER_STEP)
                if isinstance(step, Later):
                    parcel.add()
                    self._lanes.submit(parcel, step)
                else:
                    self._produce(step, parcel)
        except EngineError:
            raise
        except Exception as error:  # noqa: BLE001  (logged, and told in the dead letters)
            _log.exception("%d records cannot be handled", len(opened))
            if len(opened) == 1:
                self._set_aside(opened[0][0], f"cannot be handled: {type(error).__name__}: {error}", parcel)
                return
            for one in opened:
                self._handle([one], parcel)

    def _collect(self) -> None:
        """Send what was left for later and is done."""
        while (result := self._lanes.take()) is not None:
            parcel, outputs = result
            if isinstance(outputs, Exception):
                _log.error("a work for later failed", exc_info=outputs)
                for record in parcel.records:
                    self._set_aside(record, f"cannot be handled: {type(outputs).__name__}: {outputs}", parcel)
            else:
                self._produce(outputs, parcel)
            parcel.end_one()

    def _set_aside(self, record: StampedRecord, reason: str, parcel: Parcel) -> None:
        places = self._places
        _log.warning("%s[%d] %d is set aside: %s", record.topic, record.partition, record.offset, reason)
        self._produce([make_dead_letter(places.dead_letter, places.party, places.process, record, reason)], parcel)

    def _produce(self, outputs: Sequence[OutputRecord], parcel: Parcel) -> None:
        delivered, patient = parcel.delivered, self._places.patient
        for output in outputs:
            parcel.add()
            produce = (self._patient if output.topic in patient else self._producer).produce
            while True:
                try:
                    produce(output.topic, output.value, output.key, output.partition, on_delivery=delivered)
                    break
                except BufferError:
                    # librdkafka's own queue is full: its bound is in bytes.
                    self._make_room()
                    self._check_end()
                except KafkaException as error:
                    raise LogUnavailableError(f"cannot write to {output.topic}: {text_of(error)}") from error

    def _check_end(self) -> None:
        if self._reader.end is not None:
            raise self._reader.end
        if self._flight.failures:
            topic, error = self._flight.failures[0]
            raise LogUnavailableError(f"{topic} did not take a record: {error.str()}")
