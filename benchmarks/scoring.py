"""Online scoring end to end: latency at 500 requests a second, throughput of one joiner, a model switch under load.

Sealing on, 20 + 20 features, a logistic model; broker, both parties and the load generator share the machine. In the
same run: the bare round trip of this broker (produce, consume), which no design on it can go below, and the same join
in faust-streaming and in quixstreams. ISTHMUS_SCORING_SECONDS shortens or lengthens the loads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks._join_rivals import JOINED, LEFT, RIGHT
from benchmarks._scoring_world import GUEST, HOST, MODEL, PERSONS, VERSIONS, ScoringWorld, person, scoring_world
from infra.topics import answers_topic, requests_topic, results_topic, routed_topic
from producers.score_client import ScoreClient, make_request
from producers.score_load import LoadReport, LoadRun
from producers.serving_client import set_alias
from producers.topic_reader import connection_of
from schemas.codec import encode
from schemas.scoring import ScoreJoined
from streams.engine.partitioner import partition_of

RATE = 500.0
SECONDS = float(os.environ.get("ISTHMUS_SCORING_SECONDS", "20"))
#: Until the broker's second compiler has seen to what is used most; without load it compiles nothing.
WARM_UP_SECONDS = 60.0
LIMITS = {"p50_ms": 10.0, "p99_ms": 30.0, "throughput": 5000, "p99_during_switch_ms": 100.0}
BACKLOG = 50_000
RIVAL_BACKLOG = 20_000
#: Between two times that a result tells of. A client takes a request's time to the millisecond.
HOPS = ("requested_routed", "routed_answered", "answered_joined", "joined_received")
ROUND_TRIPS = 1000
DEADLINE_MS = 5_000
WAIT_SECONDS = 180.0


@dataclass
class HopClock:
    """A client that notes how long each part of a request's path took, in ms, by the times in its result."""

    client: ScoreClient
    hops: dict[str, list[float]]

    def send(self, *arguments: Any, **options: Any) -> Future[ScoreJoined]:
        """As the client does."""
        future = self.client.send(*arguments, **options)
        future.add_done_callback(self._note)
        return future

    def _note(self, future: Future[ScoreJoined]) -> None:
        if future.exception() is not None:
            return
        now_us, result = time.time_ns() // 1_000, future.result()
        asked_us = result.requested_at_ms * 1_000
        times = (asked_us, result.routed_at_us, result.answered_at_us, result.joined_at_us, now_us)
        for name, since, until in zip(HOPS, times, times[1:], strict=False):
            self.hops.setdefault(name, []).append((until - since) / 1_000)


def run() -> dict[str, Any]:
    """Each figure beside its limit. Latencies with one partition a topic, which one joiner needs, and with four."""
    with scoring_world(partitions=1) as world:
        narrow, narrow_switched, hops = _measure_path(world)
        limit_ms = float(np.median(_round_trips(world.bootstrap)))
    with scoring_world() as world:
        wide, wide_switched, _ = _measure_path(world)
        joiner = _drain_backlog(world)
        rivals = {kind: _drain_rival(world.bootstrap, kind) for kind in ("faust", "quixstreams")}
        partitions = world.settings(GUEST).topics.partitions
    figures = narrow.percentiles()
    return {
        "requests_per_second": RATE,
        **figures,
        **{f"{name}_at_{partitions}_partitions": value for name, value in wide.percentiles().items()},
        "lost": sum(report.lost for report in (narrow, narrow_switched, wide, wide_switched)),
        "outcomes": narrow.mapping()["outcomes"],
        "hops_p50_ms": {name: float(np.median(hop)) for name, hop in hops.items()},
        "limit_roundtrip_ms": limit_ms,
        "ratio_to_roundtrip": figures["p50_ms"] / limit_ms,
        "p99_during_switch_ms": narrow_switched.percentiles()["p99_ms"],
        "throughput": joiner,
        "throughput_faust": rivals["faust"],
        "throughput_quixstreams": rivals["quixstreams"],
        "limits": LIMITS,
    }


def _measure_path(world: ScoringWorld) -> tuple[LoadReport, LoadReport, dict[str, list[float]]]:
    """A steady load, one with a switch, and the hops of the steady one, of a world that has worked for a while."""
    world.start(HOST, "score-host")
    world.start(GUEST, "score-router", "score-joiner")
    hops: dict[str, list[float]] = {}
    _load(world, WARM_UP_SECONDS)
    steady = _load(world, SECONDS, hops)
    switched = _load_with_switch(world)
    world.stop()
    return steady, switched, hops


def _load(world: ScoringWorld, seconds: float, hops: dict[str, list[float]] | None = None) -> LoadReport:
    ids = [person(number) for number in range(PERSONS)]
    settings = world.settings(GUEST)
    with ScoreClient(settings.party, connection_of(settings)) as client:
        clock = HopClock(client, {} if hops is None else hops)
        return LoadRun(clock, ids, MODEL, rate=RATE, seconds=seconds, deadline_ms=DEADLINE_MS).run()


def _load_with_switch(world: ScoringWorld) -> LoadReport:
    """The alias changes in the middle of each of some short loads; the latencies are of the requests around that."""
    settings = world.settings(GUEST)
    switch = threading.Timer(1.0, lambda: set_alias(settings, f"{MODEL}@live", VERSIONS[1]))
    switch.start()
    report = _load(world, 2.0)
    switch.join()
    return report


def _round_trips(bootstrap: str) -> list[float]:
    """Milliseconds from producing a record to having it, one at a time."""
    topic = "plain"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    reader = _reader(bootstrap, topic, 1)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    seconds: list[float] = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        producer.produce(topic, b"x" * 200)
        producer.poll(0)
        while (message := reader.poll(1.0)) is None or message.error() is not None:
            pass
        seconds.append(time.perf_counter() - began)
    reader.close()
    return [1000 * each for each in seconds]


def _drain_backlog(world: ScoringWorld) -> float:
    """Scores a second of one joiner that finds requests and answers waiting. (Router and host have done theirs.)"""
    settings = world.settings(GUEST)
    partitions = settings.topics.partitions
    before = _count(world.bootstrap, answers_topic(GUEST)) + _count(world.bootstrap, routed_topic(GUEST))
    producer = Producer({"bootstrap.servers": world.bootstrap, "linger.ms": 5})
    for number in range(BACKLOG):
        request = make_request(person(number % PERSONS), MODEL, 900_000, None, None)
        key = request.request_id.encode()
        producer.produce(requests_topic(GUEST), encode(request), key, partition=partition_of(key, partitions))
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush()
    world.start(HOST, "score-host")
    world.start(GUEST, "score-router")
    _await_rest(world, before)
    world.stop()
    reader = read_results(world)
    world.start(GUEST, "score-joiner")
    rate = _rate(reader, BACKLOG)
    world.stop()
    return rate


def _await_rest(world: ScoringWorld, before: int) -> None:
    """Wait until router and host have nothing left to say: what they write does not grow for two seconds."""
    deadline = time.monotonic() + WAIT_SECONDS
    last, since = before, time.monotonic()
    while time.monotonic() < deadline:
        now = _count(world.bootstrap, answers_topic(GUEST)) + _count(world.bootstrap, routed_topic(GUEST))
        if now != last:
            last, since = now, time.monotonic()
        elif now > before and time.monotonic() - since > 2.0:
            return
        time.sleep(0.1)
    raise RuntimeError("router and host did not come to rest")


def _drain_rival(bootstrap: str, kind: str) -> float:
    """The same join by a stock stream processor."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topics = [NewTopic(name, 1, 1) for name in (LEFT, RIGHT, JOINED)]
    if kind == "faust":
        topics.append(NewTopic("rival-faust-waiting-changelog", 1, 1, config={"cleanup.policy": "compact"}))
    for future in admin.create_topics(topics).values():
        future.result()
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for number in range(RIVAL_BACKLOG):
        for topic in (LEFT, RIGHT):
            producer.produce(topic, json.dumps({"part": number}).encode(), f"r{number}".encode())
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush()
    reader = _reader(bootstrap, JOINED, 1)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks._join_rivals", kind, bootstrap, folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                rate = _rate(reader, RIVAL_BACKLOG)
            finally:
                process.kill()
    for future in admin.delete_topics([LEFT, RIGHT, JOINED]).values():
        future.result()
    while set(admin.list_topics(timeout=10).topics) & {LEFT, RIGHT, JOINED}:
        time.sleep(0.1)
    return rate


def _rate(reader: Consumer, count: int) -> float:
    """Records a second, from the first one on. Raises `RuntimeError` when they do not come."""
    seen, began, first = 0, time.monotonic(), 0
    deadline = began + WAIT_SECONDS
    while seen < count:
        messages = [message for message in reader.consume(5000, 0.05) if message.error() is None]
        if messages and not seen:
            # The first batch was made before we looked: it does not count.
            began, first = time.monotonic(), len(messages)
        seen += len(messages)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{seen} of {count} records came in {WAIT_SECONDS:.0f} s")
    reader.close()
    return (seen - first) / (time.monotonic() - began)


def read_results(world: ScoringWorld) -> Consumer:
    """Results that are committed from now on."""
    return _reader(world.bootstrap, results_topic(GUEST), world.settings(GUEST).topics.partitions, at_end=True)


def _reader(bootstrap: str, topic: str, partitions: int, *, at_end: bool = False) -> Consumer:
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "benchmark", "isolation.level": "read_committed"})
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    starts = [reader.get_watermark_offsets(place, 10)[1] if at_end else 0 for place in places]
    reader.assign([TopicPartition(topic, place.partition, start) for place, start in zip(places, starts, strict=True)])
    return reader


def _count(bootstrap: str, topic: str) -> int:
    """Where the topic's partitions end, added up."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "benchmark"})
    partitions = reader.list_topics(topic, 10).topics[topic].partitions
    total = sum(reader.get_watermark_offsets(TopicPartition(topic, each), 10)[1] for each in partitions)
    reader.close()
    return total
