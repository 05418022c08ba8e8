"""Files for data tools: every audit record once, found by date, model and version, the same bytes after a crash."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fastavro
import pytest
from sqlalchemy import update
from sqlalchemy.engine import make_url

import consumers.score_archive as score_archive
from consumers.score_archive import Archive, ArchiveError, file_name
from infra.broker import EmbeddedBroker
from infra.history_store import HistoryStore
from infra.history_tables import archive_cuts
from infra.object_store import DirectoryStore, ObjectStoreError
from schemas.record import Record
from schemas.scoring import AnswerAudited, AnswerLate, ScoreAudited
from streams.engine.kafka_settings import READER
from tests.broker.score_books import Books, make_homes
from tests.consumers.score_houses import SECOND_US, answered, late, used

#: 14 November 2023, 22:13:20; an hour and three quarters before midnight.
EVENING_US = 1_700_000_000 * SECOND_US
PARTITION = 0


@pytest.fixture
def books(
    broker: EmbeddedBroker,
    new_party: Callable[[str], str],
    make_party_topics: Callable[..., object],
    tmp_path: Path,
) -> Books:
    party, peer = new_party("archived"), new_party("peer")
    make_party_topics(party, partitions=1)
    return Books(make_homes(tmp_path, broker.bootstrap, (party, peer), {})[0], broker.bootstrap)


class Clock:
    """The archive's clock, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """An archive on a database and a folder of its own."""

    def __init__(self, books: Books, folder: Path, **options: Any) -> None:
        self.books = books
        self.objects = DirectoryStore(folder / "objects")
        self.store = HistoryStore(make_url(f"sqlite:///{folder}/archive.db"))
        self.clock = Clock()
        self.topic = f"vfl.score.audit.{books.name}.v1"
        self.options = {"cut_offsets": 10, "cut_seconds": 900.0, **options}
        self.archive = self.restarted()

    def restarted(self, objects: Any = None) -> Archive:
        properties = {"bootstrap.servers": self.books.party.settings.bootstrap_servers, **READER}
        self.archive = Archive(self.store, objects or self.objects, properties, clock=self.clock, **self.options)
        return self.archive

    def advance(self, next_offset: int) -> bool:
        return self.archive.advance(self.topic, PARTITION, next_offset)

    def files(self) -> dict[str, bytes]:
        root = self.objects.root / "scoring"
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.avro"))}


@pytest.fixture
def shelf(books: Books, tmp_path: Path) -> Iterator[Shelf]:
    found = Shelf(books, tmp_path)
    yield found
    found.store.close()


def read(content: bytes) -> list[dict[str, Any]]:
    """As any Avro tool reads it, without a line of ours."""
    return [dict(row) for row in fastavro.reader(io.BytesIO(content)) if isinstance(row, dict)]


def story(count: int) -> list[Record]:
    """Two versions, on both sides of midnight; late answers and answers given among them."""
    records: list[Record] = []
    for number in range(count):
        answer = answered(
            f"r{number:03d}", number, asked_at_us=EVENING_US + number * 600 * SECOND_US, version=str(1 + number % 2)
        )
        records.append((used(answer), late(answer), answer)[0 if number % 5 else 1 + number % 2])
    return records


def test_every_record_is_in_one_file_by_date_model_and_version(books: Books, shelf: Shelf) -> None:
    records = story(30)
    books.write(*records)
    while shelf.advance(30):
        pass
    found = [row["request_id"] for content in shelf.files().values() for row in read(content)]
    assert sorted(found) == [f"r{number:03d}" for number in range(30)]
    for name, content in shelf.files().items():
        date, model, version, file = name.split("/")
        topic, partition, first, kind = file.removesuffix(".avro").rsplit("-", 3)
        assert (model, topic, partition) == ("model=credit", shelf.topic, "0")
        for row in read(content):
            number = int(row["request_id"][1:])
            assert first == f"{number // 10 * 10:020d}"
            assert kind == type(records[number]).__name__
            assert version == f"version={row['version']}"
            day = datetime.datetime.fromtimestamp((EVENING_US + number * 600 * SECOND_US) // SECOND_US, datetime.UTC)
            assert date == f"date={day.date()}"
    assert len({name.split("/")[0] for name in shelf.files()}) == 2


def test_a_file_has_the_whole_record_and_no_id_of_a_person(books: Books, shelf: Shelf) -> None:
    audited = used(answered("r1", asked_at_us=EVENING_US))
    books.write(audited, *story(9))
    shelf.advance(10)
    (content,) = [
        content for content in shelf.files().values() if b"r1" in content or read(content)[0]["request_id"] == "r1"
    ]
    row = read(content)[0]
    assert row == asdict(audited) | {"answers": [asdict(answer) for answer in audited.answers]}
    assert "entity_id" not in row
    assert row["pseudonym"] == b"pseudonym"


def test_a_process_that_is_killed_before_the_end_of_a_cut_writes_the_same_bytes_again(
    books: Books, shelf: Shelf
) -> None:
    books.write(*story(30))

    class Dying:
        """Takes two files and no more."""

        left = 2

        def put_named(self, name: str, content: bytes) -> None:
            if not self.left:
                raise ObjectStoreError("the power is gone")
            self.left -= 1
            shelf.objects.put_named(name, content)

    shelf.restarted(Dying())
    with pytest.raises(ObjectStoreError):
        shelf.advance(15)
    part = shelf.files()
    assert len(part) == 2
    # Meanwhile more came, and the limits changed: what was decided stays decided.
    shelf.options = {"cut_offsets": 30, "cut_seconds": 0.0}
    shelf.restarted()
    assert shelf.advance(30)
    whole = shelf.files()
    assert {name: whole[name] for name in part} == part
    assert sorted(row["request_id"] for content in whole.values() for row in read(content)) == [
        f"r{number:03d}" for number in range(10)
    ]
    with shelf.store.transaction() as connection:
        connection.execute(update(archive_cuts).values(written=False))
    for name in whole:
        (shelf.objects.root / "scoring" / name).unlink()
    shelf.restarted()
    assert shelf.advance(30)
    assert shelf.files() == whole, "also all of it, from the topic"


def test_what_lies_there_for_long_goes_into_a_file_however_little_it_is(books: Books, shelf: Shelf) -> None:
    books.write(*story(3))
    assert not shelf.advance(3)
    shelf.clock.now = 899.0
    assert not shelf.advance(3)
    shelf.clock.now = 900.0
    assert shelf.advance(3)
    shelf.clock.now = 5000.0
    assert not shelf.advance(3), "nothing new"
    assert sum(len(read(content)) for content in shelf.files().values()) == 3


def test_marks_of_transactions_and_junk_are_no_records(books: Books, shelf: Shelf) -> None:
    records = story(6)
    books.write_in_transaction(*records[:3])
    books.write(b"junk")
    books.write_in_transaction(*story(2), abort=True)
    books.write_in_transaction(*records[3:])
    for now in (0.0, 900.0):
        shelf.clock.now = now
        while shelf.advance(12):
            pass
    assert sum(len(read(content)) for content in shelf.files().values()) == 6


def test_a_topic_that_ends_too_early_is_told(books: Books, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_archive, "READ_SECONDS", 0.5)
    books.write(*story(3))
    with pytest.raises(ArchiveError, match="was not read up to 10"):
        shelf.advance(10)


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("credit", "model=credit"),
        ("../../etc", "model=..%2F..%2Fetc"),
        ("", "model=-"),
        ("a" * 300, f"model={'a' * 80}-"),
        ("\N{GREEK SMALL LETTER ALPHA}", "model=%CE%B1"),
    ],
)
def test_a_model_of_any_name_gets_one_folder(model: str, folder: str) -> None:
    answer = answered("r")
    for record in (
        replace(used(answer), model=model),
        replace(late(answer), model=model),
        replace(answer, model=model),
    ):
        assert isinstance(record, ScoreAudited | AnswerLate | AnswerAudited)
        name = file_name(record, "topic", 3, 7)
        parts = name.split("/")
        assert len(parts) == 5
        assert parts[2].startswith(folder)
        assert len(parts[2]) < 120
        assert parts[4] == f"topic-3-00000000000000000007-{type(record).__name__}.avro"
