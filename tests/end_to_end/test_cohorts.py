"""Jobs of one dataset, one after the other, by real processes: what they reveal together counts; a person decides."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from infra.broker import EmbeddedBroker
from producers.cli import main
from producers.job_view import JobStatus
from schemas.jobs import Leak, Reason, Stage
from tests.end_to_end.world import DATASET, DEADLINE_SECONDS, House, World, running_world

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def world(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    parties = ("cohort-guest", "cohort-host")
    with running_world(tmp_path_factory.mktemp("cohorts"), broker, parties) as made:
        yield made


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def _jobs_by_cohort(house: House) -> list[set[str]]:
    """Which jobs `isthmus cohort list` shows to have used the same rows; the largest group first."""
    result = _run("cohort", "list", "--json", "--home", str(house.home))
    return sorted((set(account["jobs"]) for account in json.loads(result.output)), key=len, reverse=True)


def test_nearly_the_same_people_are_refused_unless_a_person_accepts_it_by_name(world: World) -> None:
    first = world.await_end(world.submit(world.spec()))
    assert first.status is JobStatus.SUCCEEDED
    again = world.await_end(world.submit(world.spec()))
    assert again.status is JobStatus.SUCCEEDED, "the same people again are one cohort"
    together = {first.job_id, again.job_id}
    assert [_jobs_by_cohort(house) for house in world.houses] == [[together]] * 2

    table = world.guest.home / "data" / f"{DATASET}.csv"
    pd.read_csv(table).iloc[6:].to_csv(table, index=False)
    refused = world.await_end(world.submit(world.spec()))
    views = [house.client.job(refused.job_id) for house in world.houses]
    assert {(view.status, view.reason) for view in views} == {(JobStatus.FAILED, Reason.LEAK_NOT_ACCEPTED)}
    host_text = views[1].detail
    assert "the training rows of dataset" in host_text and first.job_id in host_text
    assert "accept overlapping_cohort by name" in host_text
    assert first.job_id not in views[0].detail, "what the host's ledger says stays at the host"
    assert all(Stage.EVALUATE not in {stage for stage, _ in view.tasks} for view in views)
    world.assert_settled(refused.job_id)
    assert [_jobs_by_cohort(house) for house in world.houses] == [[together]] * 2, "who is refused spends nothing"

    leaks = (Leak.SMALL_TABLE, Leak.OVERLAPPING_COHORT)
    job_id = world.submit(world.spec(accept_leaks=leaks))
    world.host.client.wait_for(job_id, lambda view: view.status is JobStatus.AWAITING_APPROVAL, DEADLINE_SECONDS)
    home = str(world.host.home)
    assert "--accept-leak overlapping_cohort" in _run("party", "approve", job_id, "--home", home).output
    names = [word for leak in leaks for word in ("--accept-leak", str(leak))]
    assert _run("party", "approve", job_id, *names, "--home", home).exit_code == 0
    assert world.await_end(job_id).status is JobStatus.SUCCEEDED
    world.assert_settled(job_id)
    assert [_jobs_by_cohort(house) for house in world.houses] == [[together, {job_id}]] * 2
