"""A running job seen with tools that know nothing of Isthmus: Kafka's consumer-groups tool, and plain fastavro."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import examples.read_events
from infra.broker import EmbeddedBroker, run_tool
from infra.topics import PARTITIONS, commands_topic, events_topic, exchange_topic, group_id, transactional_id
from producers.job_view import JobStatus
from schemas.jobs import PIPELINE, Stage
from tests.end_to_end.world import DEADLINE_SECONDS, House, World, await_true, running_world

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def world(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("stock"), broker, ("stock-guest", "stock-host")) as made:
        yield made


@pytest.fixture(scope="module")
def job_id(world: World) -> str:
    """A job that runs long enough to be looked at, or ran."""
    spec = world.spec()
    return world.submit(replace(spec, train=replace(spec.train, max_passes=4)))


def _describe(broker: EmbeddedBroker, groups: list[str]) -> dict[str, list[dict[str, str]]]:
    """The tool's table: group -> rows by the names of its columns."""
    named = [word for group in groups for word in ("--group", group)]
    output = run_tool("kafka-consumer-groups", "--bootstrap-server", broker.bootstrap, "--describe", *named)
    rows: dict[str, list[dict[str, str]]] = {group: [] for group in groups}
    header: list[str] = []
    for line in output.splitlines():
        words = line.split()
        if "CURRENT-OFFSET" in words:
            header = words
        elif words and words[0] in rows:
            rows[words[0]].append(dict(zip(header, words, strict=False)))
    return rows


def _inputs(house: House, stage: Stage) -> set[str]:
    topics = {commands_topic(stage, house.party), exchange_topic(stage, house.party)}
    return topics | ({events_topic(house.party)} if stage is Stage.JOB else set())


def test_every_stage_of_a_running_job_is_a_group_with_a_named_member_and_a_lag(
    world: World, job_id: str, broker: EmbeddedBroker
) -> None:
    """One process a stage owns all its inputs, and its committed offsets are the stage's progress."""
    for house in world.houses:
        task = (Stage.TRAIN, house.party)
        house.client.wait_for(job_id, lambda view, task=task: task in view.tasks, DEADLINE_SECONDS)  # type: ignore[misc]
    groups = {group_id(stage, house.party): (house, stage) for house in world.houses for stage in Stage}
    seen: list[dict[str, int]] = []

    def look() -> bool:
        described = _describe(broker, list(groups))
        for group, rows in described.items():
            house, stage = groups[group]
            places = {(row["TOPIC"], int(row["PARTITION"])) for row in rows}
            assert places >= {(topic, partition) for topic in _inputs(house, stage) for partition in range(PARTITIONS)}
            members = {row["CONSUMER-ID"] for row in rows}
            assert len(members) == 1
            assert members.pop().startswith(transactional_id(stage, house.party, 0))
            assert {row["CLIENT-ID"] for row in rows} == {transactional_id(stage, house.party, 0)}
        seen.append({group: sum(_number(row["CURRENT-OFFSET"]) for row in rows) for group, rows in described.items()})
        # A commit marker takes an offset: what is done may show a lag of one on a partition.
        return all(_number(row["LAG"]) <= 1 for rows in described.values() for row in rows)

    look()
    assert all(
        seen[0][group_id(stage, house.party)] > 0 for house in world.houses for stage in (Stage.JOB, Stage.ALIGN)
    )
    assert world.await_end(job_id).status is JobStatus.SUCCEEDED
    await_true(look, "all groups have caught up", world.guest.client.poll)
    assert all(seen[-1][group] > 0 for group in groups), "every stage has committed what it did"
    assert all(seen[0][group] <= seen[-1][group] for group in groups)
    assert any(seen[0][group] < seen[-1][group] for group in groups)


def _number(text: str) -> int:
    return 0 if text == "-" else int(text)


def test_a_jobs_story_is_read_with_fastavro_and_the_published_schemas_alone(
    world: World, job_id: str, broker: EmbeddedBroker
) -> None:
    """By the documented example, run as a stranger would: without this project on its path."""
    world.await_end(job_id)
    script = Path(examples.read_events.__file__)
    for house in world.houses:
        command = [sys.executable, "-I", str(script), "--bootstrap", broker.bootstrap, "--party", house.party]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        told = [event for event in events if event["job_id"] == job_id]
        assert [event["offset"] for event in told] == sorted({event["offset"] for event in told})
        names = [event["event"] for event in told]
        assert (names[0], names[-1]) == ("JobAccepted", "JobSucceeded")
        stages = list(map(str, PIPELINE))
        for name in ("StageStarted", "TaskStarted", "TaskSucceeded"):
            assert [event["stage"] for event in told if event["event"] == name] == stages, "each once, in order"
        assert told[0]["spec"]["train"]["privacy"] == "split_link"
        measures = {
            m["name"]: m["value"] for event in told if event["event"] == "TaskSucceeded" for m in event["measures"]
        }
        assert measures["n_intersection"] > 100
        if house is world.guest:
            assert 0.5 < measures["auc"] <= 1
