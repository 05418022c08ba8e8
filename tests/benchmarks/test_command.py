"""What `python -m benchmarks` prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import __main__ as command
from benchmarks import _machine

RESULT = {"rows": [{"operation": "add", "bits": 2048, "ours": 1.5e-6}], "ratios": {"add": 2.0}, "text": "a\nb"}


@pytest.fixture(autouse=True)
def _benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("benchmarks.fast")

    def run() -> dict[str, object]:
        print("noise of a library")
        return dict(RESULT)

    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "benchmarks.fast", module)
    monkeypatch.setattr(command, "names", lambda: ["fast"])


def test_with_json_the_last_line_is_one_object_with_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["fast", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "noise of a library"
    assert len(lines) == 2
    result = json.loads(lines[-1])
    assert {key: result[key] for key in RESULT} == RESULT
    assert result["benchmark"] == "fast"
    assert result["machine"]["cores"] >= 1


def test_without_json_every_row_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["fast"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  operation add  bits 2,048  ours 1.5e-06" in lines or "  operation add  bits 2048  ours 1.5e-06" in lines
    assert any(line.split() == ["add", "2"] for line in lines)


def test_an_unknown_benchmark_is_named_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["slow"]) == 2
    assert "no benchmark is named 'slow'; there are: fast" in capsys.readouterr().err


def test_the_machine_is_described_by_what_decides_speed(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nmodel name\t: Fast 9\ncpu family\t: 25\nmodel\t\t: 17\nflags\t\t: fpu avx2 avx512ifma\n\n"
        "processor\t: 1\nmodel name\t: Slow 1\nflags\t\t: fpu\n"
    )
    machine = _machine.describe(info)
    assert machine["cpu"] == "Fast 9, cpu family 25, model 17"
    assert machine["flags"] == ["avx2", "avx512ifma"]
    assert _machine.describe(tmp_path / "none")["flags"] == []
