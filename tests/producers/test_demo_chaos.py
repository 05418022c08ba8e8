"""Where the demo's kills fall."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from producers.demo_chaos import BROKER_FROM_KILLS, FIRST_SHARE, LAST_SHARE, exit_code, plan_kills

TARGETS = 11


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [1, 5, 20])
def test_kills_are_spread_over_the_whole_job(seed: int, count: int) -> None:
    plan = plan_kills(seed, count, TARGETS)
    width = (LAST_SHARE - FIRST_SHARE) / count
    assert len(plan) == count
    for place, blow in enumerate(plan):
        assert place * width <= blow.share - FIRST_SHARE <= (place + 1) * width
        assert 0 <= blow.target < TARGETS


def test_the_seed_decides() -> None:
    assert plan_kills(7, 20, TARGETS) == plan_kills(7, 20, TARGETS)
    assert plan_kills(7, 20, TARGETS) != plan_kills(8, 20, TARGETS)


@pytest.mark.parametrize("seed", range(20))
def test_the_broker_is_hit_when_there_are_enough_kills(seed: int) -> None:
    assert any(blow.broker for blow in plan_kills(seed, BROKER_FROM_KILLS, TARGETS))


def test_twenty_kills_hit_many_different_processes() -> None:
    assert len({blow.target for blow in plan_kills(1, 20, TARGETS)}) >= 6


def test_a_kill_counts_only_when_the_parent_saw_it(tmp_path: Path) -> None:
    journal = tmp_path / "log" / "supervisor.jsonl"
    journal.parent.mkdir()
    entries = [{"what": "started", "pid": 5, "exit": None}, {"what": "ended", "pid": 5, "exit": -9}]
    journal.write_text("\n".join(json.dumps(entry) for entry in entries) + '\n{"what": "en', encoding="utf-8")
    assert exit_code(tmp_path, 5) == -9
    assert exit_code(tmp_path, 6) is None
