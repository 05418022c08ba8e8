"""Everything that is fuzzed: how cases are made, what is checked, and how a case lies in the corpus."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz import encodings, envelopes, scoring, scripts
from tests.fuzz.arenas import ARENAS
from tests.fuzz.notation import record_from_json, record_to_json

#: One folder a target, one JSON file a case.
CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """One part of the program that takes what others wrote. `examples` are those of a test run."""

    name: str
    examples: int
    make: Callable[[], st.SearchStrategy[Any]]
    check: Callable[[Any], None]
    to_json: Callable[[Any], Any]
    from_json: Callable[[Any], Any]

    @property
    def folder(self) -> Path:
        """Where its cases lie."""
        return CORPUS / self.name

    def cases(self) -> Iterator[Path]:
        """The files of its corpus."""
        return iter(sorted(self.folder.glob("*.json")))

    def replay(self, path: Path) -> None:
        """Check one case of the corpus."""
        self.check(self.from_json(json.loads(path.read_text())))

    def run(self, examples: int, number: int | None = None) -> None:
        """Check so many fresh cases: the same in every run, or those of a seed. What fails first is raised, shrunk."""
        self._explore(examples, number, self.check)

    def search(self, examples: int, number: int) -> Path | None:
        """As `run`, but a case that fails is put into the corpus, and its place is given."""
        last: list[Any] = []

        def check(case: Any) -> None:
            last[:] = [case]
            self.check(case)

        try:
            self._explore(examples, number, check)
        except Exception as error:  # noqa: BLE001 - whatever was found is kept; a person looks at it
            self.folder.mkdir(exist_ok=True)
            reason = re.sub(r"\W+", "-", f"{type(error).__name__} {error}"[:60]).strip("-").lower()
            path = self.folder / f"found-{reason}.json"
            path.write_text(json.dumps(self.to_json(last[0]), indent=1, ensure_ascii=False) + "\n")
            return path
        return None

    def _explore(self, examples: int, number: int | None, check: Callable[[Any], None]) -> None:
        profile = settings(
            max_examples=examples,
            derandomize=number is None,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        fuzzed = profile(given(self.make())(check))
        (fuzzed if number is None else seed(number)(fuzzed))()


def _records_to_json(records: Any) -> Any:
    return [record_to_json(record) for record in records]


def _records_from_json(data: Any) -> Any:
    return tuple(record_from_json(each) for each in data)


def _machine(name: str) -> Target:
    make = functools.partial(scripts.scripts, name)
    return Target(
        name,
        200 if name.startswith("train") else 60,
        make,
        scripts.play,
        scripts.script_to_json,
        scripts.script_from_json,
    )


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        *map(_machine, ARENAS),
        Target("codec", 300, encodings.encodings, encodings.check_encoding, encodings.to_json, encodings.from_json),
        Target(
            "envelopes",
            120,
            envelopes.letters,
            envelopes.deliver,
            envelopes.letters_to_json,
            envelopes.letters_from_json,
        ),
        Target("messages", 80, envelopes.messages, envelopes.open_message, encodings.to_json, encodings.from_json),
        Target("score-host", 100, scoring.asks, scoring.ask_host, _records_to_json, _records_from_json),
        Target("score-router", 100, scoring.requests, scoring.ask_router, _records_to_json, _records_from_json),
        Target("score-joiner", 80, scoring.moves, scoring.ask_joiner, scoring.moves_to_json, scoring.moves_from_json),
    )
}
