"""What the scoring view serves: JSON, Prometheus' text format, and the server itself."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from schemas.scoring import Outcome, ScoreReason
from streams.views.score_http import ScoreServer, SharedWindows
from streams.views.score_metrics import to_mapping, to_prometheus
from streams.views.score_window import ScoreWindows
from tests.views.prometheus_text import read_back
from tests.views.score_cases import BEGAN_US, PARTY, checked, joined

ODD_NAME = 'ri"sk\\one\nline'


@pytest.fixture
def windows() -> ScoreWindows:
    """Eight full scores and two that lack the bureau's part, of one version; one of an odd name."""
    made = ScoreWindows(PARTY)
    made.fold_version(checked())
    results = [joined(points=points) for points in (550, 590, 630, 700) * 2]
    late = joined(outcome=Outcome.DEGRADED, reason=ScoreReason.LATE, party="bureau")
    for offset, result in enumerate([*results, late, late, joined(model=ODD_NAME)]):
        made.fold_result(result, 0, offset, BEGAN_US)
    return made


def test_json_tells_every_window(windows: ScoreWindows) -> None:
    told = json.loads(json.dumps(to_mapping(windows, BEGAN_US + 500_000), allow_nan=False))
    assert (told["party"], told["results"]) == (PARTY, 11)
    (risk,) = [one for one in told["models"] if one["model"] == "risk"]
    assert set(risk["windows"]) == {"10s", "1m", "15m"}
    minute = risk["windows"]["1m"]
    assert minute["outcomes"] == [
        {"outcome": "degraded", "reason": "late", "party": "bureau", "count": 2},
        {"outcome": "scored", "reason": "none", "party": "", "count": 8},
    ]
    assert minute["hosts"] == {"bureau": {"asked": 10, "missed": 2, "miss_rate": 0.2}}
    assert minute["latency_ms"]["answered_joined"]["p99"] == pytest.approx(3, rel=0.01)
    assert minute["latency_ms"]["total"]["count"] == 10
    assert minute["drift"] == {"stability_index": 0.0, "standing": "too_few_rows", "rows": 8}
    assert minute["per_second"] == pytest.approx(10 / minute["covered_seconds"], abs=0.001)
    assert risk["since_start"] == minute["outcomes"]


def test_prometheus_reads_what_json_tells(windows: ScoreWindows) -> None:
    now_us = BEGAN_US + 500_000
    samples = read_back(to_prometheus(windows, now_us))
    labels = {"party": PARTY, "model": "risk", "version": "1"}
    counts = samples["isthmus_score_outcomes_total"]
    late = {**labels, "outcome": "degraded", "reason": "late", "blamed": "bureau"}
    assert counts[frozenset(late.items())] == 2
    assert sum(counts.values()) == 11
    for model in to_mapping(windows, now_us)["models"]:
        for name, told in model["windows"].items():
            here = {"party": PARTY, "model": model["model"], "version": model["version"], "window": name}
            assert samples["isthmus_score_per_second"][frozenset(here.items())] == pytest.approx(
                told["per_second"], abs=0.001
            )
            for hop, latency in told["latency_ms"].items():
                p99 = frozenset({**here, "hop": hop, "quantile": "0.99"}.items())
                assert samples["isthmus_score_latency_seconds"][p99] == pytest.approx(latency["p99"] / 1000, abs=1e-6)
    miss = frozenset({**labels, "window": "10s", "host": "bureau"}.items())
    assert samples["isthmus_score_host_miss_ratio"] == pytest.approx(
        dict.fromkeys(samples["isthmus_score_host_miss_ratio"], 0.2)
    )
    assert miss in samples["isthmus_score_host_miss_ratio"]
    assert samples["isthmus_score_stability_index"][frozenset({**labels, "window": "15m"}.items())] == 0.0


def test_names_that_need_escaping_come_back_as_they_were(windows: ScoreWindows) -> None:
    samples = read_back(to_prometheus(windows, BEGAN_US))
    assert ODD_NAME in {dict(labels)["model"] for labels in samples["isthmus_score_per_second"]}


def test_nothing_yet_is_served_as_well() -> None:
    empty = ScoreWindows(PARTY)
    assert to_mapping(empty, BEGAN_US)["models"] == []
    assert set(map(len, read_back(to_prometheus(empty, BEGAN_US)).values())) == {0}


@pytest.fixture
def server() -> Iterator[ScoreServer]:
    shared = SharedWindows(PARTY)
    now_us = time.time_ns() // 1000
    shared.windows.fold_result(joined(now_us), 0, 0, now_us)
    served = ScoreServer(shared)
    yield served
    served.close()


def test_the_server_answers_on_localhost_only_and_names_its_pages(server: ScoreServer) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    assert host == "127.0.0.1"
    with urllib.request.urlopen(f"{server.url}/score.json?x=1") as page:
        assert page.headers["Content-Type"] == "application/json"
        assert json.load(page)["results"] == 1
    with urllib.request.urlopen(f"{server.url}/metrics") as page:
        assert page.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "isthmus_score_outcomes_total" in read_back(page.read())
    with pytest.raises(urllib.error.HTTPError, match=r"look at /score\.json or /metrics") as caught:
        urllib.request.urlopen(f"{server.url}/")
    caught.value.close()
    with pytest.raises(OSError, match="in use"), socket.socket() as other:
        other.bind((host, int(port)))
