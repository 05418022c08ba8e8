"""`python -m schemas.publish`: write the schemas of new and changed records to `schemas/avro`, append-only.

A changed record gets its next version when old and new can read each other as its topic demands; otherwise nothing is
written and every problem is told. `--unreleased` rewrites version 1 instead: for the time before a first release only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from schemas.catalogue import FOLDER, published_schemas, record_classes
from schemas.compatibility import Rule, find_problems, rule_of
from schemas.derivation import schema_of


def without_docs(schema: Any) -> Any:
    """The schema without its `doc` texts, which may change at any time."""
    if isinstance(schema, list):
        return [without_docs(item) for item in schema]
    if isinstance(schema, dict):
        return {
            key: value if key == "default" else without_docs(value) for key, value in schema.items() if key != "doc"
        }
    return schema


def publish(folder: Path = FOLDER, *, unreleased: bool = False) -> tuple[list[Path], list[str]]:
    """Write what is missing. Gives the files written and the problems found; with problems nothing is written."""
    files: dict[Path, str] = {}
    problems: list[str] = []
    for record in record_classes():
        name, derived = record.__name__, schema_of(record)
        old = published_schemas(name, folder)
        if unreleased:
            if len(old) > 1:
                problems.append(f"{name} has {len(old)} versions: it was released, leave out --unreleased")
            if old[:1] != (derived,):
                files[folder / name / "1.avsc"] = _text(derived)
        elif not old or without_docs(old[-1]) != without_docs(derived):
            rule = rule_of(record)
            problems.extend(f"{name}: {problem}" for problem in find_problems([*old, derived], rule))
            files[folder / name / f"{len(old) + 1}.avsc"] = _text(derived)
    if problems:
        return [], problems
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(files), []


def find_orphans(folder: Path = FOLDER) -> tuple[str, ...]:
    """Published records that no class has any more: their old messages can no longer be read."""
    names = {record.__name__ for record in record_classes()}
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in names))


def main(arguments: list[str]) -> int:
    """The command line. Returns the exit status."""
    if unknown := [argument for argument in arguments if argument != "--unreleased"]:
        sys.stderr.write(f"unknown argument {unknown[0]}; usage: python -m schemas.publish [--unreleased]\n")
        return 2
    written, problems = publish(unreleased="--unreleased" in arguments)
    for path in written:
        sys.stdout.write(f"wrote {path.relative_to(FOLDER.parent.parent)}\n")
    for problem in problems:
        sys.stderr.write(f"problem: {problem}\n")
    for name in find_orphans():
        sys.stderr.write(f"warning: no class for the published record {name}\n")
    return 1 if problems else 0


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


__all__ = ["Rule", "find_orphans", "main", "publish", "without_docs"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
