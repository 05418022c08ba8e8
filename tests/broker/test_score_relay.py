"""Router and score host on a real broker: killed, restarted, poisoned. Nothing is lost, and copies are equal."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from consumers.exits import NEEDS_A_PERSON
from consumers.process import WORLD_FAILED
from infra.broker import EmbeddedBroker
from infra.secrets import create_secrets
from infra.settings import save_settings
from infra.topics import ROUTER, SCORE_HOST, answers_topic, dead_letter_topic, questions_topic, requests_topic
from producers.feature_loader import FeatureTable, load_features
from schemas.codec import decode
from schemas.envelope import SealedMessage
from schemas.scoring import Purpose, ScoreAsk, ScoreReason, ScoreRequested, ScoresAsked
from streams.engine import failpoints
from streams.engine.messages import MessageSeal
from streams.engine.partitioner import partition_of
from streams.kernels.scorecard import POINT_QUANTUM, name_person, share_logit
from streams.kernels.scoring import quantise_logits, score_half
from streams.machines.score.halves import to_kernel
from tests.broker.score_houses import DEADLINE_SECONDS, Routed, Said, ScoreHouses, follow
from tests.broker.score_relay import ENGINE_ENDED, SLOT_TAKEN, RelaySettings
from tests.machines.route_cases import NAME, Version, make_rows

ROOT = Path(__file__).parents[2]
IDS = tuple(f"person-{number}" for number in range(40))
#: Where a relay can be killed. There is no transaction, and nothing to restore.
POINTS = (failpoints.AFTER_POLL, failpoints.AFTER_STEP, failpoints.AFTER_PRODUCE, failpoints.AFTER_COMMIT)

#: Everything may be done before there is a second commit.
TIMES = {failpoints.AFTER_COMMIT: 1}


class Scene:
    """Houses with one served version, and their two processes."""

    def __init__(self, bootstrap: str, folder: Path, guest: str, host: str) -> None:
        self.folder = folder
        self.houses = ScoreHouses(bootstrap, folder, guest, host)
        self.version = self.houses.make_version("job-1")
        self.houses.register(self.version)
        self.houses.point("live", "job-1")
        self.children: list[tuple[subprocess.Popen[bytes], Path]] = []
        self.tables: dict[str, np.ndarray[tuple[int, int], np.dtype[np.float64]]] = {}
        for role, half in ((ROUTER, self.version.guest_half), (SCORE_HOST, self.version.host_half)):
            rows, self.tables[role] = make_rows(half, IDS, seed=len(role))
            values = {person: dict(row.values) for person, row in rows.items() if row is not None}
            self._features(role).write_text(json.dumps(values))

    def _features(self, role: str) -> Path:
        return self.folder / f"{role}.json"

    @property
    def marker(self) -> Path:
        """There while a failpoint is armed, gone when it was reached."""
        return self.folder / "marker"

    def start(self, role: str, slot: int = 0, failpoint: str = "") -> subprocess.Popen[bytes]:
        party = self.houses.guest if role == ROUTER else self.houses.host
        settings = RelaySettings(role, str(party.settings.home), str(self._features(role)), slot)
        environment = dict(os.environ)
        if failpoint:
            self.marker.touch()
            environment |= {failpoints.POINT_VARIABLE: failpoint, failpoints.MARKER_VARIABLE: str(self.marker)}
        return self._run(role, environment, "tests.broker.score_relay", settings.to_json())

    def run_program(self, module: str, home: Path) -> subprocess.Popen[bytes]:
        """A process as the supervisor starts it."""
        return self._run(module, dict(os.environ), f"consumers.{module}", "--home", str(home))

    def _run(self, name: str, environment: dict[str, str], *command: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"{name}-{len(self.children)}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=ROOT, env=environment, stdout=output, stderr=output
            )
        self.children.append((child, log))
        return child

    def await_member(self, child: subprocess.Popen[bytes]) -> None:
        """Until the process has partitions."""
        log = next(log for one, log in self.children if one is child)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while "given vfl" not in log.read_text():
            assert time.monotonic() < deadline and child.poll() is None, self.tails()

    def tails(self) -> str:
        return "\n".join(log.read_text()[-2_000:] for _, log in self.children)

    def stop_all(self) -> list[int]:
        for child, _ in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
        return [child.wait(DEADLINE_SECONDS) for child, _ in self.children]

    # --- requests ---

    def make_requests(self, name: str, count: int, **changes: object) -> list[ScoreRequested]:
        request = ScoreRequested("", NAME, "", 1_000, 1, ())
        now_ms = time.time_ns() // 1_000_000
        return [
            replace(
                request,
                request_id=f"{name}-{number}",
                entity_id=IDS[number % len(IDS)],
                requested_at_ms=now_ms,
                deadline_ms=now_ms + 600_000,
                **changes,  # type: ignore[arg-type]
            )
            for number in range(count)
        ]

    # --- checks ---

    def check_routed(self, requests: Sequence[ScoreRequested]) -> list[Routed]:
        """Every request was routed, copies are equal but for times, and logits are those of the kernel."""
        found = self.houses.routed({request.request_id for request in requests})
        logits = score_half(self.tables[ROUTER], to_kernel(self.version.guest_half)).tolist()
        asked = {request.request_id: request for request in requests}
        copies: dict[str, set[object]] = {}
        for partition, item in ((one.partition, one.item) for one in found):
            copies.setdefault(item.request_id, set()).add(replace(item, routed_at_us=0, wait_until_ms=0))
            assert partition == partition_of(item.request_id.encode(), self.houses.partitions)
            if item.request_id in asked:
                assert item.reason is ScoreReason.NONE, item
                assert item.guest_logit == logits[IDS.index(asked[item.request_id].entity_id)]
        assert all(len(copy) == 1 for copy in copies.values())
        assert copies.keys() == asked.keys()
        return found

    def check_answered(self, requests: Sequence[ScoreRequested]) -> list[Said]:
        """Every question was answered and booked, copies are equal but for times, and values are the kernel's."""
        wanted = {request.request_id for request in requests}
        found = self.houses.answers(wanted)
        told = quantise_logits(score_half(self.tables[SCORE_HOST], to_kernel(self.version.host_half))).tolist()
        asked = {request.request_id: request for request in requests}
        for partition, answer in ((one.partition, one.answer) for one in found):
            assert answer.reason is ScoreReason.NONE, answer
            assert answer.value == share_logit(told[IDS.index(asked[answer.request_id].entity_id)], POINT_QUANTUM)
            assert partition == partition_of(answer.request_id.encode(), self.houses.partitions)
        # A question that was repeated may be answered while this looks: what was said by then must be booked in the
        # end, and nothing booked that is never said.
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            said = {(one.answer.request_id, one.answer.value, one.answer.asked_at_us) for one in found}
            booked = {(entry.request_id, entry.value, entry.asked_at_us) for entry in self.houses.books(wanted)}
            if said == booked:
                return found
            assert time.monotonic() < deadline, said ^ booked
            found = self.houses.answers(wanted)


@pytest.fixture
def scene(broker: EmbeddedBroker, tmp_path: Path, new_party: Callable[[str], str]) -> Iterator[Scene]:
    made = Scene(broker.bootstrap, tmp_path, new_party("guest"), new_party("host"))
    yield made
    made.stop_all()


@pytest.fixture(scope="module")
def standing(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One scene for all failpoints: requests add up, and at the end all of them are looked at."""
    made = Scene(broker.bootstrap, tmp_path_factory.mktemp("relay"), "relay-guest", "relay-host")
    yield made
    made.stop_all()


_asked: list[ScoreRequested] = []


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("role", [ROUTER, SCORE_HOST])
def test_a_killed_process_comes_back_and_loses_nothing(standing: Scene, role: str, point: str) -> None:
    other = standing.start(SCORE_HOST if role == ROUTER else ROUTER)
    killed = standing.start(role, failpoint=f"{point}:{TIMES.get(point, 2)}")
    deadline = time.monotonic() + DEADLINE_SECONDS
    for number in itertools.count():
        # Until it is killed: how much it takes at once is its own business.
        _asked.extend(more := standing.make_requests(f"{role}-{point}-{number}", 40))
        standing.houses.request(*more)
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert killed.wait(0.3) == -signal.SIGKILL, standing.tails()
            break
        assert time.monotonic() < deadline, standing.tails()
    assert not standing.marker.exists()
    successor = standing.start(role)
    standing.check_routed(_asked)
    standing.check_answered(_asked)
    for child in (successor, other):
        standing.await_member(child)
        child.terminate()
        assert child.wait(DEADLINE_SECONDS) == 0, standing.tails()
    standing.children = []
    assert standing.houses.dead_letters(standing.houses.guest, 0) == []
    assert standing.houses.dead_letters(standing.houses.host, 0) == []


def test_a_process_that_ended_well_repeats_nothing(scene: Scene) -> None:
    """Its last commit is of all that it delivered."""
    requests = scene.make_requests("once", 50)
    first = scene.start(ROUTER)
    scene.houses.request(*requests)
    scene.check_routed(requests)
    first.terminate()
    assert first.wait(DEADLINE_SECONDS) == 0, scene.tails()
    scene.start(ROUTER)
    more = scene.make_requests("more", 5)
    scene.houses.request(*more)
    assert len(scene.check_routed([*requests, *more])) == 55


def test_a_broker_that_is_killed_and_started_again_loses_nothing(
    tmp_path: Path, new_party: Callable[[str], str]
) -> None:
    with EmbeddedBroker(tmp_path / "broker", is_open=True) as broker:
        scene = Scene(broker.bootstrap, tmp_path, new_party("guest"), new_party("host"))
        try:
            router, host = scene.start(ROUTER), scene.start(SCORE_HOST)
            requests = scene.make_requests("before", 200)
            scene.houses.request(*requests)
            scene.houses.answers({requests[0].request_id})
            first_pid = broker.pid
            broker.kill()
            broker.start()
            assert broker.pid != first_pid
            more = scene.make_requests("after", 200)
            scene.houses.request(*more)
            scene.check_routed([*requests, *more])
            scene.check_answered([*requests, *more])
            # Both lived through it: a broker that comes back is no reason to end.
            assert router.poll() is None and host.poll() is None, scene.tails()
        finally:
            scene.stop_all()


def test_of_two_processes_with_one_name_the_older_ends(scene: Scene) -> None:
    older = scene.start(ROUTER)
    scene.houses.request(*(first := scene.make_requests("a", 3)))
    scene.check_routed(first)
    scene.start(ROUTER)
    assert older.wait(DEADLINE_SECONDS) == SLOT_TAKEN, scene.tails()
    scene.houses.request(*(second := scene.make_requests("b", 3)))
    scene.check_routed([*first, *second])


def test_a_second_process_takes_its_share_and_the_first_goes_on(scene: Scene) -> None:
    scene.start(ROUTER)
    scene.houses.request(*(first := scene.make_requests("a", 50)))
    scene.check_routed(first)
    second = scene.start(ROUTER, slot=1)
    requests = first
    for name in map(str, range(10)):
        scene.houses.request(*(more := scene.make_requests(f"b{name}", 10)))
        requests = [*requests, *more]
    scene.await_member(second)
    scene.houses.request(*(more := scene.make_requests("c", 50)))
    scene.check_routed([*requests, *more])
    assert ENGINE_ENDED not in [child.poll() for child, _ in scene.children]


# --- poison ---


def test_what_is_no_request_becomes_a_dead_letter_and_the_others_go_on(scene: Scene) -> None:
    houses = scene.houses
    topic = requests_topic(houses.guest.name)
    requests = scene.make_requests("good", 10)
    houses.request(*requests[:5])
    houses.put(topic, "junk", b"\xc3\x01 but not ours")
    houses.put(topic, "nothing", None)
    houses.put(topic, "wrong", scene.version.registered)
    houses.request(*requests[5:])
    scene.start(ROUTER)
    scene.check_routed(requests)
    letters = houses.dead_letters(houses.guest, 3)
    assert {(letter.key, letter.stage, letter.topic) for letter in letters} == {
        (key, ROUTER, topic) for key in (b"junk", b"nothing", b"wrong")
    }
    assert any("no request" in letter.reason for letter in letters)


def test_questions_that_do_not_open_or_cannot_be_answered_become_dead_letters(scene: Scene) -> None:
    houses, host = scene.houses, scene.houses.host.name
    topic = questions_topic(host)
    seal = MessageSeal(houses.guest.keyring, "score")
    ask = ScoreAsk("r-1", b"t" * 16, NAME, "job-1", Purpose.LIVE, 1, time.time_ns() // 1_000_000 + 60_000)
    good = seal.seal(ScoresAsked(0, (ask,)), host, topic, 0)
    houses.put(topic, "moved", good, 1)
    houses.put(topic, "cut", good[:-1])
    houses.put(topic, "plain", ScoresAsked(0, (ask,)))
    houses.put(topic, "other", seal.seal(scene.version.registered, host, topic, 0))
    houses.put(topic, "far", seal.seal(ScoresAsked(2, (ask,)), host, topic, 0))
    houses.put(topic, "long", seal.seal(ScoresAsked(0, (replace(ask, request_id="r" * 201),)), host, topic, 0))
    houses.put(topic, "token", seal.seal(ScoresAsked(0, (replace(ask, token=b"t"),)), host, topic, 0))
    houses.put(topic, "good", good)
    houses.flush()
    scene.start(SCORE_HOST)
    (said,) = houses.answers({"r-1"})
    assert (said.host, said.answer.reason) == (host, ScoreReason.NO_SUCH_PERSON)
    letters = houses.dead_letters(houses.host, 7)
    keys = {b"moved", b"cut", b"plain", b"other", b"far", b"long", b"token"}
    assert {letter.key for letter in letters} == keys and {letter.stage for letter in letters} == {SCORE_HOST}


def test_nothing_of_persons_features_and_logits_is_readable_on_the_way_to_the_host(scene: Scene) -> None:
    """Neither for the broker, nor, once it is opened, for the host itself."""
    requests = scene.make_requests("canary", 20)
    scene.start(ROUTER)
    scene.houses.request(*requests)
    items = scene.check_routed(requests)
    host, topic = scene.houses.host, questions_topic(scene.houses.host.name)
    secrets = {person.encode() for person in IDS} | {row.tobytes() for row in scene.tables[ROUTER].flatten()}
    secrets |= {one.item.pseudonym for one in items}
    seal, opened = MessageSeal(host.keyring, "score"), 0
    for message in follow(scene.houses.bootstrap, topic, scene.houses.partitions, ()):
        value = message.value() or b""
        sealed = decode(value)
        assert isinstance(sealed, SealedMessage)
        _, record = seal.open(value, topic, message.partition() or 0)
        assert isinstance(record, ScoresAsked)
        opened += len(record.asks)
        inside = repr(record).encode()
        for secret in secrets:
            assert secret not in value
            assert secret not in inside and repr(secret)[2:-1].encode() not in inside
        key = host.keyring.token_key(scene.houses.guest.name, host.name)
        assert {ask.token for ask in record.asks} <= {name_person(key, person) for person in IDS}
    assert opened == 20


# --- parity and shadows ---


def test_shadow_and_parity_take_the_same_way(scene: Scene) -> None:
    second = scene.houses.make_version("job-2", seed=2, passed=None)
    scene.houses.register(second)
    scene.start(ROUTER)
    scene.start(SCORE_HOST)
    checks = scene.make_requests("parity", 40, model=f"{NAME}/job-2", purpose=Purpose.PARITY)
    scene.houses.request(*checks)
    items = scene.houses.routed({request.request_id for request in checks})
    said = scene.houses.answers({request.request_id for request in checks})
    exact = score_half(scene.tables[ROUTER], to_kernel(second.guest_half)).tolist()
    told = quantise_logits(score_half(scene.tables[SCORE_HOST], to_kernel(second.host_half))).tolist()
    by_id = {one.item.request_id: one.item for one in items}
    answers = {one.answer.request_id: one.answer for one in said}
    for number, request in enumerate(checks):
        item, answer = by_id[request.request_id], answers[request.request_id]
        assert item.purpose is answer.purpose is Purpose.PARITY
        assert item.guest_logit == exact[number]
        assert answer.value == share_logit(told[number], POINT_QUANTUM)
    # Not passed: nobody else is served.
    (refused,) = scene.make_requests("live", 1, model=f"{NAME}/job-2")
    scene.houses.request(refused)
    reasons = {one.item.request_id: one.item.reason for one in scene.houses.routed({"live-0"})}
    assert reasons["live-0"] is ScoreReason.NOT_SERVED


def test_an_alias_that_is_switched_under_load_leaves_no_request_between_two_versions(scene: Scene) -> None:
    second = scene.houses.make_version("job-2", seed=2)
    scene.houses.register(second)
    scene.start(ROUTER)
    scene.start(SCORE_HOST)
    requests: list[ScoreRequested] = []
    versions: dict[str, str] = {}
    for turn in range(200):
        more = scene.make_requests(f"t{turn}", 10)
        requests += more
        scene.houses.request(*more)
        if turn == 20:
            scene.houses.point("live", "job-2", shadow="job-1")
        if turn % 20 == 19:
            items = scene.houses.routed({request.request_id for request in requests})
            versions = {one.item.request_id: one.item.version for one in items if one.item.purpose is Purpose.LIVE}
            if turn > 20 and versions[more[-1].request_id] == "job-2":
                break
    said = scene.houses.answers({request.request_id for request in requests})
    answered = {(one.answer.request_id, one.answer.purpose): one.answer for one in said}
    assert set(versions.values()) == {"job-1", "job-2"}
    assert len(versions) == len(requests)
    for request in requests:
        answer = answered[request.request_id, Purpose.LIVE]
        assert (answer.version, answer.reason) == (versions[request.request_id], ScoreReason.NONE)
    shadows = {name for name, purpose in answered if purpose is Purpose.SHADOW}
    assert shadows == {name for name, version in versions.items() if version == "job-2"}


def test_the_checks_look_where_the_records_are(scene: Scene) -> None:
    """They would pass on nothing at all, if they looked in the wrong place."""
    requests = scene.make_requests("there", 3)
    scene.start(ROUTER)
    scene.houses.request(*requests)
    scene.check_routed(requests)
    assert scene.houses.partitions_of(answers_topic(scene.houses.guest.name)) == scene.houses.partitions
    assert scene.houses.partitions_of(dead_letter_topic(scene.houses.guest.name)) == 1
    with pytest.raises(AssertionError):
        scene.check_routed(requests[:2])
    scene.version = Version("job-1", guest=scene.houses.guest.name, hosts=(scene.houses.host.name,), seed=9)
    with pytest.raises(AssertionError):
        scene.check_routed(requests)


# --- the programs as they are ---


def test_the_programs_answer_from_the_feature_topics_and_end_when_told(scene: Scene) -> None:
    houses = scene.houses
    for party, role, half in (
        (houses.guest, ROUTER, scene.version.guest_half),
        (houses.host, SCORE_HOST, scene.version.host_half),
    ):
        table = FeatureTable(IDS, half.columns, scene.tables[role], ())
        load_features(party, table, delete_missing=False, progress=lambda rows: None)
    for module, party in (("score_router", houses.guest), ("score_host", houses.host)):
        scene.run_program(module, party.settings.home)
    requests = scene.make_requests("program", 60)
    houses.request(*requests)
    scene.check_routed(requests)
    scene.check_answered(requests)
    assert scene.stop_all() == [0, 0], scene.tails()


def test_a_program_without_a_home_says_what_a_person_has_to_do(scene: Scene, tmp_path: Path) -> None:
    for module in ("score_router", "score_host"):
        child = scene.run_program(module, tmp_path / "nowhere")
        assert child.wait(DEADLINE_SECONDS) == NEEDS_A_PERSON
        assert "isthmus party init" in scene.children[-1][1].read_text()


def test_a_program_whose_topics_are_missing_ends_so_that_it_is_started_again(scene: Scene, tmp_path: Path) -> None:
    save_settings(
        tmp_path / "lone", {"party": "lone", "access": {"kind": "custom"}, "bootstrap_servers": scene.houses.bootstrap}
    )
    create_secrets(tmp_path / "lone", "lone")
    child = scene.run_program("score_router", tmp_path / "lone")
    assert child.wait(DEADLINE_SECONDS) == WORLD_FAILED
    assert "make the party's topics first" in scene.children[-1][1].read_text()


def test_after_a_restart_without_the_object_store_what_was_served_is_served(scene: Scene) -> None:
    houses = scene.houses
    second = houses.make_version("job-2", seed=2)
    houses.register(second)
    first = scene.start(ROUTER)
    houses.request(*(before := scene.make_requests("before", 5)))
    scene.check_routed(before)
    first.terminate()
    assert first.wait(DEADLINE_SECONDS) == 0
    shutil.rmtree(houses.guest.settings.home / "objects")
    scene.start(ROUTER)
    houses.request(*(after := scene.make_requests("after", 5)))
    scene.check_routed([*before, *after])
    (never_used,) = scene.make_requests("never", 1, model=second.key)
    houses.request(never_used)
    found = {one.item.request_id: one.item for one in houses.routed({"never-0"})}["never-0"]
    assert (found.reason, found.party) == (ScoreReason.MODEL_UNAVAILABLE, houses.guest.name)
