"""Operators see progress with Kafka's own tool: every stage is a group, its lag is the stage's backlog."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from consumers.supervisor import PROCESSES, Supervisor
from infra.access import OPERATOR
from infra.broker import EmbeddedBroker, run_tool
from infra.connection import connect_as, tool_properties
from infra.properties import render_properties
from infra.settings import PartySettings
from infra.topics import exchange_topic, group_id
from producers.demo_data import breast_cancer
from producers.demo_parties import GUEST, HOST, DemoOptions, make_homes, make_spec, make_topics
from producers.job_client import JobClient
from producers.job_view import JobStatus, JobView
from producers.lag import STAGES, StageLag, describe_lag, find_idle_stages, measure_lag
from producers.topic_reader import QUIET, connection_of
from schemas.jobs import JobSpec, Reason, Stage

JOB_ID = "lag-1"
DEADLINE_SECONDS = 240.0

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Row:
    """One line of `kafka-consumer-groups --describe`."""

    topic: str
    current: int
    lag: int
    member: str


@contextmanager
def _running(settings: PartySettings, *names: str) -> Iterator[None]:
    """Some of the party's processes."""
    supervisor = Supervisor(settings.home, processes={name: PROCESSES[name] for name in names}, say=lambda text: None)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield
    finally:
        supervisor.stop()
        thread.join()


def _describe(settings: PartySettings, group: str) -> list[Row]:
    """What the stock tool says about a group to an operator of the party."""
    file = settings.home / "operator.properties"
    if not file.exists():
        file.write_text(render_properties(tool_properties(connect_as(settings, OPERATOR))))
    address = ("--bootstrap-server", settings.bootstrap_servers, "--command-config", str(file))
    output = run_tool("kafka-consumer-groups", *address, "--describe", "--group", group)
    rows = []
    header: list[str] = []
    for line in output.splitlines():
        words = line.split()
        if "CURRENT-OFFSET" in words:
            header = words
        elif words and words[0] == group:
            found = dict(zip(header, words, strict=False))
            current = 0 if found["CURRENT-OFFSET"] == "-" else int(found["CURRENT-OFFSET"])
            lag = 0 if found["LAG"] == "-" else int(found["LAG"])
            rows.append(Row(found["TOPIC"], current, lag, found.get("CONSUMER-ID", "-")))
    return rows


def _await(condition: Callable[[], bool], step: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        step()


def test_the_stock_tool_and_isthmus_lag_tell_which_stage_of_whom_is_behind(
    guarded_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """The host's train process is away: its lag says so, and the job names the party; then it comes and catches up."""
    options = DemoOptions(seed=7, rows=160, max_passes=2)
    tables = breast_cancer(options.seed, options.rows)
    spec: JobSpec = replace(make_spec(options, tables), patience_seconds=2)
    guest, host = make_homes(tmp_path, options, tables, spec, guarded_broker)
    for settings in (guest, host):
        make_topics(settings, guarded_broker)
    train = group_id(Stage.TRAIN, HOST)

    def lag_of(settings: PartySettings, stage: Stage) -> StageLag:
        lags = measure_lag(partial(connection_of, settings), settings.party)
        return next(lag for lag in lags if lag.stage is stage)

    with ExitStack() as stack:
        client = stack.enter_context(JobClient(GUEST, connection_of(guest)))
        client.submit(spec, JOB_ID)
        assert lag_of(guest, Stage.JOB).behind == 1, "submitted, and nobody has taken it up"
        admin = AdminClient(dict(connection_of(host, OPERATOR)), logger=QUIET)
        assert find_idle_stages(admin, HOST) == set(STAGES)

        stack.enter_context(_running(guest, *PROCESSES))
        stack.enter_context(_running(host, *(name for name in PROCESSES if name != "train")))

        def is_suspended_at(stage: Stage) -> bool:
            view: JobView | None = client.view(JOB_ID)
            return view is not None and (view.status, view.stage) == (JobStatus.SUSPENDED, stage)

        # On a busy machine it may be suspended earlier, at stages where the host answers yet.
        _await(lambda: is_suspended_at(Stage.TRAIN), client.poll)
        view = client.view(JOB_ID)
        assert view is not None
        assert (view.stage, view.reason, view.blame) == (Stage.TRAIN, Reason.PEER_SILENT, HOST)

        behind = lag_of(host, Stage.TRAIN)
        assert behind.members in (None, 0)
        assert find_idle_stages(admin, HOST) == {Stage.TRAIN}
        assert {lag.topic: lag.behind > 0 for lag in behind.topics}[exchange_topic(Stage.TRAIN, HOST)]
        words = describe_lag(behind, int(time.time() * 1000))
        assert words.startswith(f"train at {HOST}: {behind.behind} record")
        assert f"on {exchange_topic(Stage.TRAIN, HOST)}" in words
        assert "No process runs for it" in words
        assert lag_of(guest, Stage.ALIGN).behind == 0

        with _running(host, "train"):
            seen: list[int] = []
            while not (ended := client.view(JOB_ID)) or not ended.ended:
                rows = _describe(host, train)
                seen.append(sum(row.current for row in rows))
                if rows and seen[-1]:
                    assert all(f"{train.removesuffix('.v1')}.0" in row.member or row.member == "-" for row in rows)
                client.poll()
            assert ended.status is JobStatus.SUCCEEDED, ended
            assert seen == sorted(seen), "committed offsets never go back"
            assert seen[-1] > 0
            for side in (guest, host):
                for stage in Stage:
                    rows = _describe(side, group_id(stage, side.party))
                    assert sum(row.current for row in rows) > 0, f"{stage} at {side.party} has committed its progress"

            def idle() -> bool:
                return all(
                    lag.behind == 0
                    for side in (guest, host)
                    for lag in measure_lag(partial(connection_of, side), side.party)
                )

            _await(idle, client.poll)
            assert all(row.lag <= 1 for row in _describe(host, train)), "a commit marker at most"
