"""What is served now: aliases that move under requests, and halves that are there while the object store is not."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumers.model_cache import FETCH_SECONDS, RETRY_SECONDS, ModelCache, ModelUnavailableError
from consumers.serving import ServingCatalogue
from infra.broker import EmbeddedBroker
from infra.object_store import DirectoryStore, ObjectStoreError
from infra.topics import registry_topic, serving_topic
from schemas.scoring import ScoreReason
from streams.engine.blobs import SealedBlobs
from streams.engine.seal import Keyring
from streams.machines.score.resolution import Refusal, Resolved
from tests.broker.score_houses import DEADLINE_SECONDS, ScoreHouses
from tests.machines.route_cases import GUEST, NAME, Version
from tests.simulation.harness import make_keyrings


class Store:
    """An object store that can be down, or answer so late that nobody waits for it."""

    def __init__(self, root: Path) -> None:
        self.inner = DirectoryStore(root)
        self.is_down = False
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0

    def put(self, sha256: bytes, content: bytes) -> None:
        self.inner.put(sha256, content)

    def get(self, sha256: bytes) -> bytes:
        self.asked += 1
        assert self.answers.wait(DEADLINE_SECONDS)
        if self.is_down:
            raise ObjectStoreError("the bucket does not answer")
        return self.inner.get(sha256)

    def has(self, sha256: bytes) -> bool:
        return self.inner.has(sha256)


class Shop:
    """A cache, its store and its clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cache"
        self.store = Store(folder / "objects")
        self.keyring: Keyring = make_keyrings((GUEST,))[GUEST]
        self.time = 0.0
        self.versions = [Version(f"job-{number}", seed=number) for number in range(3)]
        SealedBlobs(self.store, self.keyring).put_all(version.blobs[GUEST] for version in self.versions)

    def open(self) -> ModelCache:
        """As a process that has just started."""
        return ModelCache(self.folder, self.store, self.keyring, now=lambda: self.time)

    def digest(self, number: int) -> bytes:
        return self.versions[number].blobs[GUEST].sha256

    def file(self, number: int) -> Path:
        return self.folder / self.digest(number).hex()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


# --- the cache ---


def test_a_half_is_fetched_once_and_kept_sealed(shop: Shop) -> None:
    cache = shop.open()
    for _ in range(3):
        assert cache.half(shop.digest(1)) == shop.versions[1].guest_half
    assert shop.store.asked == 1
    kept = shop.file(1).read_bytes()
    assert shop.keyring.open_blob(shop.digest(1), kept) == shop.versions[1].blobs[GUEST].content
    assert b"bank_0" in shop.versions[1].blobs[GUEST].content and b"bank_0" not in kept
    assert [path.name for path in shop.folder.iterdir()] == [shop.digest(1).hex()], "nothing else is left there"


def test_what_was_used_once_works_after_a_restart_with_the_store_down(shop: Shop) -> None:
    for number in range(2):
        shop.open().half(shop.digest(number))
    shop.store.is_down = True
    restarted = shop.open()
    for number in range(2):
        assert restarted.half(shop.digest(number)) == shop.versions[number].guest_half
    with pytest.raises(ModelUnavailableError, match=r"not in the cache, and .* does not answer"):
        restarted.half(shop.digest(2))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:40] + b"?" + data[41:]]
)
def test_a_damaged_file_is_found_out_and_fetched_again(shop: Shop, damage: Callable[[bytes], bytes]) -> None:
    shop.open().half(shop.digest(0))
    sound = shop.file(0).read_bytes()
    shop.file(0).write_bytes(damage(sound))
    assert shop.open().half(shop.digest(0)) == shop.versions[0].guest_half
    assert shop.store.asked == 2
    assert shop.file(0).read_bytes() == sound
    shop.file(0).write_bytes(damage(sound))
    shop.store.is_down = True
    with pytest.raises(ModelUnavailableError):
        shop.open().half(shop.digest(0))


def test_a_file_under_anothers_name_is_not_taken_for_it(shop: Shop) -> None:
    cache = shop.open()
    cache.half(shop.digest(0))
    shop.file(1).write_bytes(shop.file(0).read_bytes())
    assert shop.open().half(shop.digest(1)) == shop.versions[1].guest_half


def test_a_store_that_was_down_is_asked_again_after_a_while_and_not_by_every_request(shop: Shop) -> None:
    shop.store.is_down = True
    cache = shop.open()
    for _ in range(20):
        with pytest.raises(ModelUnavailableError):
            cache.half(shop.digest(0))
    assert shop.store.asked == 1
    shop.store.is_down = False
    with pytest.raises(ModelUnavailableError):
        cache.half(shop.digest(0))
    shop.time += RETRY_SECONDS
    assert cache.half(shop.digest(0)) == shop.versions[0].guest_half
    assert shop.store.asked == 2


def test_a_store_that_hangs_costs_one_request_a_wait_and_the_others_none(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FETCH_SECONDS <= 1, "all requests of the process wait with the first one"
    monkeypatch.setattr("consumers.model_cache.FETCH_SECONDS", 0.01)
    shop.store.answers.clear()
    cache = shop.open()
    for _ in range(5):
        with pytest.raises(ModelUnavailableError, match="is being fetched"):
            cache.half(shop.digest(0))
    shop.store.answers.set()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        assert time.monotonic() < deadline
        try:
            assert cache.half(shop.digest(0)) == shop.versions[0].guest_half
            break
        except ModelUnavailableError:
            continue
    assert shop.store.asked == 1


def test_a_cache_that_cannot_be_written_is_no_reason_not_to_score(shop: Shop) -> None:
    shop.folder.parent.mkdir(exist_ok=True)
    shop.folder.write_text("a file where the folder should be")
    cache = shop.open()
    assert cache.half(shop.digest(0)) == cache.half(shop.digest(0)) == shop.versions[0].guest_half
    assert shop.store.asked == 1


# --- the catalogue ---


@pytest.fixture
def houses(broker: EmbeddedBroker, tmp_path: Path, new_party: Callable[[str], str]) -> ScoreHouses:
    made = ScoreHouses(broker.bootstrap, tmp_path, new_party("guest"), new_party("host"))
    made.register(made.make_version("job-1"), made.make_version("job-2", seed=2))
    made.point("live", "job-1")
    return made


@pytest.fixture
def catalogue(houses: ScoreHouses) -> Iterator[ServingCatalogue]:
    made = ServingCatalogue(houses.guest)
    made.start()
    yield made
    made.close()


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline


def test_a_catalogue_knows_everything_that_was_there_when_it_started(
    houses: ScoreHouses, catalogue: ServingCatalogue
) -> None:
    assert catalogue.resolve(f"{NAME}@live", "r") == Resolved(NAME, "job-1", "live", "")
    assert catalogue.resolve(f"{NAME}/job-2", "r") == Resolved(NAME, "job-2", "", "")
    for version, seed in (("job-1", 1), ("job-2", 2)):
        assert catalogue.half(NAME, version) == houses.make_version(version, seed=seed).guest_half
    assert catalogue.model(NAME, "job-3") is None
    with pytest.raises(ModelUnavailableError, match="has no half"):
        catalogue.half(NAME, "job-3")


def test_an_empty_catalogue_starts_as_well(
    broker: EmbeddedBroker, tmp_path: Path, new_party: Callable[[str], str]
) -> None:
    houses = ScoreHouses(broker.bootstrap, tmp_path, new_party("guest"), new_party("host"))
    catalogue = ServingCatalogue(houses.guest)
    catalogue.start()
    try:
        refusal = catalogue.resolve(NAME, "r")
        assert isinstance(refusal, Refusal) and refusal.reason is ScoreReason.UNKNOWN_MODEL
        houses.register(houses.make_version("job-1"))
        _await(lambda: isinstance(catalogue.resolve(f"{NAME}/job-1", "r"), Resolved))
    finally:
        catalogue.close()


def test_every_request_has_one_whole_version_while_the_alias_moves(
    houses: ScoreHouses, catalogue: ServingCatalogue
) -> None:
    first = Resolved(NAME, "job-1", "live", "")
    second = Resolved(NAME, "job-2", "live", "job-1")
    third = Resolved(NAME, "job-1", "live", "job-2")
    seen: set[object] = set()
    over = threading.Event()

    def serves(expected: Resolved) -> bool:
        return catalogue.resolve(f"{NAME}@live", "r") == expected

    def look() -> None:
        while not over.is_set():
            seen.add(catalogue.resolve(f"{NAME}@live", "r"))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for moved in (second, third) * 10:
            houses.point("live", moved.version, shadow=moved.shadow_version)
            _await(functools.partial(serves, moved))
        for moved in (second, third):
            houses.point("live", moved.version, shadow=moved.shadow_version)
            _await(functools.partial(seen.__contains__, moved))
    finally:
        over.set()
        looker.join()
    assert seen <= {first, second, third}, "a version is never seen with another record's shadow"


def test_a_verdict_that_is_taken_back_ends_the_serving(houses: ScoreHouses, catalogue: ServingCatalogue) -> None:
    houses.put(serving_topic(houses.guest.name), f"{NAME}/job-1", None)
    houses.flush()
    _await(lambda: isinstance(catalogue.resolve(NAME, "r"), Refusal))
    refusal = catalogue.resolve(NAME, "r")
    assert isinstance(refusal, Refusal) and refusal.reason is ScoreReason.NOT_SERVED
    assert catalogue.check(NAME, "job-1", needs_pass=False) is None


def test_what_cannot_be_read_is_passed_over(houses: ScoreHouses, catalogue: ServingCatalogue) -> None:
    houses.put(registry_topic(houses.guest.name), f"{NAME}/job-9", b"junk")
    houses.put(serving_topic(houses.guest.name), f"{NAME}@live", b"junk")
    houses.point("next", "job-2")
    _await(lambda: isinstance(catalogue.resolve(f"{NAME}@next", "r"), Resolved))
    assert isinstance(catalogue.resolve(f"{NAME}@live", "r"), Resolved)


def test_a_hosts_catalogue_needs_no_right_to_read_verdicts(houses: ScoreHouses) -> None:
    """Versions and aliases are the guest's: a host scores what it is asked for, if it has the half."""
    houses.put(serving_topic(houses.host.name), f"{NAME}@live", b"junk that nobody reads")
    houses.flush()
    catalogue = ServingCatalogue(houses.host, serving=False)
    catalogue.start()
    try:
        assert catalogue.check(NAME, "job-1", needs_pass=False) is None
        assert catalogue.half(NAME, "job-1") == houses.make_version("job-1").host_half
        assert [model.version for model in catalogue.models()] == ["job-1", "job-2"]
        assert isinstance(catalogue.resolve(NAME, "r"), Refusal)
    finally:
        catalogue.close()
