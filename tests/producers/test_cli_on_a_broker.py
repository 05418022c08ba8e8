"""The command line on a real broker: commands go in by topics, views come out of topics; no process of ours runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from infra.broker import EmbeddedBroker
from infra.settings import load_settings
from infra.topics import commands_topic, events_topic
from producers import job_client
from producers.cli import main
from producers.job_client import JobClient
from producers.job_view import JobStatus
from producers.topic_reader import TopicReader, connection_of
from schemas.codec import encode
from schemas.cohorts import CohortCharged
from schemas.jobs import (
    CancelJob,
    JobAccepted,
    JobAwaitingApproval,
    JobFailed,
    JobSpec,
    Leak,
    PartySpec,
    Reason,
    Role,
    Stage,
    StageStarted,
    SubmitJob,
)
from schemas.record import Record
from tests.producers.open_homes import connect_openly

Tell = Callable[..., None]


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture
def home(broker: EmbeddedBroker, new_party: Callable[[str], str], tmp_path: Path) -> str:
    """A party with topics on the broker, and nobody who works for it."""
    folder, name = str(tmp_path / "home"), new_party("bank")
    assert _run("party", "init", name, "--bootstrap", broker.bootstrap, "--home", folder).exit_code == 0
    connect_openly(Path(folder))
    made = _run("topics", "create", "--home", folder)
    assert made.exit_code == 0, made.output
    return folder


@pytest.fixture
def party(home: str) -> str:
    return load_settings(Path(home)).party


@pytest.fixture
def tell(broker: EmbeddedBroker, party: str) -> Tell:
    """Puts events on the party's topic, as its coordinator would."""
    producer = Producer({"bootstrap.servers": broker.bootstrap})

    def send(*records: Record) -> None:
        for record in records:
            producer.produce(events_topic(party), encode(record), key=record.job_id)  # type: ignore[attr-defined]
        assert producer.flush(30) == 0

    return send


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_client, "EFFECT_SECONDS", 0.5)


def _commands(home: str) -> list[Record | None]:
    settings = load_settings(Path(home))
    reader = TopicReader(connection_of(settings), commands_topic(Stage.JOB, settings.party))
    try:
        return [entry.record for entry in reader.read_to_end()]
    finally:
        reader.close()


def _spec(party: str) -> JobSpec:
    return JobSpec("credit", PartySpec(party, "loans"), "y", (PartySpec("shop", "carts"),))


def test_topics_match_the_catalogue_after_they_were_made(home: str) -> None:
    assert _run("topics", "list", "--home", home).exit_code == 0
    assert "made 0 topics" in _run("topics", "create", "--home", home).output


def test_a_broker_without_the_topics_is_told_apart_from_no_broker(
    broker: EmbeddedBroker, new_party: Callable[[str], str], tmp_path: Path
) -> None:
    folder, name = str(tmp_path / "other"), new_party("shop")
    assert _run("party", "init", name, "--bootstrap", broker.bootstrap, "--home", folder).exit_code == 0
    connect_openly(Path(folder))
    for command in (("job", "list"), ("lag",), ("party", "run")):
        result = _run(*command, "--home", folder)
        assert result.exit_code == 3
        assert f"has no topic vfl.job.commands.{name}.v1" in result.output
        assert "isthmus topics create" in result.output


def test_a_submission_is_on_the_command_topic_even_if_nobody_takes_it_up(home: str, party: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: credit\nlabel: y\nguest: {{party: {party}, dataset: loans}}\n"
        "hosts: [{party: shop, dataset: carts}]\n",
        encoding="utf-8",
    )
    result = _run("job", "submit", str(spec), "--home", home)
    assert result.exit_code == 1
    assert "nobody has taken it up" in result.output
    (command,) = _commands(home)
    assert isinstance(command, SubmitJob)
    assert command.spec == _spec(party)
    assert command.job_id in result.output


def test_a_job_is_submitted_at_its_guest_only(home: str, party: str) -> None:
    settings = load_settings(Path(home))
    with (
        JobClient(party, connection_of(settings)) as client,
        pytest.raises(job_client.JobError, match="the spec's guest is elsewhere"),
    ):
        client.submit(_spec("elsewhere"))
    assert _commands(home) == []


def test_list_and_show_tell_what_events_tell(home: str, party: str, tell: Tell) -> None:
    tell(JobAccepted("credit-1", party, Role.GUEST, _spec(party), None), StageStarted("credit-1", party, Stage.ALIGN))
    tell(
        JobAccepted("credit-2", party, Role.GUEST, _spec(party), "credit-0"),
        JobFailed("credit-2", party, Reason.EMPTY_INTERSECTION, "shop", "no id is in both tables"),
    )
    listed = _run("job", "list", "--home", home).output
    assert "runs stage align" in listed
    assert "failed: empty_intersection at shop: no id is in both tables" in listed
    shown = json.loads(_run("job", "show", "credit-2", "--json", "--home", home).stdout)
    assert (shown["status"], shown["reason"], shown["blame"]) == ("failed", "empty_intersection", "shop")
    assert (shown["retry_of"], shown["spec"]["name"]) == ("credit-0", "credit")


def test_an_unknown_job_is_an_error_that_offers_the_close_one(home: str, party: str, tell: Tell) -> None:
    tell(JobAccepted("credit-77", party, Role.GUEST, _spec(party), None))
    for command in (("job", "show"), ("job", "cancel"), ("job", "retry"), ("party", "approve")):
        result = _run(*command, "credit-7", "--home", home)
        assert result.exit_code == 1
        assert "is it credit-77?" in result.output
    assert _commands(home) == []


def test_watching_an_ended_job_gives_its_end_as_exit_code(home: str, party: str, tell: Tell) -> None:
    tell(
        JobAccepted("credit-1", party, Role.GUEST, _spec(party), None),
        JobFailed("credit-1", party, Reason.DEADLINE_EXCEEDED, party, "60 s"),
    )
    result = _run("job", "watch", "credit-1", "--home", home)
    assert result.exit_code == 1
    assert "deadline_exceeded" in result.output


def test_cohorts_are_listed_with_what_all_their_jobs_revealed(home: str, party: str, tell: Tell) -> None:
    assert "no job has trained yet" in _run("cohort", "list", "--home", home).output
    first = CohortCharged(
        "a", party, Role.GUEST, "people", "churn", "shop", b"\x3f" * 32, 1200, 4, 10, 900, 2000.4, False
    )
    tell(
        first,
        replace(first, passes=3, bits=300, is_final=True),
        replace(first, job_id="b"),
        replace(first, job_id="c", cohort=b"\x4f" * 32, rows=1300, is_final=True),
        replace(first, job_id="d"),
        replace(first, job_id="d", passes=0, bits=0, is_final=True),
    )
    result = _run("cohort", "list", "--home", home)
    text = "guest people, label churn  3f3f3f3f  1,200 rows  2 jobs (1 running, counted at most)  1,200 of 2,000 bits"
    assert sorted(result.output.splitlines()) == [
        f"{text}  to shop: a, b",
        "guest people, label churn  4f4f4f4f  1,300 rows  1 job  900 of 2,000 bits  to shop: c",
    ]
    accounts = json.loads(_run("cohort", "list", "--home", home, "--json").output)
    assert {tuple(account["jobs"]): account["bits"] for account in accounts} == {("a", "b"): 1200, ("c",): 900}


def test_approving_without_a_leak_by_name_explains_the_leak_and_sends_nothing(
    home: str, party: str, tell: Tell
) -> None:
    tell(
        JobAccepted("credit-1", party, Role.HOST, _spec("elsewhere"), None),
        JobAwaitingApproval("credit-1", party, (Leak.SMALL_TABLE,)),
    )
    result = _run("party", "approve", "credit-1", "--home", home)
    assert result.exit_code == 1
    assert "--accept-leak small_table" in result.output
    assert "work out labels" in result.output
    assert _commands(home) == []


def test_an_ended_job_is_not_cancelled_but_retried(home: str, party: str, tell: Tell) -> None:
    spec = _spec(party)
    tell(
        JobAccepted("credit-1", party, Role.GUEST, spec, None),
        JobFailed("credit-1", party, Reason.CANCELLED, party, ""),
    )
    assert "has ended already" in _run("job", "cancel", "credit-1", "--home", home).output
    _run("job", "retry", "credit-1", "--home", home)
    (command,) = _commands(home)
    assert isinstance(command, SubmitJob)
    assert (command.spec, command.retry_of) == (spec, "credit-1")


def test_a_running_job_is_cancelled_but_not_retried(home: str, party: str, tell: Tell) -> None:
    tell(JobAccepted("credit-1", party, Role.GUEST, _spec(party), None))
    assert "has not ended" in _run("job", "retry", "credit-1", "--home", home).output
    _run("job", "cancel", "credit-1", "--reason", "enough", "--home", home)
    assert _commands(home) == [CancelJob("credit-1", "enough")]


def test_records_that_cannot_be_read_do_not_hide_jobs(
    home: str, party: str, tell: Tell, broker: EmbeddedBroker
) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(events_topic(party), b"\xc3\x01 from the future", key="credit-1")
    producer.produce(events_topic(party), None, key="credit-1")
    assert producer.flush(30) == 0
    tell(JobAccepted("credit-1", party, Role.GUEST, _spec(party), None))
    assert "credit-1" in _run("job", "list", "--home", home).output


def test_a_client_asks_for_the_state_of_things_as_often_as_it_likes(home: str, party: str, tell: Tell) -> None:
    """librdkafka tells that a partition is read up only once."""
    settings = load_settings(Path(home))
    with JobClient(party, connection_of(settings)) as client:
        assert client.views() == {}
        assert client.views() == {}
        tell(JobAccepted("credit-1", party, Role.GUEST, _spec(party), None))
        assert client.job("credit-1").status is JobStatus.ACCEPTED
        assert client.job("credit-1").status is JobStatus.ACCEPTED
        tell(StageStarted("credit-1", party, Stage.ALIGN))
        assert client.wait_for("credit-1", lambda view: view.stage is Stage.ALIGN, 30).status is JobStatus.RUNNING
        client.poll()
        assert client.job("credit-1").status is JobStatus.RUNNING


def test_lag_counts_records_that_nobody_has_taken(home: str, party: str, tell: Tell) -> None:
    tell(StageStarted("credit-1", party, Stage.ALIGN), StageStarted("credit-2", party, Stage.ALIGN))
    lags = json.loads(_run("lag", "--json", "--home", home).stdout)
    assert {lag["stage"]: lag["behind"] for lag in lags} == {
        "job": 2,
        "align": 0,
        "train": 0,
        "evaluate": 0,
        "register": 0,
        "cohort": 0,
        "audit": 2,
    }
    assert lags[0]["oldest_ms"] is not None
    text = _run("lag", "--home", home).output
    assert f"job at {party}: 2 records behind" in text
    assert "No process runs for it" in text


def test_no_models_is_no_error(home: str) -> None:
    assert json.loads(_run("model", "list", "--json", "--home", home).stdout) == []
    result = _run("model", "export", "credit", "--home", home)
    assert result.exit_code == 1
    assert "isthmus model list" in result.output
