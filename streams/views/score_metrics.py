"""The windows as JSON, and in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streams.views.score_sketch import RELATIVE_ERROR, quantile
from streams.views.score_window import HOPS, ScoreWindows, Version, WindowSummary

#: Percentiles that are shown, by their names in JSON.
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def to_mapping(windows: ScoreWindows, now_us: int) -> dict[str, Any]:
    """Everything, for JSON. Latencies are in milliseconds."""
    return {
        "party": windows.party,
        "at_ms": now_us // 1000,
        "results": windows.results,
        "latency_relative_error": RELATIVE_ERROR,
        "models": [
            {
                "model": version[0],
                "version": version[1],
                "windows": {one.window: _window(one) for one in windows.summarise(version, now_us)},
                "since_start": _mix(windows.totals(version).items()),
            }
            for version in windows.versions()
        ],
    }


def _window(summary: WindowSummary) -> dict[str, Any]:
    tally = summary.tally
    return {
        "covered_seconds": round(summary.covered_seconds, 3),
        "results": tally.results,
        "per_second": round(summary.per_second, 3),
        "outcomes": _mix(tally.mix.items()),
        "latency_ms": {
            hop: {
                "count": buckets.total(),
                **{name: _milliseconds(quantile(buckets, share)) for name, share in SHARES.items()},
            }
            for hop, buckets in zip(HOPS, tally.hops, strict=True)
        },
        "hosts": {
            host: {"asked": misses.asked, "missed": misses.missed, "miss_rate": round(misses.rate, 6)}
            for host, misses in summary.hosts.items()
        },
        "drift": {
            "stability_index": None if summary.drift.index is None else round(summary.drift.index, 6),
            "standing": summary.drift.standing,
            "rows": summary.drift.rows,
        },
    }


def _mix(counts: Iterable[tuple[tuple[str, str, str], int]]) -> list[dict[str, Any]]:
    return [
        {"outcome": outcome, "reason": reason, "party": party, "count": count}
        for (outcome, reason, party), count in sorted(counts)
    ]


def _milliseconds(micros: float | None) -> float | None:
    return None if micros is None else round(micros / 1000, 3)


def to_prometheus(windows: ScoreWindows, now_us: int) -> bytes:
    """Everything, in Prometheus' text format 0.0.4. Latencies are in seconds, as it wants them."""
    rate = _Family("per_second", "gauge", "Outcomes a second in the window.")
    latency = _Family("latency_seconds", "gauge", "Percentiles of a hop's latency in the window.")
    misses = _Family("host_miss_ratio", "gauge", "Share of the outcomes that lack this host's part.")
    index = _Family("stability_index", "gauge", "Population stability index of points against the hold-out.")
    rows = _Family("stability_rows", "gauge", "Full scores that the stability index is of.")
    for version in windows.versions():
        for summary in windows.summarise(version, now_us):
            labels = {**_labels(windows, version), "window": summary.window}
            rate.add(labels, summary.per_second)
            rows.add(labels, summary.drift.rows)
            if summary.drift.index is not None:
                index.add(labels, summary.drift.index)
            for host, missed in summary.hosts.items():
                misses.add({**labels, "host": host}, missed.rate)
            for hop, buckets in zip(HOPS, summary.tally.hops, strict=True):
                for share in SHARES.values():
                    if (micros := quantile(buckets, share)) is not None:
                        latency.add({**labels, "hop": hop, "quantile": str(share)}, micros / 1e6)
    families = (_outcomes(windows), rate, latency, misses, index, rows)
    return "".join(family.text() for family in families).encode()


def _outcomes(windows: ScoreWindows) -> _Family:
    family = _Family("outcomes_total", "counter", "Outcomes since the view began, the 15 minutes before it included.")
    for version in windows.versions():
        for (outcome, reason, blamed), count in sorted(windows.totals(version).items()):
            labels = {**_labels(windows, version), "outcome": outcome, "reason": reason, "blamed": blamed}
            family.add(labels, count)
    return family


def _labels(windows: ScoreWindows, version: Version) -> dict[str, str]:
    return {"party": windows.party, "model": version[0], "version": version[1]}


class _Family:
    """All samples of one metric."""

    def __init__(self, name: str, kind: str, explanation: str) -> None:
        self._name = f"isthmus_score_{name}"
        self._lines = [f"# HELP {self._name} {explanation}", f"# TYPE {self._name} {kind}"]

    def add(self, labels: Mapping[str, str], value: float) -> None:
        """One sample."""
        told = ",".join(f'{name}="{_escape(text)}"' for name, text in labels.items())
        self._lines.append(f"{self._name}{{{told}}} {float(value)!r}")

    def text(self) -> str:
        """The samples under their heading."""
        return "\n".join(self._lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
