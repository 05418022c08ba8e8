"""A new storage key in the middle of a job: nothing that is said changes, and nothing is left under the former key."""

from __future__ import annotations

import hashlib

import pytest

from schemas.codec import decode
from schemas.conversion import blob_walker
from schemas.engine_states import EngineJob
from schemas.record import Record
from streams.engine.blobs import SealedBlobs
from streams.engine.errors import UnreadableStateError
from streams.engine.seal import Keyring, SealError
from streams.engine.slices import Slice
from streams.engine.state_log import StateLog
from tests.simulation import test_pipeline as pipeline
from tests.simulation.fake_broker import Fate
from tests.simulation.harness import MemoKeyring, World, make_keyrings

PARTY = "host"
FIRST = hashlib.sha256(b"storage of host").digest()
SECOND = hashlib.sha256(b"second storage of host").digest()


def keyring_of(world: World, storage: dict[int, bytes]) -> Keyring:
    return MemoKeyring(PARTY, world.keyrings[PARTY]._current, FIRST, storage)


def rekey(world: World) -> None:
    """As after `isthmus party rekey`: every process of the party ends, and starts again with both generations."""
    world.keyrings[PARTY] = keyring_of(world, {1: FIRST, 2: SECOND})
    for each in world.running:
        if each.plan.party == PARTY:
            world._bury(each, each.process)


def run_to(steps: int) -> World:
    world = pipeline.make_world()
    for _ in range(steps):
        assert world.advance()
    return world


def latest_states(world: World, party: str) -> dict[tuple[str, int, bytes], bytes]:
    """What is left of the state topics when they are compacted."""
    found: dict[tuple[str, int, bytes], bytes] = {}
    for place in world.broker.logs:
        if f".state.{party}." in place.topic:
            for key, value in world.broker.written(place):
                where = (place.topic, place.partition, key or b"")
                found.pop(where, None)
                if value is not None:
                    found[where] = value
    return found


def load_all(world: World, keyring: Keyring) -> int:
    """Open every state and every blob that one refers to; how many blobs."""
    blobs = SealedBlobs(world.stores[PARTY], keyring)
    count = 0
    for where, value in latest_states(world, PARTY).items():
        record: Record = decode(keyring.open_state(*where, value), blobs.load)
        if isinstance(record, EngineJob):
            encoding = record.machine if record.machine_blob is None else record.machine_blob.content
            state = decode(encoding, blobs.load) if encoding else record
            walk = blob_walker(type(state))
            for blob in [] if walk is None else walk(state):
                assert hashlib.sha256(blob.content).digest() == blob.sha256
                count += 1
    return count


@pytest.fixture(scope="module")
def undisturbed() -> World:
    return pipeline.make_world().run()


@pytest.mark.parametrize("steps", range(20, 400, 60))
def test_a_job_goes_on_to_the_same_model_and_all_is_sealed_anew(undisturbed: World, steps: int) -> None:
    world = run_to(steps)
    before = latest_states(world, PARTY)
    rekey(world)
    world.run()
    world.check_rest()
    assert world.content() == undisturbed.content()
    assert pipeline.digest_in_registry(world, PARTY) == pipeline.digest_in_registry(undisturbed, PARTY)
    load_all(world, keyring_of(world, {2: SECOND}))
    former = keyring_of(world, {1: FIRST})
    for where, value in latest_states(world, PARTY).items():
        with pytest.raises(SealError, match="older than the last `isthmus party rekey`"):
            former.open_state(*where, value)
    assert not before or before.keys() & latest_states(world, PARTY).keys()


def test_after_the_job_everything_is_sealed_anew_by_a_restart_alone(undisturbed: World) -> None:
    world = pipeline.make_world().run()
    story = world.story()
    rekey(world)
    world.run()
    assert world.story() == story, "nothing is said by it"
    load_all(world, keyring_of(world, {2: SECOND}))


def test_in_the_middle_of_a_job_the_objects_that_it_needs_are_sealed_anew_as_well() -> None:
    most = 0
    for steps in range(100, 300, 20):
        world = run_to(steps)
        rekey(world)
        for _ in range(3 * len(world.running)):
            world.advance()
        newest = keyring_of(world, {2: SECOND})
        most = max(most, load_all(world, newest))
    assert most > 3


def test_a_crash_at_any_call_while_things_are_sealed_anew_changes_nothing(undisturbed: World) -> None:
    def calls_until_rest(crash_at: int | None) -> int:
        world = run_to(200)
        rekey(world)
        start = len(world.broker.call_names)
        world.broker.fate_of = lambda number, name: Fate.CRASH if number == crash_at else Fate.NORMAL
        for _ in range(60):
            world.advance()
        used = len(world.broker.call_names) - start
        world.run()
        assert world.crashes == (crash_at is not None)
        assert world.content() == undisturbed.content()
        load_all(world, keyring_of(world, {2: SECOND}))
        return start + used if crash_at is None else start

    end = calls_until_rest(None)
    start = calls_until_rest(end)
    for number in range(start, end, 3):
        calls_until_rest(number)


def test_a_home_that_lacks_the_newest_key_is_told_what_to_restore() -> None:
    world = run_to(200)
    rekey(world)
    world.run()
    world.keyrings[PARTY] = make_keyrings(tuple(world.parties))[PARTY]
    for each in world.running:
        if each.plan.party == PARTY:
            world._bury(each, each.process)
    with pytest.raises(UnreadableStateError, match="restored from a backup that is older than the last `isthmus party"):
        world.run()


def test_what_is_sealed_anew_is_what_was_restored() -> None:
    keyring = MemoKeyring(PARTY, make_keyrings(("guest", PARTY))[PARTY]._current, FIRST, {1: FIRST, 2: SECOND})
    base = Slice(0, {})
    base.stale = {}
    log = StateLog("topic", keyring)
    draft = log.reseal(base, SealedBlobs(World([pipeline.make_plan(PARTY, "job")]).stores[PARTY], keyring))
    assert draft.is_resealing and draft.outputs == [] and draft.jobs == {}
