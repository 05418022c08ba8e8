"""A large table is read by another process: the same table, whatever becomes of that process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from consumers import tables
from consumers.tables import ATTEMPTS, Part, TableReaderError, load_table, read_here
from infra.settings import PartySettings
from schemas.jobs import JobSpec, PartySpec
from streams.dataset import Dataset, DatasetProblem

KEY = b"k" * 32
SPEC = JobSpec("churn", PartySpec("acme", "customers"), "left", (PartySpec("globex", "payments"),))


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LARGE_BYTES", 1)


@pytest.fixture
def settings(tmp_path: Path) -> PartySettings:
    """A guest with a small table."""
    rows = "".join(f"person {n} ä,{n / 7},{n % 2}\n" for n in range(1000))
    (tmp_path / "table.csv").write_text("id,x,left\n" + rows, encoding="utf-8")
    return PartySettings.model_validate(
        {
            "party": "acme",
            "access": {"kind": "custom"},
            "bootstrap_servers": "a:1",
            "datasets": {"customers": {"path": str(tmp_path / "table.csv"), "id": "id", "label": "left"}},
        }
    )


@contextmanager
def killing(times: int) -> Iterator[list[int]]:
    """SIGKILLs so many children of this process, one after the other; their numbers."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.is_set() and len(killed) < times:
            for child in psutil.Process().children():
                if child.pid not in killed and "consumers.table_reader" in child.cmdline():
                    os.kill(child.pid, signal.SIGKILL)
                    killed.append(child.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_it_is_the_same_table(settings: PartySettings) -> None:
    here, apart = read_here(settings, KEY, SPEC, Part.ROWS), load_table(settings, KEY, SPEC)
    assert isinstance(here, Dataset)
    assert isinstance(apart, Dataset)
    assert list(apart.ids) == list(here.ids)
    assert apart.values.tobytes() == here.values.tobytes()
    assert apart.label is not None
    assert here.label is not None
    assert apart.label.tobytes() == here.label.tobytes()
    assert (apart.columns, apart.profile) == (here.columns, here.profile)


def test_mistakes_and_strangers_come_back_as_well(settings: PartySettings, tmp_path: Path) -> None:
    assert load_table(settings.model_copy(update={"party": "initech"}), KEY, SPEC) is None
    (tmp_path / "table.csv").write_text("id,x,left\na,1,0\na,2,1\n")
    problem = load_table(settings, KEY, SPEC)
    assert isinstance(problem, DatasetProblem)
    assert problem == read_here(settings, KEY, SPEC, Part.ROWS)


@pytest.mark.parametrize("large_bytes", [1, 10**9])
def test_who_needs_no_rows_gets_none(
    settings: PartySettings, monkeypatch: pytest.MonkeyPatch, large_bytes: int
) -> None:
    monkeypatch.setattr(tables, "LARGE_BYTES", large_bytes)
    whole, people, profile = (
        load_table(settings, KEY, SPEC, part) for part in (Part.ROWS, Part.IDENTIFIERS, Part.PROFILE)
    )
    assert isinstance(whole, Dataset)
    assert isinstance(people, Dataset)
    assert isinstance(profile, Dataset)
    assert whole.profile == people.profile == profile.profile
    assert list(people.ids) == list(whole.ids)
    assert len(profile.ids) == 0
    for cut in (people, profile):
        assert (cut.columns, cut.label) == ((), None)
        assert cut.values.shape == (len(cut.ids), 0)


def test_only_a_large_table_is_read_apart(settings: PartySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(tables, "read_apart", lambda *_: asked.append(1))
    monkeypatch.setattr(tables, "LARGE_BYTES", 10**6)
    assert isinstance(load_table(settings, KEY, SPEC), Dataset)
    assert not asked
    monkeypatch.setattr(tables, "LARGE_BYTES", 10**4)
    load_table(settings, KEY, SPEC)
    assert asked


def test_a_killed_reader_is_followed_by_another(settings: PartySettings) -> None:
    with killing(ATTEMPTS - 1) as killed:
        table = load_table(settings, KEY, SPEC)
    assert len(killed) == ATTEMPTS - 1
    assert isinstance(table, Dataset)
    assert len(table.ids) == 1000


def test_readers_that_are_killed_again_and_again_end_with_an_error(settings: PartySettings) -> None:
    with killing(ATTEMPTS) as killed, pytest.raises(TableReaderError, match="ended with -9"):
        load_table(settings, KEY, SPEC)
    assert len(killed) == ATTEMPTS
