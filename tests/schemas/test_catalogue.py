"""The schemas on disk are the contract: they fit the record classes, stand alone, and can be told apart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import pytest

import schemas
from schemas.catalogue import (
    FOLDER,
    MODULES,
    Catalogue,
    CatalogueError,
    load_catalogue,
    parse_version,
    published_schemas,
    record_classes,
)
from schemas.codec import decode, encode, schema_of
from schemas.compatibility import Rule, check_pair, find_problems, rule_of
from schemas.jobs import Reason
from schemas.publish import find_orphans, publish, without_docs
from schemas.record import Record
from schemas.tasks import TimerFired

ALL = record_classes()


@dataclass(frozen=True)
class JobCancelledWith(Record):
    """A record of a test, with an enum that may grow."""

    job_id: str
    reason: Reason


@pytest.mark.parametrize("record_class", ALL, ids=lambda cls: cls.__name__)
def test_the_newest_published_schema_is_the_one_of_the_dataclass(record_class: type[Record]) -> None:
    """When this fails: `python -m schemas.publish` writes the new version, or says why it must not be."""
    versions = published_schemas(record_class.__name__)
    assert versions, f"{record_class.__name__} was never published"
    assert without_docs(versions[-1]) == without_docs(schema_of(record_class))


def test_no_published_schema_lost_its_class() -> None:
    assert find_orphans() == ()


def test_every_module_of_records_is_in_the_catalogue() -> None:
    folder = Path(schemas.__file__).parent
    with_records = {
        f"schemas.{path.stem}"
        for path in folder.glob("*.py")
        if "(Record):" in path.read_text() and path.stem != "record"
    }
    assert with_records <= set(MODULES)


def test_fingerprints_tell_all_versions_of_all_records_apart() -> None:
    versions = [version for versions in load_catalogue().versions.values() for version in versions]
    assert len({version.fingerprint for version in versions}) == len(versions)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.avsc")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_published_file_stands_alone(path: Path) -> None:
    """A consumer of another language needs this one file to read the record."""
    schema = json.loads(path.read_text())
    fastavro.parse_schema(schema)
    assert schema["name"] == path.parent.name
    assert schema["namespace"] == "isthmus"


@pytest.mark.parametrize("record_class", ALL, ids=lambda cls: cls.__name__)
def test_every_version_can_be_read_as_its_topic_demands(record_class: type[Record]) -> None:
    versions = published_schemas(record_class.__name__)
    for number in range(1, len(versions) + 1):
        assert find_problems(versions[:number], rule_of(record_class)) == ()
    for version in versions:
        assert check_pair(version, version) == ()


def test_private_state_needs_only_be_read_by_newer_releases() -> None:
    assert rule_of(TimerFired) is Rule.FULL
    state = type("SomeState", (Record,), {"__module__": "schemas.job_states"})
    assert rule_of(state) is Rule.BACKWARD


def test_two_records_with_one_fingerprint_are_refused() -> None:
    catalogue = Catalogue()
    schema = schema_of(TimerFired)
    catalogue.add(parse_version(TimerFired, 1, schema))
    with pytest.raises(CatalogueError, match="the same fingerprint"):
        catalogue.add(parse_version(ALL[0], 1, schema))


def test_a_gap_in_the_versions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Thing").mkdir()
    for number in (1, 3):
        (tmp_path / "Thing" / f"{number}.avsc").write_text("{}")
    with pytest.raises(CatalogueError, match="without a gap"):
        published_schemas("Thing", tmp_path)


# --- a record that changes ----------------------------------------------------------------------------------------


def test_what_an_older_release_wrote_is_read_with_defaults_of_every_type(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.schemas.test_codec import everything

    record = everything()
    full = schema_of(type(record))
    added = {"maybe_numbers", "maybe_default", "raw_default", "party_default"}
    old_schema = full | {"fields": [f for f in full["fields"] if f["name"] not in added]}
    catalogue = Catalogue()
    catalogue.add(parse_version(type(record), 1, old_schema))
    monkeypatch.setattr("schemas.codec.load_catalogue", lambda: catalogue)
    old_bytes = encode(record)
    catalogue.add(parse_version(type(record), 2, full))
    assert decode(old_bytes) == record
    assert encode(record) != old_bytes
    assert decode(encode(record)) == record


def test_a_reason_of_a_newer_release_is_read_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enum that only informs may grow; a party with an older release reads the rest of the record."""
    text = json.dumps(schema_of(JobCancelledWith)).replace('"unknown"]', '"unknown", "bored"]')
    today = Catalogue()
    assert '"bored"]' in text
    writer = parse_version(JobCancelledWith, 1, json.loads(text))
    data = b"\xc3\x01" + writer.fingerprint + b"\x02j" + bytes([2 * (list(Reason).index(Reason.UNKNOWN) + 1)])
    today.add(writer)
    today.add(parse_version(JobCancelledWith, 2, schema_of(JobCancelledWith)))
    monkeypatch.setattr("schemas.codec.load_catalogue", lambda: today)
    assert decode(data) == JobCancelledWith("j", Reason.UNKNOWN)
    assert find_problems([schema_of(JobCancelledWith), json.loads(text)], Rule.FULL) == ()


def test_publishing_writes_only_what_changed_and_refuses_what_breaks_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Thing(Record):
        name: str

    first = Thing

    @dataclass(frozen=True)
    class Thing(Record):  # type: ignore[no-redef]
        """Grown by a field with a default: both sides can read each other."""

        name: str
        size: int = 3

    grown = Thing

    @dataclass(frozen=True)
    class Thing(Record):  # type: ignore[no-redef]
        """Grown by fields without a default, and one is gone."""

        size: int
        colour: str
        weight: float

    broken: Any = Thing

    def publish_class(cls: Any, *, unreleased: bool = False) -> tuple[list[str], list[str]]:
        monkeypatch.setattr("schemas.publish.record_classes", lambda: (cls,))
        written, problems = publish(tmp_path, unreleased=unreleased)
        return [path.name for path in written], problems

    assert publish_class(first) == (["1.avsc"], [])
    assert publish_class(first) == ([], [])
    assert publish_class(grown) == (["2.avsc"], [])
    assert publish_class(grown) == ([], [])
    written, problems = publish_class(broken)
    assert written == []
    assert any("version 3 cannot read version 1: Thing.colour" in problem for problem in problems)
    assert any("version 3 cannot read version 2: Thing.weight" in problem for problem in problems)
    assert any("version 1 cannot read version 3: Thing.name" in problem for problem in problems)
    assert not (tmp_path / "Thing" / "3.avsc").exists()
    written, problems = publish_class(broken, unreleased=True)
    assert written == [] and "was released" in problems[0]
