"""The parity check: scores the hold-out of every new model online and offline, and lets the version be served if equal.

    registry, events, serving --> what is not checked yet --> requests (purpose `parity`) ==> audit --> ServingVersion

One a guest. It keeps nothing: after a crash a check begins again, under new request ids. A verdict is taken back with
`isthmus model recheck`, which deletes it.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition

from consumers.party import Party
from consumers.process import run_process
from infra.connection import connect_as
from infra.topics import PARITY, events_topic, registry_topic, requests_topic, score_audit_topic, serving_topic
from schemas.codec import DecodeError, decode, encode
from schemas.evaluation import EvaluationReport, ReportStored
from schemas.models import ModelRegistered
from schemas.record import Blob
from schemas.scoring import Outcome, Purpose, ScoreAudited, ScoreReason, ScoreRequested
from schemas.serving import ServingVersion
from streams.engine.blobs import SealedBlobs
from streams.engine.partitioner import partition_of
from streams.engine.ports import StorageError
from streams.machines.score.parity import compare_scores, reference_of

_log = logging.getLogger("isthmus.parity")

#: Between two looks for models that were registered.
LOOK_SECONDS = 1.0
#: A host that is away is asked again after so long.
RETRY_SECONDS = 15.0
#: Enough for a host to load its table.
DEADLINE_SECONDS = 120.0
#: Requests on their way at a time: well below what routers and hosts take at once.
IN_FLIGHT = 500
#: What says that a party is away, not that scores differ.
ABSENT = frozenset(
    {
        ScoreReason.LATE,
        ScoreReason.DEADLINE_EXCEEDED,
        ScoreReason.OVERLOADED,
        ScoreReason.QUOTA_EXCEEDED,
        # A host's registry learns of a model a little later than the guest's; a table may be out of reach for a while.
        ScoreReason.UNKNOWN_MODEL,
        ScoreReason.MODEL_UNAVAILABLE,
        ScoreReason.SOURCE_FAILED,
    }
)


class NotNowError(Exception):
    """The check cannot be made now; the text says why."""


@dataclass
class Topics:
    """What the check knows of models, folded from three topics."""

    models: dict[str, ModelRegistered] = field(default_factory=dict)
    reports: dict[str, Blob] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)

    def take(self, key: str, value: bytes | None) -> None:
        """One record of one of the topics; a deleted verdict is none."""
        if value is None:
            self.checked.discard(key)
            return
        try:
            record = decode(value)
        except DecodeError:
            return
        match record:
            case ModelRegistered():
                self.models[key] = record
            case ReportStored(job_id=job_id, report=report):
                self.reports[job_id] = report
            case ServingVersion():
                self.checked.add(key)

    def unchecked(self, guest: str) -> Iterator[tuple[str, ModelRegistered]]:
        """Models of this guest without a verdict, oldest first."""
        for key, model in self.models.items():
            if key not in self.checked and model.spec.guest.party == guest and model.job_id in self.reports:
                yield key, model


class ParityCheck:
    """The process."""

    def __init__(self, party: Party) -> None:
        self._party = party
        self._ending = threading.Event()
        self._known = Topics()
        self._retry_at: dict[str, float] = {}
        base = {**connect_as(party.settings, PARITY), "logger": _log}
        reader = {**base, "group.id": f"vfl.{party.name}.score-parity.v1", "enable.auto.commit": False}
        self._reader = Consumer({**reader, "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
        self._audit = Consumer({**reader, "isolation.level": "read_committed", "fetch.wait.max.ms": 20})
        self._producer = Producer({**base, "enable.idempotence": True, "linger.ms": 1})

    def run(self) -> None:
        """Check what comes until `stop`."""
        name = self._party.name
        self._assign(self._reader, (registry_topic(name), events_topic(name), serving_topic(name)), 0)
        while not self._ending.is_set():
            self._follow()
            for key, model in list(self._known.unchecked(name)):
                if self._ending.is_set() or time.monotonic() < self._retry_at.get(key, 0):
                    continue
                try:
                    self._check(key, model)
                except NotNowError as problem:
                    _log.warning("%s is not checked yet: %s", key, problem)
                    self._retry_at[key] = time.monotonic() + RETRY_SECONDS
        self._reader.close()
        self._audit.close()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._ending.set()

    def _follow(self) -> None:
        for message in self._reader.consume(500, LOOK_SECONDS):
            if message.error() is None:
                self._known.take((message.key() or b"").decode("utf-8", "replace"), message.value())

    def _check(self, key: str, model: ModelRegistered) -> None:
        report = self._load_report(model)
        _log.info("checking %s: %d rows", key, len(report.rows))
        hosts = sorted(host.party for host in model.spec.hosts)
        # One row first: whoever is away shows in it, and does not get thousands of questions meanwhile.
        self._score(model, report, range(1))
        audited = self._score(model, report, range(len(report.rows)))
        verdict = compare_scores(report.rows, hosts, model.spec.serve, audited)
        edges, shares = reference_of(verdict.points)
        record = ServingVersion(
            model=model.name,
            version=model.version,
            model_sha256=model.model_sha256,
            passed=verdict.passed,
            rows=verdict.rows,
            differences=verdict.differences,
            detail=verdict.detail,
            alone_weights=report.guest_weights,
            alone_intercept=report.guest_intercept,
            reference_edges=edges,
            reference_shares=shares,
            checked_at_ms=time.time_ns() // 1_000_000,
        )
        self._producer.produce(serving_topic(self._party.name), encode(record), key.encode(), partition=0)
        if self._producer.flush(DEADLINE_SECONDS):
            raise NotNowError("the broker does not take the verdict")
        self._known.checked.add(key)
        _log.info("%s: %d rows, %d differences %s", key, verdict.rows, verdict.differences, verdict.detail)

    def _score(self, model: ModelRegistered, report: EvaluationReport, places: range) -> dict[int, ScoreAudited]:
        """The online scores of these rows. Raises `NotNowError` when a party is away."""
        run = f"parity-{uuid.uuid4().hex}-"
        audit = score_audit_topic(self._party.name)
        self._assign(self._audit, (audit,), OFFSET_END)
        found: dict[int, ScoreAudited] = {}
        pending = iter(places)
        sent, deadline = 0, time.monotonic() + DEADLINE_SECONDS
        while len(found) < len(places):
            while sent - len(found) < IN_FLIGHT and (place := next(pending, None)) is not None:
                self._request(f"{run}{place}", model, report.rows[place].id)
                sent += 1
            self._producer.poll(0)
            before = len(found)
            for message in self._audit.consume(500, 0.1):
                if message.error() is None and (message.key() or b"").startswith(run.encode()):
                    self._take(message.value() or b"", run, found)
            if len(found) > before:
                deadline = time.monotonic() + DEADLINE_SECONDS
            if self._ending.is_set() or time.monotonic() > deadline:
                raise NotNowError(f"{len(found)} of {sent} rows were scored: do router and joiner run?")
        return found

    def _take(self, value: bytes, run: str, found: dict[int, ScoreAudited]) -> None:
        record = decode(value)
        if not isinstance(record, ScoreAudited) or record.purpose is not Purpose.PARITY:
            return
        if record.outcome is not Outcome.SCORED and record.reason in ABSENT:
            raise NotNowError(f"{record.party} is {record.reason}: does it run `isthmus score run`?")
        found[int(record.request_id.removeprefix(run))] = record

    def _request(self, request_id: str, model: ModelRegistered, entity_id: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        reference = f"{model.name}/{model.version}"
        deadline_ms = now_ms + int(DEADLINE_SECONDS * 1000)
        request = ScoreRequested(request_id, reference, entity_id, now_ms, deadline_ms, (), Purpose.PARITY)
        topic, key = requests_topic(self._party.name), request_id.encode()
        partition = partition_of(key, self._party.settings.topics.partitions)
        self._producer.produce(topic, encode(request), key, partition=partition)

    def _load_report(self, model: ModelRegistered) -> EvaluationReport:
        blob = self._known.reports[model.job_id]
        try:
            report = decode(SealedBlobs(self._party.objects, self._party.keyring).load(blob))
        except (StorageError, DecodeError) as error:
            raise NotNowError(f"the evaluation report cannot be read: {error}") from error
        if not isinstance(report, EvaluationReport):
            raise NotNowError(f"the evaluation report is a {type(report).__name__}")
        return report

    def _assign(self, consumer: Consumer, topics: tuple[str, ...], offset: int) -> None:
        """Read all partitions from their beginning (0) or from what is committed now on (`OFFSET_END`)."""
        places = []
        for topic in topics:
            count = len(consumer.list_topics(topic, DEADLINE_SECONDS).topics[topic].partitions)
            for partition in range(count):
                start = offset
                if offset == OFFSET_END:
                    # An offset of our own: the end as of now, not as of whenever the consumer gets round to it.
                    start = consumer.get_watermark_offsets(TopicPartition(topic, partition), DEADLINE_SECONDS)[1]
                places.append(TopicPartition(topic, partition, start))
        consumer.assign(places)


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 0), default=0, help="There is one parity check a party: 0.")
def main(home: Path, slot: int) -> None:
    """Run the parity check of a party."""
    run_process(home, PARITY, ParityCheck)


if __name__ == "__main__":
    main()
