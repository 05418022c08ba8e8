"""The files of the repository that the style rules are about."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "streams", "consumers", "producers", "infra")
TEXT_SUFFIXES = {
    ".py", ".rs", ".md", ".toml", ".yaml", ".yml", ".properties", ".j2", ".html", ".avsc", ".json", ".lock", "",
}  # fmt: skip
#: Folders that tools make beside the sources.
_MADE = {"build", "dist", "target", "__pycache__"}


@cache
def text_files() -> tuple[Path, ...]:
    """Every text file of the repository, made files left out; cargo's lock names the registry in every entry."""
    return tuple(sorted(path for path in _walk(ROOT) if path.suffix in TEXT_SUFFIXES and path.name != "Cargo.lock"))


def python_files(*folders: str) -> tuple[Path, ...]:
    """The Python files below `folders` of the repository."""
    return tuple(sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def place(path: Path, line: int) -> str:
    """As in compilers' messages, so that editors jump there."""
    return f"{path.relative_to(ROOT)}:{line}"


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            hidden = path.name.startswith(".") and path.name != ".ci"
            if not hidden and path.name not in _MADE and path.suffix != ".egg-info":
                yield from _walk(path)
        elif path.is_file():
            yield path
