"""Both live views on a broker that lets nobody in without TLS and a password: faust, as their principals."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from infra.access_admin import grant_access
from infra.broker import EmbeddedBroker
from infra.secrets import create_secrets
from infra.settings import load_settings, save_settings
from infra.topic_admin import create_topics
from infra.topics import party_topics, results_topic, view_topic
from producers.topic_reader import TopicReader, connection_of
from schemas.jobs import JobSucceeded
from schemas.views import JobStatus
from tests.broker import test_score_view, test_view

PARTY = "viewed-inside"


@pytest.fixture(scope="module")
def home(guarded_broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A party with topics and rights."""
    home = tmp_path_factory.mktemp("guarded-views")
    access = {"kind": "scram", "ca": str(guarded_broker.ca_file)}
    save_settings(home, {"party": PARTY, "bootstrap_servers": guarded_broker.bootstrap, "access": access})
    create_secrets(home, PARTY)
    admin = AdminClient(guarded_broker.admin_connection)
    create_topics(admin, party_topics(PARTY))
    grant_access(admin, load_settings(home))
    return home


@pytest.fixture
def writer(guarded_broker: EmbeddedBroker) -> Producer:
    producer = Producer({**guarded_broker.admin_connection, "transactional.id": f"vfl.{PARTY}.test.0"})
    producer.init_transactions(60)
    return producer


def test_the_view_of_jobs_is_kept_by_its_principal_and_read_by_the_client(home: Path, writer: Producer) -> None:
    test_view.write(writer, PARTY, JobSucceeded(test_view.JOB, PARTY))
    deadline = time.monotonic() + test_view.DEADLINE_SECONDS
    with test_view.running_view(home) as view:
        reader = TopicReader(connection_of(load_settings(home)), view_topic(PARTY))
        found: list[object] = []
        while not found:
            assert view.poll() is None and time.monotonic() < deadline, (home / "view.log").read_text()
            found = [entry.record for entry in reader.poll(0.1)]
        reader.close()
    (status,) = found[:1]
    assert isinstance(status, JobStatus)
    assert (status.job_id, status.standing) == (test_view.JOB, "succeeded")


def test_the_view_of_scores_counts_what_its_principal_may_read(home: Path, writer: Producer) -> None:
    test_score_view.write(writer, results_topic(PARTY), *test_score_view.some_results(7))
    with test_score_view.running_view(home) as view:
        told = test_score_view.await_json(home, view, lambda told: told["results"] == 7)
    assert told["party"] == PARTY
