"""What was ever published can be read for ever: schema files are added, never changed and never removed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.tidy.sources import ROOT

SCHEMAS = ROOT / "schemas" / "avro"
#: `<Record>/<version>.avsc` -> SHA-256 of each schema of a release; empty until there is one.
RELEASED = Path(__file__).with_name("released_schemas.json")


def broken_promises(folder: Path, released: dict[str, str]) -> list[str]:
    """What is no longer as it was released."""
    problems = []
    for name, digest in sorted(released.items()):
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} was released and is gone")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            problems.append(f"{name} was released and has changed: publish a new version instead")
    return problems


def test_released_schemas_are_as_they_were() -> None:
    assert not broken_promises(SCHEMAS, json.loads(RELEASED.read_text(encoding="utf-8")))


def test_a_changed_or_removed_schema_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "Thing").mkdir()
    for version in ("1", "2"):
        (tmp_path / "Thing" / f"{version}.avsc").write_text(f'{{"version": {version}}}')
    released = {
        str(path.relative_to(tmp_path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tmp_path.rglob("*.avsc")
    }
    assert not broken_promises(tmp_path, released)
    (tmp_path / "Thing" / "1.avsc").write_text('{"version": 1, "more": true}')
    (tmp_path / "Thing" / "2.avsc").unlink()
    assert broken_promises(tmp_path, released) == [
        "Thing/1.avsc was released and has changed: publish a new version instead",
        "Thing/2.avsc was released and is gone",
    ]


def test_versions_count_from_one_without_gaps() -> None:
    folders = sorted(path for path in SCHEMAS.iterdir() if path.is_dir())
    assert folders
    for folder in folders:
        versions = sorted(int(path.stem) for path in folder.glob("*.avsc"))
        assert versions == list(range(1, len(versions) + 1)), folder.name
        assert versions, folder.name


def test_a_schema_is_named_as_its_folder() -> None:
    for path in SCHEMAS.rglob("*.avsc"):
        assert json.loads(path.read_text(encoding="utf-8"))["name"].split(".")[-1] == path.parent.name, path
