"""Rules about the repository's own text that no linter has."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy.sources import PACKAGES, ROOT, parse, place, python_files, text_files

#: A file one can read in one go. Lists may be longer: of records, and of claims.
MODULE_LINES, RECORD_LINES, TEST_LINES = 300, 400, 600

#: Brackets split some words, so that this file keeps its own rules.
BANNED_TEXT = {
    "a path of one machine": r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)/[\w.]|/tmp/\w/",
    "the host of a package registry": r"(?:pypi|pythonhosted)\.[o]rg|repo1?\.maven\.|registry\.npm[j]s"
    r"|crates\.[i]o\b|proxy\.golan[g]|deb\.debia[n]",
    "talk about the making of the text": r"\b(?:this|previous|last|next) [s]ession\b|\bbuilder [A-H]\b"
    r"|(?<!librdkafka )(?<!Kafka )\b[i]ssue #?\d{1,3}\b",
    "a note to do something later": r"\b(?:TO[D]O|FIX[M]E|X[X]X)\b",
    "a conflict marker": r"^(?:<{7}|>{7}) ",
}
#: Words that are Kafka's or training's, never both (docs/architecture.md): in these packages, identifiers avoid them.
OVERLOADED = {"epoch", "batch"}


def test_modules_can_be_read_in_one_go() -> None:
    long = [
        f"{place(path, 1)}: {lines} lines, at most {limit}"
        for folders, limit in (
            (("streams", "consumers", "producers", "infra", "benchmarks"), MODULE_LINES),
            (("schemas",), RECORD_LINES),
            (("tests",), TEST_LINES),
        )
        for path in python_files(*folders)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > limit
    ]
    assert not long, "\n".join(long)


def _banned(text: str) -> Iterator[tuple[int, str]]:
    for what, pattern in BANNED_TEXT.items():
        for match in re.finditer(pattern, text, flags=re.MULTILINE):
            yield text.count("\n", 0, match.start()) + 1, f"{what}: {match.group()}"


def test_no_file_names_a_machine_a_registry_or_its_own_making() -> None:
    found = [
        f"{place(path, line)}: {what}"
        for path in text_files()
        for line, what in _banned(path.read_text(encoding="utf-8"))
    ]
    assert len(text_files()) > 50
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "/wor" + "k/main",
        "/ro" + "ot/.cache",
        "/ho" + "me/alice/x",
        "/tm" + "p/w/notes",
        "py" + "pi.org",
        "files.python" + "hosted.org",
        "TO" + "DO: later",
        "as found in the last ses" + "sion",
        "see iss" + "ue 12",
    ],
)
def test_the_rule_finds_what_it_is_for(text: str) -> None:
    assert list(_banned(f"first line\n{text}\n"))


@pytest.mark.parametrize("text", ["librdkafka issue 5423", "/opt/isthmus", "a session timeout", "~/.cache/isthmus"])
def test_the_rule_lets_honest_text_pass(text: str) -> None:
    assert not list(_banned(text))


def _sleeps(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "sleep":
            yield node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield from (node.lineno for alias in node.names if alias.name == "sleep")


def test_no_test_sleeps() -> None:
    """A sleep is either too short on a busy machine or too long on every other; wait for what you wait for."""
    found = [place(path, line) for path in python_files("tests") for line in _sleeps(parse(path))]
    assert not found, "\n".join(found)


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    found = []
    for path in python_files("tests"):
        for node in ast.walk(parse(path)):
            name = node.attr if isinstance(node, ast.Attribute) else ""
            if name in ("skip", "skipif", "xfail", "importorskip"):
                found.append(place(path, getattr(node, "lineno", 0)))
    assert not found, "\n".join(found)


def test_names_of_training_and_of_kafka_are_kept_apart() -> None:
    found = []
    for path in python_files("streams/kernels", "streams/machines"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.arg):
                name = node.arg if isinstance(node, ast.arg) else node.name
                if OVERLOADED & set(name.lower().split("_")):
                    found.append(f"{place(path, node.lineno)}: {name}")
    assert not found, "\n".join(found)


def test_every_folder_of_tests_is_a_package() -> None:
    """Two test files of one name in two folders are then two modules for mypy."""
    folders = {path.parent for path in python_files("tests")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").exists()]


def test_every_direct_dependency_is_locked_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {
        match.group(1) for match in re.finditer(r"^([a-z0-9-]+)(?:\[[^]]*\])?==\S+.*\\$", lock, flags=re.MULTILINE)
    }
    for requirement in wanted:
        name = re.split(r"[\[<>=~! ]", requirement)[0].lower().replace("_", "-")
        assert name in locked, f"{requirement} is not in requirements.lock: run make lock"


def test_what_ships_is_what_the_package_data_names() -> None:
    """A file that a package reads at run time but does not ship works in the checkout only."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "package-data"
    ]
    suffixes = {Path(pattern).suffix for pattern in patterns["*"]} | {".py"}
    unshipped = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file()
        and path.suffix not in suffixes | {".pyc", ".avsc"}
        and path.parent.name != "deploy"
        # The native kernel is a package of its own.
        and ROOT / "streams/kernels/native" not in path.parents
    ]
    assert not unshipped
