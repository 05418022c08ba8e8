"""Failpoints happen once, at the time that is asked for, and never by accident."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from streams.engine import failpoints
from streams.engine.failpoints import Failpoint, FailpointError


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sent: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append(number))
    return sent


def test_it_happens_at_the_given_time_and_once(tmp_path: Path, kills: list[int]) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    point = Failpoint(f"{failpoints.AFTER_COMMIT}:3", str(marker))
    for _ in range(2):
        point.reach(failpoints.AFTER_COMMIT)
        point.reach(failpoints.AFTER_BEGIN)
    assert kills == [] and marker.exists()
    point.reach(failpoints.AFTER_COMMIT)
    assert kills == [signal.SIGKILL] and not marker.exists()
    for _ in range(5):
        point.reach(failpoints.AFTER_COMMIT)
    assert kills == [signal.SIGKILL]


def test_it_can_pause_instead(tmp_path: Path, kills: list[int]) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    Failpoint(failpoints.AFTER_BEGIN, str(marker), "SIGSTOP").reach(failpoints.AFTER_BEGIN)
    assert kills == [signal.SIGSTOP]


def test_without_the_marker_nothing_happens(tmp_path: Path, kills: list[int]) -> None:
    Failpoint(failpoints.AFTER_BEGIN, str(tmp_path / "no")).reach(failpoints.AFTER_BEGIN)
    assert kills == []


@pytest.mark.parametrize(
    ("setting", "marker", "signal_name", "text"),
    [
        ("after_lunch", "m", "SIGKILL", "no such failpoint, there are after_init"),
        ("after_begin:soon", "m", "SIGKILL", "after the colon comes a number"),
        ("after_begin", "", "SIGKILL", "ISTHMUS_FAILPOINT needs ISTHMUS_FAILPOINT_MARKER"),
        ("after_begin", "m", "SIGNONE", "no such signal"),
    ],
)
def test_a_setting_with_a_mistake_is_refused(setting: str, marker: str, signal_name: str, text: str) -> None:
    with pytest.raises(FailpointError, match=text):
        Failpoint(setting, marker, signal_name)


def test_nothing_is_armed_unless_the_environment_says_so(kills: list[int]) -> None:
    for name in failpoints.ALL:
        failpoints.reach(name)
    assert kills == []
