"""A guest and a host that score online, ready in seconds: keys, topics, features, and models that were never trained.

What scoring costs does not depend on what the weights are, so the models' halves are drawn, registered at both parties
and said to have passed their check. Everything else is as in production: the same processes, one OS process each.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from consumers.exits import PARENT_PIPE
from consumers.party import Party, open_party
from infra.broker import EmbeddedBroker, Tuning
from infra.federation_local import found_together
from infra.secrets import create_secrets
from infra.settings import PartySettings, load_settings, save_settings
from infra.topic_admin import create_topics
from infra.topics import party_topics, registry_topic, serving_topic
from producers.serving_client import set_alias
from schemas.codec import encode
from schemas.digests import digest_of
from schemas.jobs import JobSpec, PartySpec, Role
from schemas.models import HalfReference, ModelHalf, ModelRegistered
from schemas.record import Blob
from schemas.serving import ServingVersion
from streams.engine.blobs import SealedBlobs
from streams.machines.register.model import digest_model

GUEST, HOST = "bank", "shop"
MODEL, VERSIONS = "credit", ("v1", "v2")
COLUMNS = 20
PERSONS = 10_000
STOP_SECONDS = 20.0


def person(number: int) -> str:
    """The id of a person that both parties know."""
    return f"customer-{number:06d}"


@dataclass
class ScoringWorld:
    """Two parties on one broker."""

    bootstrap: str
    homes: dict[str, Path]
    supervisors: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def settings(self, party: str) -> PartySettings:
        """The party's settings."""
        return load_settings(self.homes[party])

    def start(self, party: str, *names: str, slot: int = 0) -> None:
        """Run these scoring processes of the party."""
        options = [word for name in names for word in ("--process", name)]
        command = [sys.executable, "-m", "producers.cli", "score", "run", "--home", str(self.homes[party])]
        key = f"{party}/{slot}/{'+'.join(names)}"
        (self.homes[party] / "log").mkdir(exist_ok=True)
        with (self.homes[party] / "log" / "supervisor.log").open("ab") as log:
            self.supervisors[key] = subprocess.Popen(
                [*command, "--slot", str(slot), *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, PARENT_PIPE: "1"},
            )

    def stop(self) -> None:
        """End all processes."""
        for supervisor in self.supervisors.values():
            supervisor.terminate()
        for supervisor in self.supervisors.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                supervisor.wait(STOP_SECONDS)
            if supervisor.poll() is None:
                supervisor.kill()
                supervisor.wait()
            if supervisor.stdin is not None:
                supervisor.stdin.close()
        self.supervisors.clear()

    def pid(self, party: str, process: str) -> int:
        """The process id of a running process. Raises `FileNotFoundError`."""
        return int((self.homes[party] / "run" / f"{process}.pid").read_text(encoding="utf-8"))


@contextmanager
def scoring_world(partitions: int = 4, **score: int) -> Iterator[ScoringWorld]:
    """A broker, two homes, features and two served versions of a model; nothing runs yet but the broker.

    `score` are settings of scoring, for both parties.
    """
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedBroker(Path(name) / "broker", tuning=Tuning.LASTING, is_open=True) as broker,
    ):
        homes = {party: Path(name) / party for party in (GUEST, HOST)}
        world = ScoringWorld(broker.bootstrap, homes)
        for party, peer in ((GUEST, HOST), (HOST, GUEST)):
            _make_home(homes[party], party, peer, broker.bootstrap, partitions, score)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        found_together(list(homes.values()), "benchmark")
        for party in (GUEST, HOST):
            create_topics(admin, party_topics(party, partitions))
        for version in VERSIONS:
            register_model(world, version)
        set_alias(world.settings(GUEST), f"{MODEL}@live", VERSIONS[0])
        load_features(world)
        try:
            yield world
        finally:
            world.stop()


def _make_home(home: Path, party: str, peer: str, bootstrap: str, partitions: int, score: dict[str, int]) -> None:
    home.mkdir()
    save_settings(
        home,
        {
            "party": party,
            "access": {"kind": "custom"},
            "bootstrap_servers": bootstrap,
            "peers": [peer],
            "topics": {"partitions": partitions},
            "score": score,
            "object_store": {"kind": "directory", "path": "objects"},
        },
    )
    create_secrets(home, party)


def register_model(world: ScoringWorld, version: str) -> None:
    """Draw both halves, store each in its house, register the model at both and say that it was checked."""
    spec = JobSpec(MODEL, PartySpec(GUEST, "people"), "y", (PartySpec(HOST, "people"),))
    draws = np.random.RandomState([7, VERSIONS.index(version)])
    parties = {party: open_party(world.homes[party]) for party in (GUEST, HOST)}
    halves = [_store_half(parties[party], spec, draws) for party in (GUEST, HOST)]
    ordered = tuple(sorted(halves, key=lambda half: half.party))
    model = ModelRegistered(
        MODEL, version, version, digest_model(ordered), ordered, (), 1000, 400, spec, digest_of(spec)
    )  # fmt: skip
    key = f"{MODEL}/{version}"
    producer = Producer({"bootstrap.servers": world.bootstrap})
    for party in (GUEST, HOST):
        producer.produce(registry_topic(party), encode(model), key.encode())
    alone = tuple(int(weight) for weight in draws.randint(-(1 << 22), 1 << 22, COLUMNS))
    verdict = ServingVersion(MODEL, version, model.model_sha256, True, 400, 0, "", alone, 0, (600,), (0.5, 0.5), 0)
    producer.produce(serving_topic(GUEST), encode(verdict), key.encode(), partition=0)
    producer.flush()


def _store_half(party: Party, spec: JobSpec, draws: np.random.RandomState) -> HalfReference:
    role = Role.GUEST if party.name == GUEST else Role.HOST
    half = ModelHalf(
        party=party.name,
        role=role,
        model=MODEL,
        columns=tuple(f"x{n}" for n in range(COLUMNS)),
        means=(0.0,) * COLUMNS,
        scales=(1.0,) * COLUMNS,
        constant=(),
        feature_clip=8.0,
        weights=tuple(int(weight) for weight in draws.randint(-(1 << 22), 1 << 22, COLUMNS)),
        intercept=0 if role is Role.GUEST else None,
        logit_clip=8.0,
        spec_digest=digest_of(spec),
        data_fingerprint=b"",
    )
    blob = Blob.of(encode(half))
    SealedBlobs(party.objects, party.keyring).put_all((blob,))
    return HalfReference(party.name, role, blob.sha256, blob.content[2:10], b"", "benchmark")


def load_features(world: ScoringWorld) -> None:
    """As an operator would: `isthmus features load`."""
    for party in (GUEST, HOST):
        draws = np.random.RandomState([11, len(party)])
        table = pd.DataFrame(draws.normal(size=(PERSONS, COLUMNS)), columns=[f"x{n}" for n in range(COLUMNS)])
        table.insert(0, "id", [person(number) for number in range(PERSONS)])
        path = world.homes[party] / "features.csv"
        table.to_csv(path, index=False)
        command = [sys.executable, "-m", "producers.cli", "features", "load", "--home", str(world.homes[party])]
        done = subprocess.run([*command, "--csv", str(path), "--id", "id"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"the features of {party} could not be loaded: {done.stdout}{done.stderr}")


def await_file(path: Path, seconds: float = 30.0) -> None:
    """Wait until a file is there. Raises `RuntimeError`."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path.name} did not appear within {seconds:.0f} s")
        time.sleep(0.02)
