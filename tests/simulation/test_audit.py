"""Auditors on the engine: what they come to is the same after a crash at any call, and rubbish harms nobody."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.audit_statements import AUDIT, INTERVAL, AuditContradicted, AuditCountersigned, AuditStatement
from schemas.codec import encode
from schemas.deadletter import DeadLetter
from schemas.engine_states import EngineJob
from schemas.record import Record
from streams import kem
from streams.engine.agreement import Agreement
from streams.engine.chunks import seal_chunks
from streams.engine.epochs import Sending, key_for_sending
from streams.engine.ports import TopicPartition
from streams.engine.seal import Keyring, Stream
from streams.kernels.cross_signing import signed_bytes
from streams.kernels.merkle import tree_root
from streams.kernels.trails import Entry
from streams.machines.audit.protocol import AUDITED_EVENTS
from tests.machines.audit_cases import ACME, BACK, GLOBEX, JOB, MANIFEST, OUT, Keys, crossed, make_machine, over, sealed
from tests.simulation.harness import Plan, World, crash_at, events_topic, exchange_topic, make_keyrings

COUNT = INTERVAL + 20
#: Sealed records hold drawn sequences of what was said when, which depends on who was first; these do not.
SIGNED = (AuditStatement, AuditCountersigned, AuditContradicted)


def make_world(seed: int | None = None, *, chunk_bytes: int = 100_000) -> World:
    plans = [
        Plan(party, AUDIT, functools.partial(make_machine, party), plain_events=AUDITED_EVENTS)
        for party in (ACME, GLOBEX)
    ]
    return World(plans, seed=seed, chunk_bytes=chunk_bytes)


def audit_topic(party: str) -> str:
    return f"vfl.job.audit.{party}.v1"


def make_job(seed: int | None = None) -> World:
    """All that crossed in a job, and its end, lie there when the auditors start."""
    world = make_world(seed)
    for party in (ACME, GLOBEX):
        for start in range(0, COUNT, 40):
            world.publish(audit_topic(party), crossed(party, OUT, sealed(COUNT)[start : start + 40]))
        world.publish(audit_topic(party), crossed(party, BACK, sealed(3, "back")))
        world.publish(events_topic(party), over(party))
    return world


def results(world: World, party: str) -> list[Record]:
    found = world.records(f"vfl.{AUDIT}.results.{party}.v1")
    assert all(isinstance(record, SIGNED) for record in found)
    return found


def check_signed(world: World) -> None:
    """Each statement and each answer lies at both, once; both have signed all there is."""
    for party, peer in ((ACME, GLOBEX), (GLOBEX, ACME)):
        found = results(world, party)
        assert len({encode(record) for record in found}) == len(found), "nothing is there twice"
        assert not any(isinstance(record, AuditContradicted) for record in found)
        own = {(r.sender, r.count, r.is_final) for r in found if isinstance(r, AuditStatement) and r.party == party}
        assert own >= {(ACME, COUNT, True), (GLOBEX, 3, True)}
        answered = {(r.party, r.sender, r.count) for r in found if isinstance(r, AuditCountersigned)}
        assert answered >= {(each, *end) for each in (party, peer) for end in ((ACME, COUNT), (GLOBEX, 3))}
        assert world.records(f"vfl.deadletter.{party}.v1") == []
        assert world.records(audit_topic(party)) == [], "what auditors say is not audited"


def test_two_auditors_sign_a_job_whoever_is_first() -> None:
    for seed in (None, *range(6)):
        world = make_job(seed).run()
        check_signed(world)
        world.check_rest()


def test_a_crash_at_any_call_loses_and_repeats_nothing() -> None:
    count = make_job().run().broker.calls
    assert count > 30
    for number in range(count):
        world = make_job()
        world.broker.fate_of = crash_at(number)
        world.run()
        assert world.crashes == 1
        check_signed(world)


def test_what_a_mirror_brings_again_changes_nothing() -> None:
    world = make_job(1).run()
    before = {party: results(world, party) for party in (ACME, GLOBEX)}
    for _ in range(3):
        world.mirror_again(2)
        world.run()
    assert {party: results(world, party) for party in (ACME, GLOBEX)} == before
    letters = [*world.records(f"vfl.deadletter.{ACME}.v1"), *world.records(f"vfl.deadletter.{GLOBEX}.v1")]
    reasons = {letter.reason for letter in letters if isinstance(letter, DeadLetter)}
    assert all("its statement came a second time" in reason for reason in reasons)


def test_a_peer_that_cannot_be_reached_costs_no_entry_and_ends_no_process() -> None:
    """As one whose topics were not made yet: what is for it is said again, and in the end given up."""
    world = World([Plan(ACME, AUDIT, functools.partial(make_machine, ACME), plain_events=AUDITED_EVENTS)])
    world.publish(audit_topic(ACME), crossed(ACME, OUT, sealed(COUNT)))
    world.publish(events_topic(ACME), over(ACME))
    world.run().check_rest()
    assert [(each.count, each.is_final) for each in results(world, ACME) if isinstance(each, AuditStatement)] == [
        (INTERVAL, False),
        (COUNT, True),
    ]
    assert world.records(f"vfl.deadletter.{ACME}.v1") == []


# --- what others write ---


def put(world: World, keyring: Keyring, record: Record, *, job_id: str = JOB, chunk_bytes: int = 100_000) -> None:
    """What acme, or whoever has its keys, puts on globex' door."""
    stream = Stream(keyring.party, GLOBEX, job_id, AUDIT, AUDIT)
    _, epoch, wrapped_key = key_for_sending(keyring, stream, 2**20, Sending())
    encoding = encode(record)
    for envelope in seal_chunks(keyring, stream, 2**20, encoding, chunk_bytes, epoch=epoch, wrapped_key=wrapped_key):
        world.broker.append(TopicPartition(exchange_topic(AUDIT, GLOBEX), 0), job_id.encode(), encode(envelope))


def older_keys() -> Keyring:
    """Those of acme, under a manifest that globex does not have."""
    private = {party: hashlib.sha256(f"key of {party}".encode()).digest() for party in (ACME, GLOBEX)}
    public = X25519PrivateKey.from_private_bytes(private[GLOBEX]).public_key().public_bytes_raw()
    kem_key = kem.public_key_of(hashlib.sha256(f"seed of {GLOBEX}".encode()).digest())
    return Keyring(
        ACME, Agreement(private[ACME], {GLOBEX: public}, b"older" * 7, b"k" * 32, {GLOBEX: kem_key}), b"s" * 32
    )


def letters_of(world: World) -> list[str]:
    found = world.records(f"vfl.deadletter.{GLOBEX}.v1")
    return [record.reason for record in found if isinstance(record, DeadLetter)]


def statement(count: int = 3, **changes: object) -> AuditStatement:
    leaves = [Entry(s, c, d.hex()).leaf for s, c, d in sealed(count)]
    bare = AuditStatement(
        JOB, ACME, *OUT, MANIFEST, b"", 0, count, tree_root(leaves), False, b"".join(leaves), signature=b""
    )
    bare = replace(bare, **changes)  # type: ignore[arg-type]
    return replace(bare, signature=Keys(ACME).sign(signed_bytes(bare)))


def test_bad_input_is_a_dead_letter_with_the_name_of_its_sender_and_the_job_goes_on() -> None:
    world = make_world()
    world.publish(audit_topic(GLOBEX), crossed(GLOBEX, OUT, sealed(3)))
    world.run()
    strangers = make_keyrings(("initech", GLOBEX))["initech"]
    keyring = world.keyrings[ACME]
    for record, ring, words in (
        (statement(), older_keys(), "a record of 'acme', sealed under the manifest 6f6c6465726f6c64, and globex works"),
        (statement(manifest=b"x" * 32), keyring, "acme signed under the manifest 7878787878787878"),
        (replace(statement(), signature=b"s" * 64), keyring, "the signature under a word of acme is not acme's"),
        (statement(), strangers, "a sealed record of 'initech' is not accepted on"),
        (statement(sender="initech"), keyring, "acme speaks of a stream in which globex and acme are not"),
        (statement(entries=b"x" * 500_000), keyring, "'acme' sent a record in 6 chunks: too large"),
        (crossed(GLOBEX, OUT, sealed(1)), keyring, "acme sent a EnvelopesCrossed, which is not about what crossed"),
        (EngineJob(JOB, b"", None, (), (), (), 1, 0, 0, 0, 0), keyring, "acme sent a EngineJob, which is private"),
    ):
        before = len(letters_of(world))
        put(world, ring, record)
        world.run()
        told = letters_of(world)[before:]
        assert told and all(reason.startswith(words) for reason in told), (words, told)
    put(world, keyring, statement())
    put(world, keyring, statement(2))
    world.run()
    assert "acme was restored from an old backup" in letters_of(world)[-1]
    assert any(isinstance(each, AuditCountersigned) and each.count == 3 for each in results(world, GLOBEX))


def test_jobs_that_a_peer_makes_up_are_not_remembered() -> None:
    world = make_world().run()
    for number in range(50):
        job_id = f"made-up-{number}"
        put(world, world.keyrings[ACME], statement(job_id=job_id), job_id=job_id)
        put(world, world.keyrings[ACME], statement(job_id=job_id, manifest=b"x" * 32), job_id=job_id)
    world.run()
    (globex,) = [each.process for each in world.running if each.plan.party == GLOBEX]
    assert globex is not None
    assert [each.jobs for each in globex.loop._slices.values()] == [{}]
    written = [key or b"" for key, _ in world.broker.written(TopicPartition(f"vfl.{AUDIT}.state.{GLOBEX}.v1", 0))]
    assert not [key for key in written if key.startswith(b"job/")]
    assert len(letters_of(world)) == 50
