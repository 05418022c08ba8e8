"""What a whole job of real processes lets out: nothing of a house's rows, labels, keys and weights is found elsewhere.

Every byte of every topic is searched (internal topics, states, records of aborted transactions), every file of the
broker, every file of both homes but tables and keys, command lines and environments of all processes; and what one
party sent to the other is opened with the other's key and searched as well.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import psutil
import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from consumers.party import load_share, open_party
from infra.access import roles_of
from infra.broker import EmbeddedBroker
from infra.connection import connect_as
from infra.topics import commands_topic, events_topic, exchange_topic, state_topic
from producers.demo_data import DemoTables, breast_cancer
from producers.job_view import JobStatus, JobView
from producers.model_reader import WEIGHT_BITS, load_half, read_models
from schemas.alignment import AlignmentReady
from schemas.audit_statements import AUDIT
from schemas.codec import decode
from schemas.cohorts import COHORT
from schemas.conversion import blob_walker
from schemas.engine_states import EngineJob
from schemas.envelope import SealedRecord, SealedState
from schemas.jobs import JobSpec, Reason, Stage
from schemas.record import Blob, Record
from schemas.training_states import GuestTraining, HostTraining
from streams.dataset import Dataset
from streams.engine.blobs import SealedBlobs
from streams.engine.epochs import Opener
from streams.kernels.entropy import job_seed
from streams.kernels.holdout import split_rows
from streams.kernels.standardisation import fit_standardisation, standardise
from tests.end_to_end.world import DEADLINE_SECONDS, House, World, read_all, running_world
from tests.secrecy.scanner import Canary, Scanner, labels, numbers, secret, small_integers, texts, weights

pytestmark = pytest.mark.timeout(600)

REMARK = "quite-a-private-remark"


def _tables() -> DemoTables:
    """Ids and values that occur nowhere else in the world, so that finding one is a finding."""
    tables = breast_cancer(11, 160)
    draws = np.random.RandomState(11)
    names = {name: f"canary-{draws.bytes(8).hex()}" for name in {*tables.guest["id"], *tables.host["id"]}}
    sides = []
    for table, columns in ((tables.guest, tables.guest_features), (tables.host, tables.host_features)):
        odd = table.assign(id=[names[name] for name in table["id"]])
        for column in columns:
            odd[column] = (odd[column] + 1e-6) * (1 + 1e-9 * draws.uniform(1, 2, len(odd)))
        sides.append(odd)
    return replace(tables, guest=sides[0], host=sides[1])


@dataclass
class Run:
    """A job that succeeded, one that was rejected for its data, and what was seen of the processes meanwhile."""

    world: World
    broker: EmbeddedBroker
    job_id: str
    spec: JobSpec
    commands: list[bytes]
    messages: list[Message]

    def of_topic(self, topic: str) -> list[Message]:
        return [message for message in self.messages if message.topic() == topic]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """On a broker of its own, so that all topics means all."""
    with EmbeddedBroker(tmp_path_factory.mktemp("wire-broker")) as broker:
        tables = _tables()
        spoiled = tables.guest.copy()
        column = tables.guest_features[0]
        spoiled[column] = [REMARK, *spoiled[column][1:]]
        with running_world(
            tmp_path_factory.mktemp("wire"),
            broker,
            ("quiet-guest", "quiet-host"),
            tables=tables,
            more=lambda tables: ({"spoiled": spoiled}, {}),
        ) as world:
            rejected = world.run(world.spec(guest="spoiled"))
            assert (rejected.status, rejected.reason) == (JobStatus.REJECTED, Reason.INVALID_DATA)
            spec = world.spec()
            job_id = world.submit(spec)
            for house in world.houses:
                task = (Stage.TRAIN, house.party)
                house.client.wait_for(job_id, partial(_has_task, task), DEADLINE_SECONDS)
            commands = list(_command_lines(world))
            view = world.await_end(job_id)
            assert view.status is JobStatus.SUCCEEDED, view
            world.assert_settled(job_id)
            yield Run(world, broker, job_id, spec, commands, _read_everything(broker))


def _has_task(task: tuple[Stage, str], view: JobView) -> bool:
    return task in view.tasks


def _command_lines(world: World) -> Iterator[bytes]:
    """Arguments and environments of all processes of both parties, as everybody on the machine may see them."""
    for house in world.houses:
        assert house.supervisor is not None
        top = psutil.Process(house.supervisor.pid)
        family = [top, *top.children(recursive=True)]
        assert len(family) >= 6
        for process in family:
            yield "\0".join([*process.cmdline(), *(f"{k}={v}" for k, v in process.environ().items())]).encode()


def _read_everything(broker: EmbeddedBroker) -> list[Message]:
    """Every record of every partition of every topic, whether its transaction was committed or not."""
    topics = AdminClient(broker.admin_connection).list_topics(timeout=30).topics
    places = [(topic, partition) for topic, data in topics.items() for partition in data.partitions]
    assert {"__consumer_offsets", "__transaction_state"} <= topics.keys()
    return read_all(broker.admin_connection, places, "read_uncommitted")


def _bytes_of(message: Message) -> bytes:
    parts: list[str | bytes | None] = [message.key(), message.value()]
    for header in message.headers() or ():
        parts += header
    return b"|".join(part.encode() if isinstance(part, str) else part or b"" for part in parts)


# --- what must not be found ------------------------------------------------------------------------------------------


def _dataset(run: Run, house: House) -> Dataset:
    dataset = load_share(open_party(house.home), run.spec)
    assert isinstance(dataset, Dataset)
    return dataset


def _training_rows(run: Run, house: House) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Which own rows train, in the joint order, as alignment handed it over inside the house."""
    for _, record in _opened(run, house, [commands_topic(Stage.TRAIN, house.party)]):
        if isinstance(record, AlignmentReady) and record.job_id == run.job_id:
            return split_rows(record.rows.content, run.spec.evaluate.holdout_fraction)[0]
    raise AssertionError("alignment handed nothing over")


def _canaries(run: Run, house: House) -> Iterator[Canary]:
    """All that must not leave the house, but what both houses have."""
    who = house.party
    party = open_party(house.home)
    dataset = _dataset(run, house)
    yield from numbers(f"{who}'s value", dataset.values)
    rows = _training_rows(run, house)
    scaling = fit_standardisation(dataset.values[rows])
    yield from small_integers(f"{who}'s standardised row", standardise(dataset.values[rows], scaling))
    half = load_half(party, read_models(house.settings)[f"{run.spec.name}/{run.job_id}"])
    yield from numbers(f"{who}'s scaling", (*half.means, *half.scales))
    yield from weights(f"{who}'s weight", half.weights, WEIGHT_BITS)
    if dataset.label is not None:
        yield from labels(f"{who}'s label", dataset.label)
        yield from labels(f"{who}'s label", dataset.label[rows])
    secrets = party.secrets
    yield from secret(f"{who}'s private key", secrets.pair.private_key)
    yield from secret(f"{who}'s seed for encapsulation", secrets.pair.kem_seed)
    yield from secret(f"{who}'s signing key", secrets.pair.signing_key)
    yield from secret(f"{who}'s naming key", secrets.keys.naming_key)
    yield from secret(f"{who}'s master secret", secrets.master_secret)
    yield from secret(f"{who}'s storage secret", secrets.storage_secret)
    yield from secret(f"{who}'s storage key", secrets.keys.storage[1])
    yield from secret(f"{who}'s fingerprint key", secrets.derive("fingerprint"))
    yield from secret(f"{who}'s job seed", job_seed(secrets.master_secret, run.job_id))
    for prime in _primes(run, house):
        yield from secret(f"{who}'s prime", prime)
    passwords = [connect_as(house.settings, role)["sasl.password"] for role in roles_of(who)]
    yield from texts(f"{who}'s password", map(str, passwords))
    yield from texts(f"{who}'s remark", [REMARK])


def _common_canaries(run: Run) -> Iterator[Canary]:
    """What both houses have and nobody else."""
    tables = run.world.tables
    yield from texts("identifier", {*tables.guest["id"], *tables.host["id"]})
    guest, host = (open_party(house.home).secrets for house in run.world.houses)
    pairs = ((guest.pair.private_key, host.pair.public_key), (guest.keys.naming_key, host.keys.public_naming_key))
    for private, public in pairs:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
        yield from secret("shared key", shared)


@pytest.fixture(scope="module")
def scanners(run: Run) -> dict[str, Scanner]:
    """One a house: what the house keeps from the other."""
    common = list(_common_canaries(run))
    return {house.party: Scanner([*_canaries(run, house), *common]) for house in run.world.houses}


def _scan(scanners: dict[str, Scanner], data: bytes) -> set[str]:
    return set().union(*(scanner.scan(data) for scanner in scanners.values()))


# --- opening with a house's own keys ---------------------------------------------------------------------------------


def _opened(run: Run, house: House, topics: Iterable[str]) -> Iterator[tuple[bytes, Record]]:
    """What the house reads on these topics: plaintexts of records, chunks put together."""
    party = open_party(house.home)
    blobs = SealedBlobs(party.objects, party.keyring)
    pieces: dict[tuple[str, str, str, int], list[bytes]] = {}
    opener = Opener(party.keyring)
    for topic in topics:
        for message in run.of_topic(topic):
            envelope = decode(message.value() or b"")
            if not isinstance(envelope, SealedRecord):
                continue
            place = (topic, envelope.job_id, f"{envelope.sender}/{envelope.origin}", envelope.sequence)
            arrived = pieces.setdefault(place, [])
            if envelope.chunk_index == len(arrived):
                arrived.append(opener.open(envelope))
                if len(arrived) == envelope.chunk_count:
                    plaintext = b"".join(arrived)
                    yield plaintext, decode(plaintext, blobs.load)


def _opened_states(run: Run, house: House) -> Iterator[tuple[bytes, Record]]:
    """Every state that a stage's machine was ever in, as it rested."""
    party = open_party(house.home)
    blobs = SealedBlobs(party.objects, party.keyring)
    for stage in (*Stage, COHORT, AUDIT):
        topic = state_topic(stage, house.party)
        for message in run.of_topic(topic):
            if message.value() is None:
                continue
            plaintext = party.keyring.open_state(
                topic, message.partition() or 0, message.key() or b"", message.value() or b""
            )
            engine_job = decode(plaintext)
            if isinstance(engine_job, EngineJob) and engine_job.machine:
                yield plaintext, decode(engine_job.machine, blobs.load)


def _primes(run: Run, house: House) -> set[bytes]:
    found: set[bytes] = set()
    for _, state in _opened_states(run, house):
        if isinstance(state, GuestTraining | HostTraining) and state.setup.prime_p:
            found |= {state.setup.prime_p, state.setup.prime_q}
    assert len(found) == 2
    return found


def _blobs_in(record: Record) -> Iterator[Blob]:
    walk = blob_walker(type(record))
    return iter(()) if walk is None else walk(record)


# --- nothing is found where others look ------------------------------------------------------------------------------


def test_no_topic_holds_anything_of_anybody(run: Run, scanners: dict[str, Scanner]) -> None:
    """States, commands, exchange, events, registry, Kafka's own topics; nothing there is plain but what is meant."""
    assert all(scanner.count > 1000 for scanner in scanners.values())
    names = {str(message.topic()) for message in run.messages}
    for house in run.world.houses:
        for stage in Stage:
            assert {exchange_topic(stage, house.party), state_topic(stage, house.party)} <= names, "used, and read"
            assert commands_topic(stage, house.party) in names or (stage is Stage.JOB and house is run.world.host)
        assert {commands_topic(COHORT, house.party), state_topic(COHORT, house.party)} <= names
    found = {str(m.topic()): hits for m in run.messages if (hits := _scan(scanners, _bytes_of(m)))}
    assert found == {}


def test_what_crosses_the_door_and_what_rests_is_sealed(run: Run) -> None:
    for house in run.world.houses:
        for stage in (*Stage, AUDIT):
            for message in run.of_topic(exchange_topic(stage, house.party)):
                assert isinstance(decode(message.value() or b""), SealedRecord)
        for stage in (*Stage, COHORT, AUDIT):
            for message in run.of_topic(state_topic(stage, house.party)):
                assert message.value() is None or isinstance(decode(message.value() or b""), SealedState)
            if stage is not Stage.JOB:
                for message in run.of_topic(commands_topic(stage, house.party)):
                    assert isinstance(decode(message.value() or b""), SealedRecord)


def test_no_file_of_the_broker_holds_anything_of_anybody(run: Run, scanners: dict[str, Scanner]) -> None:
    """Also what no consumer is given: indexes, snapshots, its log."""
    files = [path for path in run.broker.home.rglob("*") if path.is_file()]
    # The broker lays its indexes out in full size: zeros say nothing.
    contents = {str(path): path.read_bytes().rstrip(b"\0") for path in files}
    assert any(events_topic(run.world.guest.party).encode() in content for content in contents.values())
    assert {path: hits for path, content in contents.items() if (hits := _scan(scanners, content))} == {}


def test_no_file_of_a_house_but_its_tables_and_keys_holds_anything(run: Run, scanners: dict[str, Scanner]) -> None:
    """Logs, journals, objects, settings, the manifest."""
    for house in run.world.houses:
        files = [path for path in house.home.rglob("*") if path.is_file()]
        private = {path for path in files if path.relative_to(house.home).parts[0] in ("data", "keys")}
        others = sorted(set(files) - private)
        assert {path.relative_to(house.home).parts[0] for path in others} >= {"log", "objects", "run", "federation"}
        assert {path.name: hits for path in others if (hits := _scan(scanners, path.read_bytes()))} == {}
        assert {"identifier as text"} <= set().union(*(_scan(scanners, path.read_bytes()) for path in private))


def test_no_command_line_and_no_environment_holds_anything(run: Run, scanners: dict[str, Scanner]) -> None:
    assert len(run.commands) >= 12
    assert [hits for line in run.commands if (hits := _scan(scanners, line))] == []


def test_what_a_party_can_open_holds_nothing_of_the_other(run: Run, scanners: dict[str, Scanner]) -> None:
    """The other party's records, opened as their receiver opens them; identifiers travel in neither direction."""
    for house, other in (run.world.houses, run.world.houses[::-1]):
        opened = list(_opened(run, house, [exchange_topic(stage, house.party) for stage in Stage]))
        assert {type(record).__name__ for _, record in opened} >= {"BlindedPoints", "TrainReady", "EvaluateReady"}
        found = {type(record).__name__: hits for data, record in opened if (hits := scanners[other.party].scan(data))}
        assert found == {}
        states = list(_opened_states(run, house))
        hidden = {type(state).__name__: _others(scanners[other.party].scan(data)) for data, state in states}
        assert {name: hits for name, hits in hidden.items() if hits} == {}


def _others(hits: set[str]) -> set[str]:
    """Identifiers in a house's own states are its own."""
    return {hit for hit in hits if not hit.startswith("identifier")}


# --- and the search would find it ------------------------------------------------------------------------------------


def test_the_owner_finds_its_own_secrets_where_it_keeps_them(run: Run, scanners: dict[str, Scanner]) -> None:
    """The patterns are in the forms in which the programs hold these things: opened states and objects show them."""
    for house in run.world.houses:
        found: set[str] = set()
        blobs: dict[bytes, bytes] = {}
        for plaintext, state in _opened_states(run, house):
            found |= scanners[house.party].scan(plaintext)
            for blob in _blobs_in(state):
                blobs[blob.sha256] = blobs.get(blob.sha256) or blob.content
        for content in blobs.values():
            found |= scanners[house.party].scan(content)
        expected = {f"{house.party}'s standardised row as <i4", f"{house.party}'s prime raw", "identifier as text"}
        expected |= {f"{house.party}'s scaling as float64<", f"{house.party}'s weight as Avro longs"}
        if house is run.world.guest:
            expected |= {f"{house.party}'s label as int8"}
        assert expected <= found, expected - found


def test_a_planted_canary_is_found_even_in_a_transaction_that_was_aborted(
    run: Run, scanners: dict[str, Scanner]
) -> None:
    value = float(_dataset(run, run.world.host).values[3, 2])
    identifier = str(run.world.tables.host["id"][5])
    producer = Producer({**run.broker.admin_connection, "transactional.id": "planter", "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    topic = events_topic(run.world.guest.party)
    producer.produce(topic, b"?" + struct.pack("<d", value) + b"?", b"planted", headers={"about": identifier.encode()})
    assert producer.flush(30) == 0
    producer.abort_transaction(30)
    committed = [(topic, partition) for partition in range(run.world.guest.settings.topics.partitions)]
    assert all(message.key() != b"planted" for message in read_all(run.broker.admin_connection, committed))
    found = {m.key(): hits for m in _read_everything(run.broker) if (hits := _scan(scanners, _bytes_of(m)))}
    assert found == {b"planted": {"quiet-host's value as float64<", "identifier as text"}}


def test_every_form_of_a_canary_is_found_at_every_place() -> None:
    """Between random bytes, at the beginning and at the end."""
    draws = random.Random(5)
    canaries = [
        *texts("id", ["canary-0011223344556677"]),
        *secret("key", draws.randbytes(32)),
        *numbers("value", [[0.1234567890123, -7.000000012345], [3e-7 / 7, 1e9 / 7]]),
        *small_integers("row", [[700, -31, 65_000, 4, -5], [1, 2, 3, 4, 5]]),
        *labels("label", np.array([draws.randrange(2) for _ in range(40)], dtype=np.int8)),
        *weights("weight", [12_345_678, -9_876_543, 16_777_216 * 3 + 1], 24),
    ]
    assert len({canary.what for canary in canaries}) > 30
    scanner = Scanner(canaries)
    for canary in canaries:
        altered = bytes([canary.pattern[0] ^ 1]) + canary.pattern[1:]
        for before, after in ((0, 0), (0, 99), (99, 0), *((shift, 5) for shift in range(1, 9))):
            data = draws.randbytes(before) + canary.pattern + draws.randbytes(after)
            assert canary.what in scanner.scan(data)
            assert canary.what not in scanner.scan(data.replace(canary.pattern, altered))
    assert scanner.scan(draws.randbytes(3_000_000)) == set()
    assert scanner.scan(b"") == scanner.scan(b"1234567") == set()
