"""Router and score host from sealed record to sealed record, without a broker: what they do, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.model_cache import ModelUnavailableError
from consumers.party import Party, open_party
from consumers.relays import MOST_BYTES, PURPOSE, Lookups, seal_items
from consumers.score_host import ScoreHost
from consumers.score_router import ScoreRouter
from infra.federation_local import found_together
from infra.secrets import create_secrets
from infra.settings import save_settings
from infra.topics import answers_topic, questions_topic, requests_topic, routed_topic, score_audit_topic
from schemas.codec import decode, encode
from schemas.models import ModelHalf, ModelRegistered
from schemas.scoring import (
    AnswerAudited,
    Purpose,
    RoutedScore,
    ScoreAnswer,
    ScoreReason,
    ScoreRequested,
    ScoresAnswered,
    ScoresRouted,
)
from schemas.serving import ServingVersion
from streams.engine.messages import MessageSeal
from streams.engine.partitioner import partition_of
from streams.engine.ports import OutputRecord
from streams.engine.relay_ports import Later, StampedRecord
from streams.features import FeatureSourceError, PersonFeatures
from streams.kernels.scorecard import bits_quantum, restore_share, share_logit
from streams.kernels.scoring import quantise_logits, score_half
from streams.machines.score.halves import Problem, to_kernel
from streams.machines.score.resolution import Refusal, Resolved, check_version, resolve
from tests.broker.score_houses import DictIndex, DictSource
from tests.machines.route_cases import GUEST, HOST, NAME, NOW_MS, NOW_US, Shelf, Version, make_request, make_rows

PARTITIONS = 4
IDS = ("anna", "berta", "carl")


class ShelfCatalogue:
    """A `ServingCatalogue` without topics. `away` says why halves cannot be had."""

    def __init__(self, shelf: Shelf, *, is_guest: bool) -> None:
        self.shelf, self.is_guest = shelf, is_guest
        self.away = ""

    def resolve(self, model: str, request_id: str, needs_pass: bool = True) -> Resolved | Refusal:
        return resolve(self.shelf.book, model, request_id, needs_pass=needs_pass)

    def check(self, name: str, version: str, needs_pass: bool = True) -> Refusal | None:
        return check_version(self.shelf.book, name, version, needs_pass=needs_pass)

    def model(self, name: str, version: str) -> ModelRegistered | None:
        return self.shelf.book.models.get(f"{name}/{version}")

    def models(self) -> tuple[ModelRegistered, ...]:
        return tuple(self.shelf.book.models.values())

    def checked(self, name: str, version: str) -> ServingVersion | None:
        return self.shelf.book.versions.get(f"{name}/{version}")

    def half(self, name: str, version: str) -> ModelHalf:
        if self.away:
            raise ModelUnavailableError(self.away)
        found = self.shelf.versions[version]
        return found.guest_half if self.is_guest else found.host_half

    def close(self) -> None:
        pass


class Way:
    """Both parties' machines with all that they need, and a clock that stands still."""

    def __init__(self, homes: Path, shelf: Shelf, version: Version, rows: int = len(IDS), seed: int = 5) -> None:
        self.guest, self.host = open_party(homes / GUEST), open_party(homes / HOST)
        ids = IDS if rows == len(IDS) else tuple(f"p{place}" for place in range(rows))
        guest_rows, self.guest_table = make_rows(version.guest_half, ids, seed)
        host_rows, self.host_table = make_rows(version.host_half, ids, seed + 1)
        self.ids = ids
        self.guest_source, self.host_source = DictSource(guest_rows), DictSource(host_rows)
        self.guest_table_source, self.host_table_source = DictSource(guest_rows), DictSource(host_rows)
        self.loaded: list[str] = []
        self.guest_catalogue = ShelfCatalogue(shelf, is_guest=True)
        self.host_catalogue = ShelfCatalogue(shelf, is_guest=False)
        self.counts = dict.fromkeys(
            (routed_topic(GUEST), answers_topic(GUEST), questions_topic(HOST), score_audit_topic(HOST)), PARTITIONS
        )
        key = self.host.keyring.token_key(GUEST, HOST)
        self.router = ScoreRouter(
            self.guest,
            self.guest_catalogue,  # type: ignore[arg-type]
            self.guest_source,
            lambda spec: self._load("guest", self.guest_table_source),
            self.count,
            lambda: NOW_US,
        )
        self.scorer = ScoreHost(
            self.host,
            self.host_catalogue,  # type: ignore[arg-type]
            self.host_source,
            lambda spec: self._load("host", self.host_table_source),
            lambda source, normalise: DictIndex(source, lambda guest: key, normalise),  # type: ignore[arg-type]
            self.count,
            lambda: NOW_US + 1_000,
        )

    def _load(self, who: str, table: DictSource) -> DictSource:
        self.loaded.append(who)
        return table

    def count(self, topic: str) -> int:
        if topic not in self.counts:
            raise LookupError(f"there is no topic {topic}")
        return self.counts[topic]

    def route(self, *requests: ScoreRequested) -> list[OutputRecord]:
        records = [
            StampedRecord(requests_topic(GUEST), 0, place, b"", encode(request), NOW_MS)
            for place, request in enumerate(requests)
        ]
        return run(self.router, records)

    def answer(self, outputs: Sequence[OutputRecord]) -> list[OutputRecord]:
        asked = [output for output in outputs if output.topic == questions_topic(HOST)]
        records = [
            StampedRecord(output.topic, output.partition, place, output.key, output.value, NOW_MS)
            for place, output in enumerate(asked)
        ]
        return run(self.scorer, records)

    def items(self, outputs: Sequence[OutputRecord]) -> dict[str, RoutedScore]:
        """What the joiner reads."""
        seal, found = MessageSeal(self.guest.keyring, PURPOSE), {}
        for output in outputs:
            if output.topic == routed_topic(GUEST):
                sender, record = seal.open(output.value or b"", output.topic, output.partition)
                assert sender == GUEST and isinstance(record, ScoresRouted)
                for item in record.items:
                    assert output.partition == partition_of(item.request_id.encode(), PARTITIONS)
                    found[item.request_id] = item
        return found

    def answers(self, outputs: Sequence[OutputRecord]) -> dict[str, ScoreAnswer]:
        """What the joiner reads. The host's books say the same."""
        seal, found, books = MessageSeal(self.guest.keyring, PURPOSE), {}, {}
        for output in outputs:
            if output.topic == score_audit_topic(HOST):
                entry = decode(output.value or b"")
                assert isinstance(entry, AnswerAudited) and output.key == entry.request_id.encode()
                books[entry.request_id] = (entry.reason, entry.value, entry.quantum, entry.asked_at_us)
                continue
            sender, record = seal.open(output.value or b"", output.topic, output.partition)
            assert (sender, output.topic) == (HOST, answers_topic(GUEST)) and isinstance(record, ScoresAnswered)
            for said in record.answers:
                assert output.partition == partition_of(said.request_id.encode(), PARTITIONS)
                found[said.request_id] = said
        told = {name: (said.reason, said.value, said.quantum, said.asked_at_us) for name, said in found.items()}
        assert books == told
        return found


def run(handler: Any, records: Sequence[StampedRecord]) -> list[OutputRecord]:
    """As the relay loop does, with works for later done at the end."""
    outputs: list[OutputRecord] = []
    works: list[Later] = []
    for step in handler.handle([handler.open(record) for record in records]):
        works.append(step) if isinstance(step, Later) else outputs.extend(step)
    for work in works:
        outputs.extend(work.work())
    return outputs


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("homes")
    for name, peer in ((GUEST, HOST), (HOST, GUEST)):
        settings = {
            "party": name,
            "access": {"kind": "custom"},
            "bootstrap_servers": "127.0.0.1:1",
            "peers": [peer],
            "score": {"precision": 10},
        }
        save_settings(folder / name, settings)
        create_secrets(folder / name, name)
    found_together([folder / GUEST, folder / HOST], "relays")
    return folder


@pytest.fixture
def way(homes: Path) -> Way:
    version = Version("job-1")
    shelf = Shelf(version)
    shelf.point("live", "job-1")
    return Way(homes, shelf, version)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**20))
def test_an_online_logit_is_the_offline_one_to_the_last_bit(homes: Path, rows: int, columns: int, seed: int) -> None:
    """From the request's bytes through both houses to the sum that the joiner makes."""
    version = Version("job-1", seed=seed, columns=columns)
    way = Way(homes, Shelf(version), version, rows, seed)
    requests = [make_request(f"r-{name}", entity_id=name, model=version.key) for name in way.ids]
    routed = way.route(*requests)
    items, said = way.items(routed), way.answers(way.answer(routed))
    guest = score_half(way.guest_table, to_kernel(version.guest_half)).tolist()
    host = quantise_logits(score_half(way.host_table, to_kernel(version.host_half))).tolist()
    for place, name in enumerate(way.ids):
        item, answer = items[f"r-{name}"], said[f"r-{name}"]
        assert item.guest_logit is not None
        online = item.guest_logit + restore_share(answer.value, answer.quantum)
        quantum = bits_quantum(10)
        assert online == guest[place] + restore_share(share_logit(host[place], quantum), quantum)
        assert online == guest[place] + (host[place] << 10)
        assert item.routed_at_us == answer.asked_at_us


def test_questions_are_on_their_way_before_anything_is_looked_up(way: Way) -> None:
    record = StampedRecord(requests_topic(GUEST), 0, 0, b"", encode(make_request()), NOW_MS)
    steps = way.router.handle([way.router.open(record)])
    first = next(steps)
    assert not isinstance(first, Later) and {output.topic for output in first} == {questions_topic(HOST)}
    assert way.guest_source.fetched == []
    assert way.items([output for step in steps if not isinstance(step, Later) for output in step])


def test_a_refusal_waits_for_no_source(way: Way) -> None:
    records = [
        StampedRecord(requests_topic(GUEST), 0, place, b"", encode(request), NOW_MS)
        for place, request in enumerate((make_request("good"), make_request("bad", model="?")))
    ]
    seen = []
    for step in way.router.handle([way.router.open(record) for record in records]):
        assert not isinstance(step, Later)
        seen += list(way.items(step))
        if "bad" in seen:
            break
    assert seen == ["bad"] and way.guest_source.fetched == []


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (lambda way: setattr(way.guest_source, "fails", "locked"), ScoreReason.SOURCE_FAILED),
        (lambda way: setattr(way.guest_source, "rows", None), ScoreReason.SOURCE_FAILED),
        (lambda way: setattr(way.guest_catalogue, "away", "the store is down"), ScoreReason.MODEL_UNAVAILABLE),
        (lambda way: way.counts.pop(questions_topic(HOST)), ScoreReason.MODEL_UNAVAILABLE),
        (lambda way: way.guest_catalogue.shelf.book.versions.clear(), ScoreReason.NOT_SERVED),
        (lambda way: way.guest_catalogue.shelf.book.models.clear(), ScoreReason.UNKNOWN_MODEL),
        (lambda way: way.guest_source.rows.clear(), ScoreReason.NO_SUCH_PERSON),
    ],
)
def test_what_goes_wrong_at_the_guest_is_a_reason(way: Way, fail: Callable[[Way], object], reason: ScoreReason) -> None:
    fail(way)
    (item,) = way.items(way.route(make_request())).values()
    assert (item.reason, item.party, item.guest_logit) == (reason, GUEST, None)


def test_a_host_without_keys_is_a_reason(homes: Path) -> None:
    version = Version("job-1", hosts=("stranger",))
    way = Way(homes, Shelf(version), version)
    (item,) = way.items(way.route(make_request(model=version.key))).values()
    assert item.reason is ScoreReason.MODEL_UNAVAILABLE and "stranger" in item.detail


def test_a_model_of_another_guest_is_unknown_to_both(homes: Path) -> None:
    version = Version("job-1", guest="somebody")
    way = Way(homes, Shelf(version), version)
    (item,) = way.items(way.route(make_request(model=version.key))).values()
    assert item.reason is ScoreReason.UNKNOWN_MODEL
    found = way.scorer.find_model(GUEST, NAME, "job-1")
    assert isinstance(found, Refusal) and found.reason is ScoreReason.UNKNOWN_MODEL


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (lambda way: setattr(way.host_source, "fails", "canary: locked at 10.0.0.7"), ScoreReason.SOURCE_FAILED),
        (lambda way: setattr(way.host_source, "rows", None), ScoreReason.SOURCE_FAILED),
        (lambda way: setattr(way.host_catalogue, "away", "canary: 10.0.0.7 is down"), ScoreReason.MODEL_UNAVAILABLE),
        (lambda way: setattr(way.host_catalogue, "shelf", Shelf()), ScoreReason.UNKNOWN_MODEL),
        (lambda way: way.host_source.rows.clear(), ScoreReason.NO_SUCH_PERSON),
    ],
)
def test_what_goes_wrong_at_the_host_is_a_reason_without_its_story(
    way: Way, fail: Callable[[Way], object], reason: ScoreReason
) -> None:
    routed = way.route(make_request())
    fail(way)
    (said,) = way.answers(way.answer(routed)).values()
    assert (said.reason, said.value, said.detail) == (reason, 0, "")


def test_a_column_that_is_missing_is_named(way: Way) -> None:
    row = way.host_source.rows["anna"]
    assert row is not None
    values = dict(row.values)
    del values["shop_1"]
    way.host_source.rows = {**way.host_source.rows, "anna": PersonFeatures(values)}
    (said,) = way.answers(way.answer(way.route(make_request()))).values()
    assert (said.reason, said.detail) == (ScoreReason.MISSING_FEATURE, "shop_1")


def test_a_source_that_comes_back_is_used_again(way: Way) -> None:
    way.guest_source.fails = "locked"
    assert way.items(way.route(make_request("a")))["a"].reason is ScoreReason.SOURCE_FAILED
    way.guest_source.fails = ""
    assert way.items(way.route(make_request("b")))["b"].reason is ScoreReason.NONE


def test_parity_checks_take_their_features_from_the_tables_in_a_lane_of_their_own(way: Way) -> None:
    way.guest_source.fails = way.host_source.fails = "nobody asks it"
    request = make_request("p", model=f"{NAME}/job-1", purpose=Purpose.PARITY)
    record = StampedRecord(requests_topic(GUEST), 0, 0, b"", encode(request), NOW_MS)
    steps = list(way.router.handle([way.router.open(record)]))
    assert [isinstance(step, Later) for step in steps] == [False, True]
    assert way.loaded == [], "nothing was loaded before the lane's turn"
    routed = way.route(request)
    assert way.items(routed)["p"].reason is ScoreReason.NONE
    assert way.answers(way.answer(routed))["p"].reason is ScoreReason.NONE
    way.answer(way.route(request))
    assert way.loaded == ["guest", "host"], "tables stay"


def test_the_quota_of_the_settings_counts(way: Way) -> None:
    object.__setattr__(way.scorer, "_quota", replace(way.scorer._quota, burst=2, per_second=1))
    requests = [make_request(name, entity_id="anna") for name in ("a", "b", "c")]
    reasons = [said.reason for said in way.answers(way.answer(way.route(*requests))).values()]
    assert sorted(reasons) == [ScoreReason.NONE, ScoreReason.NONE, ScoreReason.QUOTA_EXCEEDED]
    again = [said.reason for said in way.answers(way.answer(way.route(make_request("d")))).values()]
    assert again == [ScoreReason.QUOTA_EXCEEDED]


def test_a_version_that_was_checked_again_is_prepared_again(way: Way) -> None:
    before = way.router.find_model(NAME, "job-1", True)
    assert before is way.router.find_model(NAME, "job-1", True)
    book = way.guest_catalogue.shelf.book
    book.versions[f"{NAME}/job-1"] = replace(book.versions[f"{NAME}/job-1"], alone_intercept=0)
    assert before is not way.router.find_model(NAME, "job-1", True)


def test_a_host_knows_its_guests_persons_before_the_first_question(way: Way) -> None:
    way.scorer.warm()
    assert list(way.scorer._people) == ["string"]


def test_records_that_would_be_too_large_are_divided(homes: Path) -> None:
    party: Party = open_party(homes / GUEST)
    seal = MessageSeal(party.keyring, PURPOSE)
    answers = [
        ScoreAnswer(f"{place}", NAME, "job-1", Purpose.LIVE, ScoreReason.NONE, 1, 1, 1, 1, "x" * 100_000)
        for place in range(30)
    ]
    outputs = seal_items(seal, answers, ScoresAnswered, GUEST, "topic", 1)
    assert len(outputs) == 4 and all(len(output.value or b"") <= MOST_BYTES for output in outputs)
    opened = [seal.open(output.value or b"", "topic", 1)[1] for output in outputs]
    assert [said for record in opened if isinstance(record, ScoresAnswered) for said in record.answers] == answers


def test_what_a_source_raises_is_logged_now_and_then_only(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    lookups = Lookups(lambda: now)
    source = DictSource({})
    source.fails = "the table is locked" * 100
    for _ in range(50):
        found = lookups.fetch(source, ["anna"], ["x"])
        assert not isinstance(found, dict)
        assert (found.reason, len(found.detail)) == (ScoreReason.SOURCE_FAILED, 200)
    assert len(caplog.records) == 1
    now = 11.0
    lookups.fetch(source, ["anna"], ["x"])
    assert len(caplog.records) == 2


def test_a_source_that_hangs_costs_others_half_of_the_time_at_most() -> None:
    """Sixty versions in one poll must not wait for it sixty times."""
    now, waited = 100.0, 0

    def hang() -> None:
        nonlocal now, waited
        now, waited = now + 1.0, waited + 1
        raise FeatureSourceError("no answer within 1,000 ms")

    lookups = Lookups(lambda: now)
    for _ in range(60):
        found = lookups.attempt(hang)
        assert isinstance(found, Problem) and found.reason is ScoreReason.SOURCE_FAILED
    assert waited == 1
    now += 0.9
    lookups.attempt(hang)
    assert waited == 1
    now += 0.2
    assert lookups.attempt(lambda: "it is back") == "it is back"
    assert lookups.attempt(lambda: "and stays") == "and stays"


def test_a_failure_that_is_told_at_once_is_not_held_against_the_next_question() -> None:
    """It may be about a column that one version has and others do not."""
    lookups = Lookups(lambda: 100.0)

    def fail() -> None:
        raise FeatureSourceError("there is no column x")

    assert isinstance(lookups.attempt(fail), Problem)
    assert lookups.attempt(lambda: "other columns") == "other columns"
