"""Twenty SIGKILLs under load, the broker's among them: every request has exactly one outcome, and all books agree."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.broker import EmbeddedBroker
from producers.score_load import LoadReport, LoadRun
from schemas.scoring import AnswerAudited, AnswerLate, Outcome, Purpose, ScoreAudited
from tests.end_to_end.scoring_world import (
    GUEST_PROCESSES,
    HOST_PROCESSES,
    Scoring,
    isthmus,
    scoring_world,
)

KILLS = 20
BROKER_KILLS = (3, 8, 13, 17)
SEED = 4
RATE = 60.0
#: Between two blows, so that what was started again is hit at work and not in its start; the last sees the load's end.
GAP_SECONDS = 2.0
LOAD_SECONDS = KILLS * GAP_SECONDS + 10
#: Nobody is in a hurry here: the question is what becomes of every request, not how soon.
DEADLINE_MS = 150_000

#: The first test trains a model, checks it and sees all the kills: two minutes on two idle cores.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scoring]:
    folder = tmp_path_factory.mktemp("kills")
    with (
        EmbeddedBroker(folder / "broker") as broker,
        scoring_world(folder, broker, ("bank", "shop")) as world,
    ):
        yield world


def _strike(scoring: Scoring, ended: threading.Event) -> list[str]:
    """The kills, each proven."""
    draws = np.random.RandomState(SEED)
    victims = [(scoring.world.guest, name) for name in GUEST_PROCESSES]
    victims += [(scoring.world.host, name) for name in HOST_PROCESSES]
    done = []
    for number in range(KILLS):
        ended.wait(GAP_SECONDS)
        if number in BROKER_KILLS:
            pid = scoring.broker.pid
            scoring.broker.kill()
            scoring.broker.start()
            assert scoring.broker.pid != pid
            done.append("broker")
            continue
        house, name = victims[draws.randint(len(victims))]
        scoring.kill(house, name)
        done.append(name)
    return done


@pytest.fixture(scope="module")
def report(scoring: Scoring) -> LoadReport:
    """A load during which everything is killed."""
    people = sorted(set(scoring.world.tables.guest["id"]))
    found: list[LoadReport] = []
    with scoring.client() as client:
        run = LoadRun(client, people, "small", rate=RATE, seconds=LOAD_SECONDS, deadline_ms=DEADLINE_MS)
        load = threading.Thread(target=lambda: found.append(run.run()))
        load.start()
        kills = _strike(scoring, threading.Event())
        load.join()
    assert len(kills) == KILLS
    assert kills.count("broker") == len(BROKER_KILLS)
    assert {"score-router", "score-joiner", "score-host"} <= set(kills)
    return found[0]


def test_every_request_has_exactly_one_outcome(scoring: Scoring, report: LoadReport) -> None:
    assert report.problem == ""
    assert (report.lost, report.ended) == (0, report.total)
    outcomes = Counter((r.request_id, r.purpose) for r in scoring.results())
    assert set(outcomes.values()) == {1}
    live = [r for r in scoring.results() if r.purpose is Purpose.LIVE]
    assert len(live) == report.total
    # With nothing in the way both parties know nearly everybody; most requests must have got through all that.
    assert sum(r.outcome is Outcome.SCORED for r in live) > report.total / 2


def test_results_audit_and_history_are_the_same(scoring: Scoring, report: LoadReport) -> None:
    guest, host = scoring.world.guest, scoring.world.host
    results = {(r.request_id, r.purpose): (r.outcome, r.points) for r in scoring.results()}
    audited = [r for r in scoring.audit(guest) if isinstance(r, ScoreAudited)]
    assert len(audited) == len(results)
    assert {(r.request_id, r.purpose): (r.outcome, r.points) for r in audited} == results

    def booked() -> int:
        said = isthmus("score", "history", "--model", "small", "--count", "--json", "--home", str(guest.home))
        return int(json.loads(said)["outcomes"])

    scoring.await_so(lambda: booked() >= len(results), "the history has every outcome")
    assert booked() == len(results)
    assert report.total <= len(results)
    # Whatever went into a score is in the host's books, as it was.
    answers = {(r.request_id, r.purpose, r.value) for r in scoring.audit(host) if isinstance(r, AnswerAudited)}
    used = {(r.request_id, r.purpose, a.value) for r in audited for a in r.answers}
    late = {(r.request_id, r.purpose, r.value) for r in scoring.audit(guest) if isinstance(r, AnswerLate)}
    assert used | late <= answers


def test_both_parties_accounts_agree(scoring: Scoring, report: LoadReport) -> None:
    """Signed statements of every interval, made by processes that were killed as well."""

    def told(home: Path) -> dict[str, Any]:
        return dict(json.loads(isthmus("score", "reconcile", "--json", "--home", str(home), expect=(0, 1))))

    for house in scoring.world.houses:

        def agrees(home: Path = house.home) -> bool:
            accounts = told(home)
            # Of an interval that only the other party has told about so far there is no own count.
            counted = sum(interval["own_count"] or 0 for interval in accounts["intervals"])
            return bool(accounts["agreed"]) and counted >= report.total

        scoring.await_so(agrees, f"{house.party} agrees about everything")
