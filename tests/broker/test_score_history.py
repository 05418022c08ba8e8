"""The history writer as a process on a real broker: history equals audit, whatever is killed and whenever."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import select

from consumers.exits import NEEDS_A_PERSON
from infra.broker import EmbeddedBroker
from infra.history_queries import OutcomeFilter, find_mismatches, read_outcomes
from infra.history_tables import answers, late_answers, outcomes, results
from infra.topics import dead_letter_topic, group_id, results_topic, score_audit_topic
from schemas.codec import DecodeError, decode, encode
from schemas.deadletter import DeadLetter
from schemas.record import Record
from schemas.scoring import ScoreAudited
from tests.broker.score_books import Books, await_true, make_homes
from tests.consumers.score_houses import SECOND_US, answered, joined, late, used
from tests.end_to_end.world import read_all
from tests.infra.feature_database import PASSWORD
from tests.infra.postgres import Postgres

HISTORY = "score_history"
PARTITIONS = 4


@pytest.fixture
def make_books(
    broker: EmbeddedBroker,
    new_party: Callable[[str], str],
    make_party_topics: Callable[..., object],
    tmp_path: Path,
) -> Iterator[Callable[..., Books]]:
    made: list[Books] = []

    def make(**score: Any) -> Books:
        party, peer = new_party("booked"), new_party("peer")
        make_party_topics(party)
        home = make_homes(tmp_path, broker.bootstrap, (party, peer), score)[0]
        made.append(Books(home, broker.bootstrap))
        return made[-1]

    yield make
    for books in made:
        books.history.close()


def story(count: int, start: int = 0) -> list[Record]:
    """Audit and results of so many requests, one in ten with a late answer too."""
    records: list[Record] = []
    for number in range(start, start + count):
        answer = answered(f"r{number:06d}", number, asked_at_us=1_700_000_000 * SECOND_US + number * 1000)
        audited = used(answer, "bureau")
        records += [audited, joined(audited)]
        if number % 10 == 0:
            records.append(late(answered(answer.request_id, -1, asked_at_us=answer.asked_at_us + 5), "bureau"))
    return records


def audit_of(books: Books) -> list[str]:
    """Request ids of all outcomes on the audit topic, as a reader of committed records finds them."""
    places = [(score_audit_topic(books.name), partition) for partition in range(PARTITIONS)]
    found = []
    for message in read_all(books.party.settings.bootstrap_servers, places):
        with contextlib.suppress(DecodeError):
            found.append(decode(message.value() or b""))
    return sorted(record.request_id for record in found if isinstance(record, ScoreAudited))


def history_of(books: Books) -> list[str]:
    with books.history.transaction(writes=False) as connection:
        return sorted(row[0] for row in connection.execute(select(outcomes.c.request_id)))


def assert_whole(books: Books, count: int) -> None:
    """History = audit = results, and every answer once."""
    assert history_of(books) == audit_of(books) == [f"r{number:06d}" for number in range(count)]
    assert find_mismatches(books.history) == []
    assert books.count(results) == count
    late_count = (count + 9) // 10
    assert books.count(late_answers) == late_count
    assert books.count(answers) == count + late_count


def is_written(books: Books, count: int) -> Callable[[], bool]:
    def look() -> bool:
        return (
            books.count(results) == books.count(outcomes) == count and books.count(answers) == count + (count + 9) // 10
        )

    return look


def test_history_equals_audit_and_results_and_operators_see_no_lag(make_books: Callable[..., Books]) -> None:
    books = make_books(statement_seconds=2)
    books.write(*story(500))
    books.write_in_transaction(*story(20, 500))
    aborted = used(answered("aborted"), "bureau")
    books.write_in_transaction(aborted, joined(aborted), abort=True)
    topic = score_audit_topic(books.name)
    with books.running(HISTORY):
        await_true(is_written(books, 520), lambda: books.log(HISTORY))
        assert_whole(books, 520)
        row = next(read_outcomes(books.history, OutcomeFilter(request_id="r000007")))
        assert (row["outcome"], row["points"], row["answers"][0]["value"]) == ("scored", 600, 7)
        # Behind the marks of transactions, too: the reconciler waits for this.
        before = books.history.caught_up_ms(topic, PARTITIONS)
        await_true(lambda: books.history.caught_up_ms(topic, PARTITIONS) > before, lambda: books.log(HISTORY))
        admin = AdminClient({"bootstrap.servers": books.party.settings.bootstrap_servers})
        group = group_id("score-history", books.name)
        places = [
            TopicPartition(name, partition)
            for name in (topic, results_topic(books.name))
            for partition in range(PARTITIONS)
        ]
        positions = books.history.read_positions([(place.topic, place.partition) for place in places])
        assert sum(positions.values()) >= 2 * 520

        def committed() -> dict[tuple[str, int], int]:
            asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)])[group]
            return {(one.topic, one.partition): one.offset for one in asked.result(30).topic_partitions or ()}

        await_true(lambda: committed() == positions, lambda: f"{committed()} and not {positions}")


def test_a_writer_that_is_killed_in_the_middle_loses_and_repeats_nothing(make_books: Callable[..., Books]) -> None:
    books = make_books()
    count = 6_000
    books.write(*story(count))
    kills = 0
    for _ in range(2):
        if (before := books.count(outcomes)) == count:
            break
        with books.running(HISTORY) as process:
            await_true(lambda before=before: books.count(outcomes) > before, lambda: books.log(HISTORY))  # type: ignore[misc]
            process.kill()
            process.wait()
        # Proof that it was in the middle: something was written, and something is left.
        assert before < books.count(outcomes)
        kills += books.count(outcomes) < count
    assert kills >= 1, "no kill came before the end"
    with books.running(HISTORY):
        await_true(is_written(books, count), lambda: books.log(HISTORY))
    assert_whole(books, count)


def test_writers_that_come_and_go_share_the_partitions_and_write_everything_once(
    make_books: Callable[..., Books],
) -> None:
    books = make_books()
    with books.running(HISTORY, 0) as first:
        books.write(*story(1_000))
        await_true(lambda: books.count(outcomes) > 0, lambda: books.log(HISTORY))
        with books.running(HISTORY, 1):
            books.write(*story(1_000, 1_000))
            await_true(is_written(books, 2_000), lambda: books.log(HISTORY))
            # The second has some partitions now, and gets the rest when the first leaves.
            await_true(lambda: books.log(HISTORY).count("goes on in") >= 3, lambda: books.log(HISTORY))
            first.terminate()
            assert first.wait(60) == 0
            books.write(*story(1_000, 2_000))
            await_true(is_written(books, 3_000), lambda: books.log(HISTORY))
    assert_whole(books, 3_000)


def test_a_database_that_is_killed_and_started_again_misses_nothing(
    make_books: Callable[..., Books], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Postgres()
    monkeypatch.setenv("HISTORY_DATABASE", server.new_database())
    try:
        books = make_books(history={"url_env": "HISTORY_DATABASE"})
        with books.running(HISTORY) as process:
            books.write(*story(300))
            await_true(is_written(books, 300), lambda: books.log(HISTORY))
            server.kill()
            books.write(*story(300, 300))
            await_true(lambda: "the database is away" in books.log(HISTORY), lambda: books.log(HISTORY))
            server.start()
            await_true(is_written(books, 600), lambda: books.log(HISTORY))
            assert process.poll() is None, "it waited, it did not end"
        assert_whole(books, 600)
        assert PASSWORD not in books.log(HISTORY)
        books.history.close()
    finally:
        server.close()


def test_the_database_says_where_to_go_on_and_not_the_group(make_books: Callable[..., Books], tmp_path: Path) -> None:
    """The database is replaced by an older copy, as after a loss of its disk; the group stands at the end."""
    books = make_books()
    books.write(*story(200))
    with books.running(HISTORY):
        await_true(is_written(books, 200), lambda: books.log(HISTORY))
    with books.history.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    books.history.close()
    shutil.copy(books.home / "history.db", tmp_path / "copy.db")
    books.write(*story(200, 200))
    with books.running(HISTORY):
        await_true(is_written(books, 400), lambda: books.log(HISTORY))
    books.history.close()
    for name in ("history.db", "history.db-wal", "history.db-shm"):
        (books.home / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy.db", books.home / "history.db")
    assert books.count(outcomes) == 200
    with books.running(HISTORY):
        await_true(is_written(books, 400), lambda: books.log(HISTORY))
    assert_whole(books, 400)


def test_what_cannot_be_booked_is_set_aside_and_the_rest_is_not(make_books: Callable[..., Books]) -> None:
    books = make_books()
    long_id = used(answered("x" * 201), "bureau")
    nul_id = used(answered("a\0b"), "bureau")
    foreign = encode(DeadLetter("p", "s", "t", 0, 0, "r", None, None, 0))
    books.write(b"no record", foreign, long_id, nul_id)
    books.write(*story(10))
    with books.running(HISTORY):
        await_true(is_written(books, 10), lambda: books.log(HISTORY))

        def letters() -> list[DeadLetter]:
            place = (dead_letter_topic(books.name), 0)
            found = [decode(one.value() or b"") for one in read_all(books.party.settings.bootstrap_servers, [place])]
            return [letter for letter in found if isinstance(letter, DeadLetter)]

        await_true(lambda: len(letters()) == 4, lambda: books.log(HISTORY))
    words = ("not Avro", "DeadLetter is no record", "has 201 characters", "NUL")
    for word in words:
        assert [letter.stage for letter in letters() if word in letter.reason] == ["score-history"], word
    assert history_of(books) == [f"r{number:06d}" for number in range(10)]
    assert find_mismatches(books.history) == []


def test_a_host_books_what_it_answered_once(make_books: Callable[..., Books]) -> None:
    books = make_books()
    given = [answered(f"r{number:06d}", number, guest="bank") for number in range(50)]
    books.write(*given, *given[:20])
    with books.running(HISTORY):
        await_true(lambda: books.count(answers) == 50, lambda: books.log(HISTORY))
    with books.history.transaction(writes=False) as connection:
        rows = connection.execute(select(answers.c.guest, answers.c.host, answers.c.how, answers.c.token).distinct())
        assert [tuple(row) for row in rows] == [("bank", books.name, "given", b"token")]


def test_a_database_that_cannot_be_used_ends_the_process_with_a_word_to_a_person(
    make_books: Callable[..., Books],
) -> None:
    books = make_books()
    settings = yaml.safe_load((books.home / "party.yaml").read_text(encoding="utf-8"))
    settings["score"] = {"history": {"url": "oracle://x/y"}}
    (books.home / "party.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with books.running(HISTORY) as process:
        assert process.wait(60) == NEEDS_A_PERSON
    assert "use sqlite, postgresql or mysql" in books.log(HISTORY).splitlines()[-1]
