"""A trained model serves: the real processes of both parties, from a person's id to a result."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import yaml
from confluent_kafka.admin import AdminClient

from infra.broker import EmbeddedBroker
from infra.topics import group_id
from producers.score_client import ScoreClient
from producers.score_load import LoadReport, LoadRun
from schemas.scoring import AnswerAudited, Outcome, Purpose, ScoreAudited, ScoreReason
from tests.end_to_end.scoring_world import GUEST_PROCESSES, HOST_PROCESSES, Scoring, isthmus, scoring_world
from tests.end_to_end.world import House

DEADLINE_MS = 20_000


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scoring]:
    folder = tmp_path_factory.mktemp("scoring")
    with (
        EmbeddedBroker(folder / "broker") as broker,
        scoring_world(folder, broker, ("bank", "shop")) as world,
    ):
        yield world


def _common(scoring: Scoring) -> list[str]:
    return sorted(set(scoring.world.tables.guest["id"]) & set(scoring.world.tables.host["id"]))


def test_a_version_is_served_because_its_whole_hold_out_scored_the_same(scoring: Scoring) -> None:
    checked = [r for r in scoring.audit(scoring.world.guest) if isinstance(r, ScoreAudited)]
    for model in (scoring.model, scoring.second):
        verdict = scoring.serving().versions[f"small/{model.version}"]
        assert verdict.passed, verdict.detail
        assert (verdict.rows, verdict.differences) == (model.rows_holdout, 0)
        of_this = [r for r in checked if r.purpose is Purpose.PARITY and r.version == model.version]
        assert len(of_this) >= verdict.rows


def test_everybody_whom_both_know_scores_online_as_offline(scoring: Scoring) -> None:
    people = _common(scoring)
    with scoring.client() as client:
        results = client.gather([client.send(who, "small", deadline_ms=DEADLINE_MS) for who in people])
    assert Counter(result.outcome for result in results) == {Outcome.SCORED: len(people)}
    assert {result.version for result in results} == {scoring.model.version}
    offline = scoring.offline_points(people)
    assert [result.points for result in results] == [offline[who][1] for who in people]
    audited = {r.request_id: r for r in scoring.audit(scoring.world.guest) if isinstance(r, ScoreAudited)}
    for who, result in zip(people, results, strict=True):
        assert audited[result.request_id].logit == offline[who][0]


def test_who_is_missing_somewhere_is_told_with_the_party(scoring: Scoring) -> None:
    guest_only = min(set(scoring.world.tables.guest["id"]) - set(scoring.world.tables.host["id"]))
    with scoring.client() as client:
        degraded = client.score(guest_only, "small@live", deadline_ms=DEADLINE_MS)
        nobody = client.score("nobody-knows-me", "small", deadline_ms=DEADLINE_MS)
        unknown = client.score(guest_only, "large@live", deadline_ms=DEADLINE_MS)
    shop, bank = scoring.world.host.party, scoring.world.guest.party
    told = [(r.outcome, r.reason, r.party) for r in (degraded, nobody, unknown)]
    assert told == [
        (Outcome.DEGRADED, ScoreReason.NO_SUCH_PERSON, shop),
        (Outcome.REFUSED, ScoreReason.NO_SUCH_PERSON, bank),
        (Outcome.REFUSED, ScoreReason.UNKNOWN_MODEL, bank),
    ]
    assert degraded.points is not None
    assert nobody.points is unknown.points is None


def test_a_request_that_comes_twice_has_one_outcome(scoring: Scoring) -> None:
    who = _common(scoring)[0]
    with scoring.client() as client:
        first = client.score(who, "small", deadline_ms=DEADLINE_MS, request_id="said-twice")
        again = client.score(who, "small", deadline_ms=DEADLINE_MS, request_id="said-twice")
    assert first == again
    assert [r.request_id for r in scoring.results()].count("said-twice") == 1


def test_what_is_scored_is_in_the_history_and_in_the_hosts_books(scoring: Scoring) -> None:
    guest, host = scoring.world.guest, scoring.world.host
    with scoring.client() as client:
        result = client.score(_common(scoring)[3], "small", deadline_ms=DEADLINE_MS)

    def history() -> list[dict[str, object]]:
        told = isthmus("score", "history", "--request", result.request_id, "--json", "--home", str(guest.home))
        return list(json.loads(told)["outcomes"])

    scoring.await_so(lambda: bool(history()), "the history has the outcome")
    assert [(row["outcome"], row["points"]) for row in history()] == [(str(result.outcome), result.points)]
    audited = [r for r in scoring.audit(guest) if isinstance(r, ScoreAudited)]
    assert Counter((r.request_id, r.purpose) for r in audited) == Counter(
        (r.request_id, r.purpose) for r in scoring.results()
    )
    answered = {r.request_id for r in scoring.audit(host) if isinstance(r, AnswerAudited)}
    assert {r.request_id for r in audited if r.outcome is Outcome.SCORED} <= answered


def _load(scoring: Scoring, client: ScoreClient, seconds: float, meanwhile: Callable[[], object]) -> LoadReport:
    """Score people of both parties in turn, and do something in the middle of it."""
    run = LoadRun(client, _common(scoring), "small", rate=150, seconds=seconds, deadline_ms=60_000)
    load = threading.Thread(target=run.run)
    load.start()
    scoring.await_so(lambda: run.report.ended > run.report.total / 4, "the load runs")
    meanwhile()
    load.join()
    assert (run.report.lost, run.report.ended, run.report.problem) == (0, run.report.total, "")
    return run.report


def test_a_switch_under_load_loses_nothing_and_mixes_no_versions(scoring: Scoring) -> None:
    """Every request is scored by one version at both parties: its points are that version's, and no other's."""
    known = {r.request_id for r in scoring.results()}
    with scoring.client() as client:
        report = _load(scoring, client, 10.0, lambda: scoring.set_alias(scoring.second.version))
    new = [r for r in scoring.results() if r.request_id not in known]
    assert len(new) == report.total
    assert {r.outcome for r in new} == {Outcome.SCORED}
    versions = Counter(r.version for r in new)
    assert versions.keys() == {scoring.model.version, scoring.second.version}
    people = _common(scoring)
    points = {
        model.version: {value[1] for value in scoring.offline_points(people, model).values()}
        for model in (scoring.model, scoring.second)
    }
    assert all(r.points in points[r.version] for r in new)
    audited = [r for r in scoring.audit(scoring.world.host) if isinstance(r, AnswerAudited)]
    asked = {(r.request_id, r.version) for r in audited}
    assert {(r.request_id, r.version) for r in new} <= asked
    assert len({r.request_id for r in new}) == len({pair for pair in asked if pair[0] not in known})


def test_a_canary_gets_its_share_and_a_shadow_is_told_to_nobody(scoring: Scoring) -> None:
    first, second = scoring.model.version, scoring.second.version
    scoring.set_alias(first, canary=second, permille=300, shadow=second)
    try:
        with scoring.client() as client:
            scoring.await_so(lambda: _sees_the_alias(scoring, client), "the alias is known")
            results = client.gather([client.send(_common(scoring)[0], "small", deadline_ms=60_000) for _ in range(400)])
    finally:
        scoring.set_alias(first)
    share = sum(r.version == second for r in results) / len(results)
    assert 0.2 < share < 0.4
    assert {r.purpose for r in scoring.results()} == {Purpose.LIVE, Purpose.PARITY}
    ids = {r.request_id for r in results}

    def shadows() -> set[str]:
        books = [r for r in scoring.audit(scoring.world.guest) if isinstance(r, ScoreAudited)]
        return {r.request_id for r in books if r.purpose is Purpose.SHADOW and r.version == second} & ids

    # What the canary scores needs no shadow of the same version.
    scoring.await_so(
        lambda: shadows() == {r.request_id for r in results if r.version == first}, "every shadow is in the books"
    )


def _sees_the_alias(scoring: Scoring, client: ScoreClient) -> bool:
    """A shadow of this request is in the books: the router knows the alias as it is now."""
    result = client.score(_common(scoring)[0], "small", deadline_ms=60_000)
    books = [r for r in scoring.audit(scoring.world.guest) if isinstance(r, ScoreAudited)]
    return any(r.request_id == result.request_id and r.purpose is Purpose.SHADOW for r in books)


def test_more_processes_come_and_go_under_load_and_nothing_is_lost_or_repeated(scoring: Scoring) -> None:
    known = {r.request_id for r in scoring.results()}
    guest, host = scoring.world.guest, scoring.world.host

    def scale() -> None:
        scoring.start(guest, "score-router", "score-joiner", slot=1)
        scoring.start(host, "score-host", slot=1)
        added = ((guest, "score-router"), (guest, "score-joiner"), (host, "score-host"))
        scoring.await_so(
            lambda: all(_owns_partitions(scoring, house, name, 1) for house, name in added), "all have a share"
        )
        scoring.stop_slot(1)

    with scoring.client() as client:
        report = _load(scoring, client, 20.0, scale)
    new = Counter(r.request_id for r in scoring.results() if r.request_id not in known)
    assert len(new) == report.total
    assert set(new.values()) == {1}


def _owns_partitions(scoring: Scoring, house: House, process: str, slot: int) -> bool:
    group = group_id(process, house.party)
    admin = AdminClient(scoring.broker.admin_connection)
    found = admin.describe_consumer_groups([group])[group].result(timeout=30)
    return any(
        (member.group_instance_id or "").endswith(f".{slot}") and member.assignment.topic_partitions
        for member in found.members
    )


def test_it_scores_after_a_restart_with_the_object_store_gone(scoring: Scoring) -> None:
    guest, host = scoring.world.guest, scoring.world.host
    scoring.stop()
    hidden = []
    try:
        for house in (guest, host):
            store = house.home / "objects"
            hidden.append((store, store.with_name("objects-away")))
            store.rename(store.with_name("objects-away"))
        scoring.start_all()
        with scoring.client() as client:
            result = client.score(_common(scoring)[0], "small", deadline_ms=60_000)
        assert (result.outcome, result.reason) == (Outcome.SCORED, ScoreReason.NONE)
    finally:
        scoring.stop()
        for store, away in hidden:
            if store.exists():
                shutil.rmtree(store)
            away.rename(store)
        scoring.start_all()


def test_a_silent_host_degrades_and_nothing_changes_when_it_returns(scoring: Scoring) -> None:
    host = scoring.world.host
    scoring.stop(host)
    with scoring.client() as client:
        result = client.score(_common(scoring)[0], "small", deadline_ms=DEADLINE_MS)
        assert (result.outcome, result.reason, result.party) == (Outcome.DEGRADED, ScoreReason.LATE, host.party)
        scoring.start(host, *HOST_PROCESSES)
        scoring.await_so(lambda: _is_scored(client, _common(scoring)[1]), "the host is back")
    assert [r.outcome for r in scoring.results() if r.request_id == result.request_id] == [Outcome.DEGRADED]


@contextmanager
def _settings(scoring: Scoring, house: House, processes: tuple[str, ...], **score: int) -> Iterator[None]:
    """The house's processes with these settings of scoring, and as they were before afterwards."""
    path = house.home / "party.yaml"
    before = path.read_text(encoding="utf-8")
    settings = yaml.safe_load(before)
    settings["score"] = {**settings.get("score", {}), **score}

    def restart(text: str) -> None:
        scoring.stop(house)
        path.write_text(text, encoding="utf-8")
        scoring.start(house, *processes)
        with scoring.client() as client:
            scoring.await_so(lambda: _is_scored(client, _common(scoring)[0]), "scores again")

    restart(yaml.safe_dump(settings))
    yield
    restart(before)


def test_beyond_a_hosts_quota_requests_are_refused_in_its_name_and_none_is_without_outcome(scoring: Scoring) -> None:
    host, burst, per_second = scoring.world.host, 40, 10
    with (
        _settings(scoring, host, HOST_PROCESSES, quota_burst=burst, quota_per_second=per_second),
        scoring.client() as client,
    ):
        began = time.monotonic()
        report = _load(scoring, client, 4.0, lambda: None)
        seconds = time.monotonic() - began
    refused = report.outcomes["refused", "quota_exceeded", host.party]
    scored = report.outcomes["scored", "none", ""]
    assert scored + refused == report.total
    assert refused > 0
    # At least what a full bucket has; at most that and what came in since.
    assert burst / 2 <= scored <= burst + per_second * (seconds + 1)


def test_what_has_no_room_to_wait_is_refused_at_once_and_the_others_get_their_outcome(scoring: Scoring) -> None:
    guest, host, most = scoring.world.guest, scoring.world.host, 5
    with _settings(scoring, guest, GUEST_PROCESSES, most_waiting=most), scoring.client() as client:
        scoring.stop(host)
        people = _common(scoring)[:200]
        sent = [client.send(person, "small", deadline_ms=DEADLINE_MS) for person in people]
        outcomes = Counter((r.outcome, r.reason, r.party) for r in (each.result() for each in sent))
        scoring.start(host, *HOST_PROCESSES)
    refused = outcomes[Outcome.REFUSED, ScoreReason.OVERLOADED, guest.party]
    late = outcomes[Outcome.DEGRADED, ScoreReason.LATE, host.party]
    assert refused + late == len(people)
    # All were sent long before the first had waited enough, so every partition was full.
    assert late == most * guest.settings.topics.partitions


def _is_scored(client: ScoreClient, entity_id: str) -> bool:
    return client.score(entity_id, "small", deadline_ms=DEADLINE_MS).outcome is Outcome.SCORED
