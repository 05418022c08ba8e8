"""The real thing: `isthmus demo` as a process, its parties and its broker as processes below it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

#: A demo takes half a minute on two idle cores; a busy machine gets ten times that.
DEADLINE_SECONDS = 420
#: Few rows and passes: the protocol is the same.
SMALL = ("--rows", "160", "--max-passes", "3", "--seed", "7")

pytestmark = pytest.mark.timeout(900)


def _command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "producers.cli", "demo", "--json", "--folder", str(folder), *arguments]


def _demo(folder: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        _command(folder, *arguments), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert done.stdout, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, "with --json, standard output is for the program that reads it"
    line: dict[str, Any] = json.loads(lines[-1])
    assert done.returncode == (0 if line["status"] == "succeeded" else 1), done.stderr
    assert _left_running(folder) == [], "nothing is left running"
    return line


def _left_running(folder: Path) -> list[str]:
    """Command lines of processes that belong to the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An undisturbed small demo."""
    return _demo(tmp_path_factory.mktemp("calm") / "demo", *SMALL)


def test_the_demo_trains_a_model_and_reports_about_it(calm: dict[str, Any]) -> None:
    assert calm["status"] == "succeeded", calm
    assert calm["kills"] == 0
    assert len(bytes.fromhex(calm["model_sha256"])) == 32
    assert 100 < calm["n_intersection"] < 160
    assert 1 <= calm["passes"] <= 3
    assert 0.5 < calm["auc_guest_only"] < calm["auc"] <= 1
    assert 0.9 < calm["auc_pooled"] <= 1
    assert 0 < calm["ks"] <= 1
    assert set(calm["seconds_by_stage"]) == set(calm["bytes_by_stage"]) == {"align", "train", "evaluate", "register"}
    assert all(sent > 0 for sent in calm["bytes_by_stage"].values())
    assert max(calm["bytes_by_stage"], key=calm["bytes_by_stage"].__getitem__) == "train"


def test_the_report_is_there(calm: dict[str, Any]) -> None:
    page = Path(calm["report"]).read_text(encoding="utf-8")
    assert calm["model_sha256"] in page
    assert page.count("<svg") == 7
    assert "accepted by name: small_table" in page


def test_each_house_has_its_own_half_and_not_the_others(calm: dict[str, Any]) -> None:
    """Identifiers, and names of files with rows, stay in their house; logs and journals hold no key."""
    folder = Path(calm["report"]).parent
    for party in ("clinic", "laboratory"):
        keys = [
            (folder / party / "keys" / name).read_text().splitlines()[-1] for name in ("party.key", "master.secret")
        ]
        for path in folder.rglob("*"):
            if path.is_file() and path.parent != folder / party / "keys" and path.stat().st_size < 50_000_000:
                content = path.read_bytes()
                for key in keys:
                    assert key.encode() not in content, f"{path} holds a key of {party}"
                    assert bytes.fromhex(key) not in content, f"{path} holds a key of {party}"


def test_killed_processes_change_nothing(calm: dict[str, Any], tmp_path: Path) -> None:
    """Eight SIGKILLs, the broker among them; the demo itself proves each one before it counts."""
    killed = _demo(tmp_path / "demo", *SMALL, "--kill", "8")
    assert killed["status"] == "succeeded", killed
    assert killed["kills"] == len(killed["killed"]) == 8
    assert "broker" in killed["killed"]
    assert killed["job_id"] == calm["job_id"]
    assert killed["model_sha256"] == calm["model_sha256"]
    assert (killed["auc"], killed["ks"], killed["passes"]) == (calm["auc"], calm["ks"], calm["passes"])


def test_another_seed_is_another_model(calm: dict[str, Any], tmp_path: Path) -> None:
    other = _demo(tmp_path / "demo", "--privacy", "trusted_guest", "--rows", "160", "--max-passes", "3", "--seed", "8")
    assert other["status"] == "succeeded", other
    assert other["privacy"] == "trusted_guest"
    assert other["model_sha256"] != calm["model_sha256"]


def test_a_job_that_cannot_meet_its_deadline_fails_with_the_reason(tmp_path: Path) -> None:
    line = _demo(tmp_path / "demo", "--deadline", "10", "--data", str(_pair(tmp_path, 20_000)), "--seed", "7")
    assert line["status"] == "failed"
    assert line["reason"] == "deadline_exceeded"
    assert line["model_sha256"] is None


@pytest.fixture
def interrupts() -> Iterator[None]:
    """What a script starts in the background ignores interrupts, and so would the programs that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_interrupting_the_demo_ends_everything(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = subprocess.Popen(
        _command(folder, "--seed", "7"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stderr:
        if "align" in line:
            break
    assert _left_running(folder)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert json.loads(output.splitlines()[-1])["status"] == "interrupted"
    assert _left_running(folder) == []


def _pair(folder: Path, rows: int) -> Path:
    """Two tables so large that no ten seconds suffice."""
    for side, header in (("guest", "id,y,a,b"), ("host", "id,c,d,e,f,g")):
        columns = header.count(",")
        lines = [
            ",".join([f"p{row}", *(str((row * (column + 3)) % 97 % 2 if column == 0 and side == "guest" else
                                       (row * (column + 7)) % 1009) for column in range(columns))])
            for row in range(rows)
        ]  # fmt: skip
        (folder / f"big_{side}.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder / "big"
