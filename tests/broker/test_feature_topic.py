"""Features on a real broker: loaded, changed, deleted, followed by several processes, and in the clear nowhere."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from consumers.feature_table import TopicSource
from consumers.features import TokenIndex, make_source, open_topic_source
from consumers.party import Party, open_party
from infra.broker import EmbeddedBroker
from infra.topic_admin import create_topics
from infra.topics import features_topic, party_topics
from producers.feature_loader import FeatureTable, LoadReport, load_features
from producers.topic_reader import connection_of
from schemas.codec import encode
from schemas.serving import FeatureRow
from streams.engine.agreement import Agreement
from streams.engine.partitioner import partition_of
from streams.engine.seal import Keyring
from streams.features import FeatureSourceError
from streams.kernels.ristretto import normalise_id
from streams.kernels.scorecard import name_person
from tests.end_to_end.world import await_true, make_home, read_all

COLUMNS = ("age", "income")
#: What a process does that only looks: tells how many it knows, then again at each line.
READER = """
import sys
from pathlib import Path
from consumers.features import open_topic_source
from consumers.party import open_party
source = open_topic_source(open_party(Path(sys.argv[1])))
print(len(source.known_ids()), flush=True)
for line in sys.stdin:
    person = source.person(line.strip())
    print("unknown" if person is None else sorted(person.values.items()), flush=True)
"""
#: A process that dies by its own hand once the broker has confirmed the first records.
KILLED_LOADER = """
import os, signal, sys
from pathlib import Path
from consumers.party import open_party
from producers.feature_files import read_csv
from producers.feature_loader import Choice, load_features
table = read_csv(Path(sys.argv[2]), Choice("id"))
load_features(
    open_party(Path(sys.argv[1])), table, delete_missing=False,
    progress=lambda done: done and os.kill(os.getpid(), signal.SIGKILL),
)
"""


@pytest.fixture
def party(
    broker: EmbeddedBroker, new_party: Callable[[str], str], make_party_topics: Callable[..., object], tmp_path: Path
) -> Party:
    name = new_party("bank")
    make_party_topics(name)
    make_home(tmp_path / name, name, "shop", broker, {}, None)
    path = tmp_path / name / "party.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"peers": []}))
    return open_party(tmp_path / name)


@pytest.fixture
def source(party: Party) -> Iterator[TopicSource]:
    opened = open_topic_source(party)
    yield opened
    opened.close()


def _table(rows: dict[str, tuple[float | None, ...]], columns: tuple[str, ...] = COLUMNS) -> FeatureTable:
    values = np.array([[np.nan if v is None else v for v in row] for row in rows.values()], dtype=np.float64)
    return FeatureTable(tuple(rows), columns, values, ())


def _load(party: Party, rows: dict[str, Any], columns: tuple[str, ...] = COLUMNS, **options: Any) -> LoadReport:
    options = {"delete_missing": False, "progress": lambda done: None, **options}
    return load_features(party, _table(rows, columns), **options)


def _await(condition: Callable[[], bool], what: str) -> None:
    await_true(condition, what, lambda: threading.Event().wait(0.01))


def _values(source: TopicSource, *ids: str, columns: tuple[str, ...] = COLUMNS) -> list[dict[str, object] | None]:
    return [None if person is None else dict(person.values) for person in source.fetch(ids, columns)]


def _everywhere(party: Party, partitions: int = 4) -> list[tuple[str, int]]:
    return [(features_topic(party.name), partition) for partition in range(partitions)]


def test_what_was_loaded_is_there_with_its_time_and_changes_arrive(party: Party, source: TopicSource) -> None:
    assert _values(source, "ann") == [None]
    report = _load(party, {"ann": (41.0, None), "bob": (7.0, 0.1)})
    assert (report.rows, report.deleted) == (2, 0)
    _await(lambda: len(source) == 2, "both are known")
    assert _values(source, "bob", "nobody", "ann") == [
        {"age": 7.0, "income": 0.1},
        None,
        {"age": 41.0, "income": None},
    ]
    [person] = source.fetch(["ann"], ["income", "height"])
    assert person is not None
    assert person.values == {"income": None}, "a column that the row does not have is left out"
    assert person.as_of_ms > 1_700_000_000_000
    assert sorted(source.known_ids()) == ["ann", "bob"]
    _load(party, {"ann": (42.0,)}, ("age",))
    _await(lambda: _values(source, "ann") == [{"age": 42.0}], "the new row replaces the old one as a whole")
    assert _values(source, "bob") == [{"age": 7.0, "income": 0.1}]


def test_a_new_process_knows_what_the_old_one_knew(party: Party, source: TopicSource) -> None:
    people = {f"person {number}": (float(number), -1.5) for number in range(3_000)}
    _load(party, people)
    again = make_source(party, for_hosting=True)
    assert sorted(again.known_ids()) == sorted(people)
    assert [p.values["age"] for p in again.fetch(list(people), COLUMNS) if p] == [float(n) for n in range(3_000)]
    again.close()
    _await(lambda: len(source) == 3_000, "the one that follows knows them too")


def test_deleting_who_is_missing_deletes_nobody_else(party: Party, source: TopicSource) -> None:
    _load(party, {"ann": (1.0, 1.0), "bob": (2.0, 2.0), "cid": (3.0, 3.0)})
    _await(lambda: len(source) == 3, "all are known")
    report = _load(party, {"bob": (5.0, 5.0), "dan": (4.0, 4.0)}, delete_missing=True)
    assert (report.rows, report.deleted) == (2, 2)
    _await(lambda: sorted(source.known_ids()) == ["bob", "dan"], "ann and cid are gone, dan is there")
    assert _values(source, "ann", "bob") == [None, {"age": 5.0, "income": 5.0}]
    again = open_topic_source(party)
    assert sorted(again.known_ids()) == ["bob", "dan"]
    again.close()
    assert _load(party, {"bob": (5.0, 5.0), "dan": (4.0, 4.0)}, delete_missing=True).deleted == 0


def test_the_tokens_follow_the_topic(party: Party, source: TopicSource) -> None:
    key = b"k" * 32
    index = TokenIndex(source, lambda guest: key, lambda text: normalise_id(text, "string"))
    tokens = [name_person(key, person) for person in ("ann", "bob")]
    assert index.find("shop", tokens) == [None, None]
    _load(party, {"ann": (1.0, 1.0)})
    _await(lambda: index.find("shop", tokens) == ["ann", None], "ann is found by her token")
    _load(party, {"bob": (1.0, 1.0)}, delete_missing=True)
    _await(
        lambda: index.find("shop", tokens) == ["ann", "bob"] and _values(source, "ann") == [None], "bob came, ann went"
    )
    index.close()


def test_the_brokers_log_holds_no_id_and_no_value_in_the_clear(party: Party, source: TopicSource) -> None:
    """Ids, columns, numbers in all their spellings: the key is a pseudonym that only this party can derive."""
    person, number = "canary-person-4711", 3.14159265358979
    _load(party, {person: (number, None)}, ("canary-column", "income"))
    _await(lambda: len(source) == 1, "it is loaded")
    _load(party, {"somebody else": (1.0, 1.0)}, delete_missing=True)
    messages = read_all(party.settings.bootstrap_servers, _everywhere(party))
    assert len(messages) == 3
    raw = b"".join((m.key() or b"") + (m.value() or b"") + repr(m.headers()).encode() for m in messages)
    for canary in (b"canary", b"4711", struct.pack("<d", number), struct.pack(">d", number), repr(number).encode()):
        assert canary not in raw
    assert {len(m.key() or b"") for m in messages} == {16}
    keys = [m.key() for m in messages]
    assert name_person(party.keyring.pseudonym_key(), person) in keys
    assert name_person(b"\0" * 32, person) not in keys


def test_another_process_follows_and_a_killed_load_is_repaired_by_the_next(
    party: Party, source: TopicSource, tmp_path: Path
) -> None:
    people = 20_000
    path = tmp_path / "people.csv"
    path.write_text("id,age\n" + "".join(f"person {n},{n}\n" for n in range(people)))
    home = str(party.settings.home)
    killed = subprocess.run([sys.executable, "-c", KILLED_LOADER, home, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    _await(lambda: len(source) > 0, "some were written")
    command = [sys.executable, "-c", "from producers.commands.features import features; features()"]
    command += ["load", "--home", home, "--csv", str(path), "--id", "id"]
    subprocess.run(command, check=True, capture_output=True)
    with subprocess.Popen(
        [sys.executable, "-c", READER, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin is not None and reader.stdout is not None

        def ask(person: str) -> str:
            assert reader.stdin is not None and reader.stdout is not None
            reader.stdin.write(f"{person}\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        assert reader.stdout.readline().strip() == str(people)
        assert ask(f"person {people - 1}") == f"[('age', {people - 1:.1f})]"
        _load(party, {"newcomer": (5.0, None)})
        _await(lambda: ask("newcomer") == "[('age', 5.0), ('income', None)]", "the other process learns of it")
        reader.stdin.close()
    _await(lambda: len(source) == people + 1, "and so does this one")


def test_a_row_that_cannot_be_read_is_nobody_until_it_is_loaded_again(party: Party, source: TopicSource) -> None:
    """The old row would be a wrong answer."""
    _load(party, {"ann": (1.0, 1.0), "bob": (2.0, 2.0)})
    _await(lambda: len(source) == 2, "both are known")
    topic, key = features_topic(party.name), name_person(party.keyring.pseudonym_key(), "ann")
    partition = partition_of(key, 4)
    other = name_person(party.keyring.pseudonym_key(), "bob")
    row = encode(FeatureRow("ann", ("age",), (99.0,), 1))
    moved = party.keyring.seal_state(topic, partition, other, row)
    producer = Producer({**connection_of(party.settings)})
    for value in (b"junk", row, moved):
        _load(party, {"ann": (1.0, 1.0)})
        _await(lambda: _values(source, "ann") == [{"age": 1.0, "income": 1.0}], "ann is known")
        producer.produce(topic, value, key, partition)
        assert producer.flush(30) == 0
        _await(lambda: _values(source, "ann") == [None], "ann is unknown")
        assert _values(source, "bob") == [{"age": 2.0, "income": 2.0}]


def test_a_topic_of_another_storage_key_says_so(party: Party, source: TopicSource) -> None:
    _load(party, {"ann": (1.0, 1.0)})
    keyring = Keyring(party.name, Agreement(os.urandom(32), {}), os.urandom(32))
    stranger = TopicSource(keyring, features_topic(party.name), connection_of(party.settings))
    stranger.start()
    stranger.await_ready(60)
    with pytest.raises(FeatureSourceError, match="sealed with another storage key"):
        stranger.fetch(["ann"], COLUMNS)
    assert len(stranger.pseudonyms()) == 1
    stranger.close()


def test_until_it_is_read_to_its_end_a_topic_answers_nothing(party: Party, new_party: Callable[[str], str]) -> None:
    unread = TopicSource(party.keyring, features_topic(party.name), connection_of(party.settings))
    with pytest.raises(FeatureSourceError, match="not read yet"):
        unread.fetch(["ann"], COLUMNS)
    missing = TopicSource(party.keyring, features_topic(new_party("nobody")), connection_of(party.settings))
    missing.start()
    with pytest.raises(FeatureSourceError, match="there is no topic"):
        missing.await_ready(3)
    missing.close()


def test_rows_that_nobody_renews_any_more_are_not_used(
    party: Party, source: TopicSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    _load(party, {"ann": (1.0, 1.0)})
    _await(lambda: len(source) == 1, "ann is known")
    monkeypatch.setattr(source, "_apply", lambda *record: 1 // 0)
    _load(party, {"ann": (2.0, 2.0)})

    def fails() -> bool:
        try:
            source.fetch(["ann"], COLUMNS)
        except FeatureSourceError as error:
            return "what reads them failed: ZeroDivisionError" in str(error)
        return False

    _await(fails, "the failure is told")


def test_without_a_broker_what_was_loaded_stays(tmp_path: Path, party: Party) -> None:
    with EmbeddedBroker(tmp_path / "own", is_open=True) as own:
        create_topics(AdminClient({"bootstrap.servers": own.bootstrap}), party_topics(party.name))
        settings = party.settings.model_copy(update={"bootstrap_servers": own.bootstrap})
        here = Party(settings, party.secrets, party.keyring, party.objects)
        _load(here, {"ann": (1.0, 1.0)})
        source = open_topic_source(here)
    assert _values(source, "ann") == [{"age": 1.0, "income": 1.0}]
    source.close()
    late = TopicSource(party.keyring, features_topic(party.name), connection_of(settings))
    late.start()
    with pytest.raises(FeatureSourceError, match=r"not read yet"):
        late.await_ready(0.5)
    late.close()
