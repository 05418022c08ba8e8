"""A trained model serves: the real processes of both parties, from a person's id to a result."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator

import pytest

from infra.broker import EmbeddedBroker
from producers.score_client import ScoreClient
from schemas.scoring import AnswerAudited, Outcome, Purpose, ScoreAudited, ScoreReason
from tests.end_to_end.scoring_world import HOST_PROCESSES, Scoring, await_so, isthmus, scoring_world

DEADLINE_MS = 20_000


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scoring]:
    folder = tmp_path_factory.mktemp("scoring")
    with EmbeddedBroker(folder / "broker") as broker, scoring_world(folder, broker, ("bank", "shop")) as world:
        yield world


def _common(scoring: Scoring) -> list[str]:
    return sorted(set(scoring.world.tables.guest["id"]) & set(scoring.world.tables.host["id"]))


def test_a_version_is_served_because_its_whole_hold_out_scored_the_same(scoring: Scoring) -> None:
    verdict = scoring.serving().versions[scoring.key]
    assert verdict.passed, verdict.detail
    assert (verdict.rows, verdict.differences) == (scoring.model.rows_holdout, 0)
    checked = [r for r in scoring.audit(scoring.world.guest) if isinstance(r, ScoreAudited)]
    assert sum(record.purpose is Purpose.PARITY for record in checked) >= verdict.rows


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

    await_so(lambda: bool(history()), "the history has the outcome")
    assert [(row["outcome"], row["points"]) for row in history()] == [(str(result.outcome), result.points)]
    audited = [r for r in scoring.audit(guest) if isinstance(r, ScoreAudited)]
    assert Counter((r.request_id, r.purpose) for r in audited) == Counter(
        (r.request_id, r.purpose) for r in scoring.results()
    )
    answered = {r.request_id for r in scoring.audit(host) if isinstance(r, AnswerAudited)}
    assert {r.request_id for r in audited if r.outcome is Outcome.SCORED} <= answered


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
        await_so(lambda: _is_scored(client, _common(scoring)[1]), "the host is back")
    assert [r.outcome for r in scoring.results() if r.request_id == result.request_id] == [Outcome.DEGRADED]


def _is_scored(client: ScoreClient, entity_id: str) -> bool:
    return client.score(entity_id, "small", deadline_ms=DEADLINE_MS).outcome is Outcome.SCORED
