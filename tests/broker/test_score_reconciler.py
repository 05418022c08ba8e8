"""Two houses keep books and compare them, as processes on a real broker: what they agree on, and whom they find."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from infra.broker import EmbeddedBroker
from infra.statement_store import AGREED, DIFFERS, AccountReport, StatementStore
from infra.topics import dead_letter_topic, statements_topic
from schemas.codec import decode
from schemas.deadletter import DeadLetter
from schemas.scoring import AnswerAudited
from schemas.statements import ScoreStatement
from streams.engine.messages import MessageSeal
from tests.broker.score_books import Books, await_true, make_homes
from tests.consumers.score_houses import answered, late, used
from tests.end_to_end.world import read_all

HISTORY, RECONCILER = "score_history", "score_reconciler"
SECONDS = 1


@pytest.fixture
def houses(
    broker: EmbeddedBroker,
    new_party: Callable[[str], str],
    make_party_topics: Callable[..., object],
    tmp_path: Path,
) -> Iterator[tuple[Books, Books]]:
    parties = (new_party("asking"), new_party("answering"))
    for party in parties:
        make_party_topics(party, partitions=1)
    homes = make_homes(tmp_path, broker.bootstrap, parties, {"statement_seconds": SECONDS}, topics={"partitions": 1})
    pair = (Books(homes[0], broker.bootstrap), Books(homes[1], broker.bootstrap))
    yield pair
    for books in pair:
        books.history.close()


def requests(guest: Books, count: int) -> list[AnswerAudited]:
    """Asked at the beginning of one interval that is over."""
    start_us = guest.begin_s * 1_000_000
    return [
        answered(f"r{number:04d}", number, asked_at_us=start_us + number, guest=guest.name) for number in range(count)
    ]


@contextlib.contextmanager
def running(*houses: Books, modules: Sequence[str] = (HISTORY, RECONCILER)) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for books in houses:
            for module in modules:
                stack.enter_context(books.running(module))
        yield


def reports(books: Books) -> list[AccountReport]:
    return StatementStore(books.history, books.name).report()


def logs(*houses: Books) -> str:
    return "\n".join(f"{books.name}\n{books.log(module)}" for books in houses for module in (HISTORY, RECONCILER))


def await_status(status: str, *houses: Books) -> None:
    def is_so() -> bool:
        found = [report for books in houses for report in reports(books)]
        return len(found) == len(houses) and {report.status for report in found} == {status}

    await_true(is_so, lambda: logs(*houses))


def letters(books: Books) -> list[DeadLetter]:
    messages = read_all(books.party.settings.bootstrap_servers, [(dead_letter_topic(books.name), 0)])
    found = [decode(message.value() or b"") for message in messages]
    return [letter for letter in found if isinstance(letter, DeadLetter)]


def test_honest_houses_agree_also_when_answers_come_late_and_again(houses: tuple[Books, Books]) -> None:
    guest, host = houses
    given = requests(guest, 200)
    host.write(*given, *given[:50])
    guest.write(*(used(answer, host.name) for answer in given[:150]))
    with running(guest, host):
        await_status(DIFFERS, guest, host)
        assert len(reports(guest)[0].differences) == 50
        guest.write(*(late(answer, host.name) for answer in given[150:]))
        await_status(AGREED, guest, host)
    for books in houses:
        (report,) = reports(books)
        assert (report.own_count, report.peer_count, report.differences) == (200, 200, ())
        assert report.own_sum == report.peer_sum == sum(range(200))
        assert letters(books) == []


def dropped(given: list[AnswerAudited]) -> list[AnswerAudited]:
    return given[:100] + given[101:]


def doubled(given: list[AnswerAudited]) -> list[AnswerAudited]:
    return [*given, replace(given[100], request_id="r0100-again")]


def altered(given: list[AnswerAudited]) -> list[AnswerAudited]:
    return [*given[:100], replace(given[100], value=1), *given[101:]]


def test_a_host_that_drops_doubles_or_alters_answers_in_its_books_is_found(houses: tuple[Books, Books]) -> None:
    guest, host = houses
    expected = {
        "1": (dropped, "r0100", "missing_at_host"),
        "2": (doubled, "r0100-again", "missing_at_guest"),
        "3": (altered, "r0100", "different"),
    }
    for version, (tamper, _, _) in expected.items():
        given = [replace(answer, version=version) for answer in requests(guest, 200)]
        host.write(*tamper(given))
        guest.write(*(used(answer, host.name) for answer in given))
    honest = [replace(answer, version="4") for answer in requests(guest, 10)]
    host.write(*honest)
    guest.write(*(used(answer, host.name) for answer in honest))
    with running(guest, host):

        def is_judged() -> bool:
            return all(
                [report.status for report in reports(books)] == [DIFFERS, DIFFERS, DIFFERS, AGREED] for books in houses
            )

        await_true(is_judged, lambda: logs(*houses))
    for books, blamed in ((guest, host.name), (host, guest.name)):
        for report in reports(books)[:3]:
            _, request_id, kind = expected[report.account["version"]]
            assert report.differences == ((request_id, kind, blamed),)


def test_reconcilers_that_are_killed_all_the_time_come_to_the_same_end(houses: tuple[Books, Books]) -> None:
    guest, host = houses
    given = requests(guest, 300)
    host.write(*altered(given))
    guest.write(*(used(answer, host.name) for answer in given))
    with running(guest, host, modules=(HISTORY,)):
        for books, other in ((guest, host), (host, guest)):
            # Killed as soon as it has spoken; what it said is there or is said again.
            with books.running(RECONCILER):
                await_true(lambda books=books: bool(reports(books)), lambda: logs(*houses[:1]))  # type: ignore[misc]
            with other.running(RECONCILER):
                await_true(lambda other=other: bool(reports(other)), lambda: other.log(RECONCILER))  # type: ignore[misc] # noqa: B023
        with running(guest, host, modules=(RECONCILER,)):
            await_status(DIFFERS, guest, host)
    assert [name for name, _, _ in reports(guest)[0].differences] == ["r0100"]
    for books in houses:
        assert letters(books) == []


def test_what_is_forged_or_replayed_on_the_topic_is_set_aside_and_changes_nothing(
    houses: tuple[Books, Books],
) -> None:
    guest, host = houses
    given = requests(guest, 50)
    host.write(*given)
    guest.write(*(used(answer, host.name) for answer in given))
    topic = statements_topic(guest.name)
    with running(guest, host):
        await_status(AGREED, guest, host)
    seal = MessageSeal(host.party.keyring, "score-statements")
    place = [(topic, 0)]
    bootstrap = guest.party.settings.bootstrap_servers
    messages: list[Message] = read_all(bootstrap, place)
    opener = MessageSeal(guest.party.keyring, "score-statements")
    statement = opener.open(messages[0].value() or b"", topic, 0)[1]
    assert isinstance(statement, ScoreStatement)
    forged = replace(statement, value_sum=statement.value_sum + 1_000, made_at_ms=statement.made_at_ms + 1_000)
    producer = Producer({"bootstrap.servers": bootstrap})
    elsewhere = MessageSeal(host.party.keyring, "score").seal(statement, guest.name, topic, 0)
    for value in (seal.seal(forged, guest.name, topic, 0), messages[0].value(), b"junk", elsewhere):
        producer.produce(topic, value, partition=0)
    assert producer.flush(60) == 0
    with running(guest, host):
        await_true(lambda: len(letters(guest)) == 3, lambda: logs(guest))
    assert sorted(letter.reason[:20] for letter in letters(guest)) == sorted(
        [
            "not Avro single-object encoding"[:20],
            f"the message from '{host.name}'"[:20],
            "the signature under a statement"[:20],
        ]
    )
    (report,) = reports(guest)
    assert (report.status, report.peer_sum) == (AGREED, sum(range(50)))
