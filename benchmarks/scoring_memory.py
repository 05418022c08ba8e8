"""Is memory flat? A million requests through router, host and joiner, as fast as they go, with memory sampled.

Requests are published by a plain producer that keeps at most WINDOW of them without an outcome, so that queues stay
short. ISTHMUS_SCORING_REQUESTS is their number. Growth is that of the second half: in the first, caches and the
joiner's memory of finished requests fill.
"""

from __future__ import annotations

import os
import time
from typing import Any

import psutil
from confluent_kafka import Producer

from benchmarks._scoring_world import GUEST, HOST, MODEL, PERSONS, ScoringWorld, await_file, person, scoring_world
from benchmarks.scoring import read_results
from infra.topics import requests_topic
from producers.score_client import make_request
from schemas.codec import encode
from streams.engine.partitioner import partition_of

REQUESTS = int(os.environ.get("ISTHMUS_SCORING_REQUESTS", "1000000"))
WINDOW = 5_000
#: The joiner keeps a request until REMEMBER_SECONDS after its deadline, so what it needs is flat once that has passed.
DEADLINE_MS, REMEMBER_SECONDS = 10_000, 10
SAMPLES = 20
WAIT_SECONDS = 60.0


def run() -> dict[str, Any]:
    """Megabytes of each process after each twentieth of the requests."""
    with scoring_world(remember_seconds=REMEMBER_SECONDS) as world:
        world.start(HOST, "score-host")
        world.start(GUEST, "score-router", "score-joiner")
        processes = _processes(world)
        began = time.monotonic()
        samples = _score_all(world, processes)
        seconds = time.monotonic() - began
    half = SAMPLES // 2
    return {
        "requests": REQUESTS,
        "per_second": REQUESTS / seconds,
        "memory_mb": samples,
        "growth_mb": {name: sizes[-1] - sizes[half] for name, sizes in samples.items()},
    }


def _processes(world: ScoringWorld) -> dict[str, psutil.Process]:
    found = {}
    for party, name in ((HOST, "score-host"), (GUEST, "score-router"), (GUEST, "score-joiner")):
        await_file(world.homes[party] / "run" / f"{name}.pid")
        found[name] = psutil.Process(world.pid(party, name))
    return found


def _score_all(world: ScoringWorld, processes: dict[str, psutil.Process]) -> dict[str, list[float]]:
    partitions = world.settings(GUEST).topics.partitions
    reader = read_results(world)
    producer = Producer({"bootstrap.servers": world.bootstrap, "linger.ms": 2})
    samples: dict[str, list[float]] = {name: [] for name in processes}
    sent = ended = 0
    heard = time.monotonic()
    while ended < REQUESTS:
        while sent < REQUESTS and sent - ended < WINDOW:
            request = make_request(person(sent % PERSONS), MODEL, DEADLINE_MS, None, None)
            key = request.request_id.encode()
            producer.produce(requests_topic(GUEST), encode(request), key, partition=partition_of(key, partitions))
            sent += 1
        producer.poll(0)
        count = sum(message.error() is None for message in reader.consume(5_000, 0.02))
        ended += count
        if count:
            heard = time.monotonic()
        elif time.monotonic() - heard > WAIT_SECONDS:
            raise RuntimeError(f"{ended} of {sent} requests had an outcome, then nothing came for {WAIT_SECONDS:.0f} s")
        while len(samples["score-joiner"]) < ended * SAMPLES // REQUESTS:
            for name, process in processes.items():
                samples[name].append(process.memory_info().rss / 2**20)
    reader.close()
    return samples
