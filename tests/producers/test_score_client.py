"""Both score clients on a real broker, against a thread that plays router and joiner."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from infra.broker import EmbeddedBroker
from infra.topic_admin import create_topics
from infra.topics import PARTITIONS, party_topics, results_topic
from producers import topic_reader
from producers.score_client import (
    AsyncScoreClient,
    ScoreClient,
    ScoreClosedError,
    ScoreTimeoutError,
    new_request_id,
)
from producers.score_recall import RecalledResults
from producers.topic_reader import BrokerUnavailableError
from schemas.codec import encode
from schemas.scoring import Outcome, Purpose, RequestFeature, ScoreJoined, ScoreReason, ScoreRequested
from streams.engine.partitioner import partition_of
from tests.producers.score_responder import Responder, points_of, refused, scored

MODEL = "credit-risk@live"
#: Long enough for a busy machine; nothing waits for it unless something is broken.
PATIENT_MS = 120_000


@pytest.fixture
def party(new_party: Callable[[str], str], make_party_topics: Callable[..., object]) -> str:
    name = new_party("asking")
    make_party_topics(name)
    return name


@pytest.fixture
def at(broker: EmbeddedBroker) -> dict[str, str | int | bool]:
    return {"bootstrap.servers": broker.bootstrap}


def nobody(request: ScoreRequested) -> ScoreJoined | None:
    """An answer that never comes."""
    return None


def test_a_request_gets_its_outcome_with_everything_that_was_asked(
    broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]
) -> None:
    with Responder(broker.bootstrap, party) as responder, ScoreClient(party, at) as client:
        result = client.score("C0042", MODEL, deadline_ms=PATIENT_MS, features={"income": 1200})
    assert (result.outcome, result.points, result.alias) == (Outcome.SCORED, points_of("C0042"), "live")
    ((message, request),) = responder.requests
    assert (request.entity_id, request.model, request.purpose) == ("C0042", MODEL, Purpose.LIVE)
    assert request.features == (RequestFeature("income", 1200.0),)
    assert request.deadline_ms - request.requested_at_ms == PATIENT_MS
    assert message.key() == request.request_id.encode() == result.request_id.encode()


def test_a_refusal_is_a_result(broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]) -> None:
    with Responder(broker.bootstrap, party, refused), ScoreClient(party, at) as client:
        result = client.score("C0042", MODEL, deadline_ms=PATIENT_MS)
    assert (result.outcome, result.reason, result.points) == (Outcome.REFUSED, ScoreReason.NO_SUCH_PERSON, None)


def test_of_a_thousand_requests_at_once_none_is_lost_and_none_mixed_up(
    broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]
) -> None:
    """From eight threads, with room for a tenth of them in flight."""
    people = [f"C{number:04d}" for number in range(1000)]
    with Responder(broker.bootstrap, party) as responder, ScoreClient(party, at, most_in_flight=100) as client:

        def ask(mine: list[str]) -> list[ScoreJoined]:
            return client.gather([client.send(person, MODEL, deadline_ms=PATIENT_MS) for person in mine])

        with ThreadPoolExecutor(8) as threads:
            results = [result for part in threads.map(ask, [people[i::8] for i in range(8)]) for result in part]
    asked = [person for i in range(8) for person in people[i::8]]
    assert [result.points for result in results] == [points_of(person) for person in asked]
    assert len({result.request_id for result in results}) == len(responder.requests) == 1000


def test_asyncio_has_a_thousand_in_flight_and_loses_none(
    broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]
) -> None:
    people = [f"C{number:04d}" for number in range(1000)]

    async def ask() -> list[ScoreJoined]:
        async with AsyncScoreClient(party, at) as client:
            return await asyncio.gather(*(client.score(one, MODEL, deadline_ms=PATIENT_MS) for one in people))

    with Responder(broker.bootstrap, party):
        results = asyncio.run(ask())
    assert [result.points for result in results] == [points_of(person) for person in people]


def test_requests_lie_where_every_client_on_librdkafka_would_put_them(
    broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]
) -> None:
    with Responder(broker.bootstrap, party) as responder, ScoreClient(party, at) as client:
        client.gather([client.send(f"C{n}", MODEL, deadline_ms=PATIENT_MS) for n in range(20)])
    places = [message.partition() for message, _ in responder.requests]
    keys = [message.key() for message, _ in responder.requests]
    assert places == [partition_of(key, PARTITIONS) for key in keys if isinstance(key, bytes)]
    assert len(set(places)) > 1


def test_silence_ends_with_an_error_that_names_the_request(
    broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]
) -> None:
    with (
        Responder(
            broker.bootstrap, party, lambda request: nobody(request) if request.entity_id == "C1" else scored(request)
        ),
        ScoreClient(party, at, grace_ms=0) as client,
    ):
        silent = client.send("C1", MODEL, deadline_ms=5000)
        assert client.score("C2", MODEL, deadline_ms=PATIENT_MS).points == points_of("C2")
        with pytest.raises(ScoreTimeoutError) as caught:
            silent.result()
        assert caught.value.request_id in str(caught.value)
        with pytest.raises(ScoreTimeoutError, match="no result of request given-1 in time"):
            client.score("C1", MODEL, deadline_ms=3000, request_id="given-1")


def test_asyncio_silence_and_a_task_that_is_cancelled_leave_the_others_alone(
    broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]
) -> None:
    held: list[ScoreRequested] = []
    came = threading.Event()

    def hold(request: ScoreRequested) -> ScoreJoined | None:
        if request.entity_id != "C1":
            return scored(request)
        held.append(request)
        came.set()
        return None

    async def ask(responder: Responder) -> int | None:
        async with AsyncScoreClient(party, at, grace_ms=0) as client:
            task = asyncio.create_task(client.score("C1", MODEL, deadline_ms=PATIENT_MS))
            assert await asyncio.to_thread(came.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # Its result comes all the same, to nobody.
            await asyncio.to_thread(responder.write, scored(held[0]))
            with pytest.raises(ScoreTimeoutError):
                await client.score("C1", MODEL, deadline_ms=3000)
            return (await client.score("C2", MODEL, deadline_ms=PATIENT_MS)).points

    with Responder(broker.bootstrap, party, hold) as responder:
        assert asyncio.run(ask(responder)) == points_of("C2")


def test_a_request_that_is_repeated_has_the_result_of_the_first(
    broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]
) -> None:
    """At once, later, and by another client that was not there: though every request gets one outcome only."""
    with Responder(broker.bootstrap, party) as responder:
        with ScoreClient(party, at) as client:
            sent = [client.send("C0007", MODEL, deadline_ms=PATIENT_MS, request_id="order-7") for _ in range(3)]
            first, *others = client.gather(sent)
            later = client.score("C0007", MODEL, deadline_ms=PATIENT_MS, request_id="order-7")
        with ScoreClient(party, at) as client:
            again = client.score("C0007", MODEL, deadline_ms=PATIENT_MS, request_id="order-7")
            new = client.score("C0008", MODEL, deadline_ms=PATIENT_MS, request_id="order-8")
    assert {first, *others, later, again} == {first}
    assert new.points == points_of("C0008")
    assert [request.request_id for _, request in responder.requests] == ["order-7", "order-8"]


def test_results_of_aborted_transactions_parity_checks_and_junk_are_not_handed_over(
    broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]
) -> None:
    junk = Producer({"bootstrap.servers": broker.bootstrap})

    def others_first(request: ScoreRequested) -> ScoreJoined:
        key = request.request_id.encode()
        junk.produce(results_topic(party), encode(replace(scored(request), points=2, purpose=Purpose.PARITY)), key)
        junk.produce(results_topic(party), b"not a record", b"other")
        junk.produce(results_topic(party), None, b"other")
        assert junk.flush(60) == 0
        return scored(request)

    with (
        Responder(broker.bootstrap, party, others_first, lambda request: replace(scored(request), points=1)),
        ScoreClient(party, at) as client,
    ):
        assert client.score("C0005", MODEL, deadline_ms=PATIENT_MS).points == points_of("C0005")


def test_more_than_may_be_in_flight_wait_for_their_turn_and_no_longer_than_their_deadline(
    broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]
) -> None:
    held: list[ScoreRequested] = []
    came = threading.Event()

    def hold(request: ScoreRequested) -> None:
        held.append(request)
        came.set()

    with Responder(broker.bootstrap, party, hold) as responder, ScoreClient(party, at, most_in_flight=1) as client:
        first = client.send("C1", MODEL, deadline_ms=PATIENT_MS)
        with pytest.raises(ScoreTimeoutError, match="request mine was not sent: 1 others"):
            client.send("C2", MODEL, deadline_ms=50, request_id="mine")
        assert not first.done()
        assert came.wait(60)
        responder.write(scored(held[0]))
        assert first.result(60).points == points_of("C1")
        responder.answer = scored
        assert client.score("C3", MODEL, deadline_ms=PATIENT_MS).points == points_of("C3")
    assert [request.entity_id for _, request in responder.requests] == ["C1", "C3"]


def test_closing_ends_what_waits_and_nothing_can_be_sent_afterwards(
    broker: EmbeddedBroker, party: str, at: dict[str, str | int | bool]
) -> None:
    client = ScoreClient(party, at)
    waiting: Future[ScoreJoined] = client.send("C1", MODEL, deadline_ms=PATIENT_MS, request_id="left")
    client.close()
    client.close()
    with pytest.raises(ScoreClosedError, match="request left: the client was closed"):
        waiting.result()
    with pytest.raises(ScoreClosedError, match="is closed"):
        client.score("C1", MODEL)
    assert "score-results" not in {thread.name for thread in threading.enumerate()}


def test_a_broker_that_goes_away_is_named_with_the_request(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path, is_open=True) as broker:
        create_topics(AdminClient({"bootstrap.servers": broker.bootstrap}), party_topics("bank"))
        client = ScoreClient("bank", {"bootstrap.servers": broker.bootstrap}, grace_ms=0)
    with client, pytest.raises(BrokerUnavailableError, match=r"request .* did not reach the broker at 127"):
        client.score("C1", MODEL, deadline_ms=2000)


def test_no_broker_and_no_topics_are_told_at_the_start(
    at: dict[str, str | int | bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BrokerUnavailableError, match=r"no topic vfl\.score\.requests\.nobody"):
        ScoreClient("nobody", at)
    monkeypatch.setattr(topic_reader, "ANSWER_SECONDS", 0.5)
    with pytest.raises(BrokerUnavailableError, match="no Kafka broker answers"):
        ScoreClient("bank", {"bootstrap.servers": "127.0.0.1:9"})


def test_request_ids_are_version_7_uuids_and_differ() -> None:
    ids = [uuid.UUID(new_request_id()) for _ in range(1000)]
    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == 1000
    times = [one.int >> 80 for one in ids]
    assert times == sorted(times)


def test_a_deadline_in_the_past_is_a_mistake(at: dict[str, str | int | bool], party: str) -> None:
    with ScoreClient(party, at) as client, pytest.raises(ValueError, match="no deadline"):
        client.score("C1", MODEL, deadline_ms=0)


def test_what_is_remembered_is_bounded() -> None:
    request = ScoreRequested("r", MODEL, "C1", 0, 1)
    results = RecalledResults(most=2)
    for number in range(3):
        one = replace(scored(request), request_id=str(number))
        results.keep(one.request_id.encode(), encode(one))
    found = [results.find(str(number).encode(), Purpose.LIVE) for number in range(3)]
    assert [result and result.request_id for result in found] == [None, "1", "2"]
    assert results.find(b"2", Purpose.PARITY) is None
