"""Online scoring in sliding windows: a fold over results and serving records, without I/O and without a clock.

A window is made of panes: a result is counted in the pane of its second and in that of its quarter minute, and reading
a window adds up the panes that it covers, the one of now included. So the window of 10 s covers 9 to 10 s, that of a
minute 59 to 60 s, that of 15 minutes 14:45 to 15 minutes; rates divide by what is covered.

Results come at least once: each partition has a mark, and what lies before it changes nothing. Bounded whatever comes:
`MOST_SERIES` versions, for each at most `PANES` panes of either length, for each a bounded number of counters.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from schemas.scoring import Outcome, Purpose, ScoreJoined
from schemas.serving import ServingVersion
from streams.views.score_drift import Drift, Reference, measure_drift
from streams.views.score_sketch import bucket_of

#: (outcome, reason, party)
Mix = tuple[str, str, str]
#: Of one pane's counters: points that are more different than that count as one more value, `OTHER_POINTS`.
MOST_POINTS, MOST_MIX = 2_048, 256
OTHER_POINTS = 2**31
OTHER_MIX: Mix = ("other", "other", "")
MOST_SERIES = 64
PANES = 60
SECOND_US = 1_000_000
#: How long a pane is, by its name.
FINE_US, COARSE_US = SECOND_US, 15 * SECOND_US
#: Length of a window by its name.
WINDOWS_US = {"10s": 10 * SECOND_US, "1m": 60 * SECOND_US, "15m": 900 * SECOND_US}
LONGEST_US = max(WINDOWS_US.values())
#: From where to where, in the order of the path.
HOPS = ("requested_routed", "routed_answered", "answered_joined", "total")
#: Stands for the version where none was found; models are then what applications wrote, and not told apart.
NO_VERSION = ("", "")

Version = tuple[str, str]


@dataclass
class Tally:
    """What was counted in a pane, or in several together."""

    results: int = 0
    mix: Counter[Mix] = field(default_factory=Counter)
    #: Buckets of `score_sketch`, one counter a hop.
    hops: tuple[Counter[int], ...] = field(default_factory=lambda: tuple(Counter() for _ in HOPS))
    #: Of full scores: degraded ones are another model's.
    points: Counter[int] = field(default_factory=Counter)

    def count(self, mix: Mix, hops: tuple[int | None, ...], points: int | None) -> None:
        """One result more."""
        self.results += 1
        self.mix[mix if mix in self.mix or len(self.mix) < MOST_MIX else OTHER_MIX] += 1
        for buckets, bucket in zip(self.hops, hops, strict=True):
            if bucket is not None:
                buckets[bucket] += 1
        if points is not None:
            self.points[points if points in self.points or len(self.points) < MOST_POINTS else OTHER_POINTS] += 1

    def add(self, other: Tally) -> None:
        """Everything of another pane."""
        self.results += other.results
        self.mix.update(other.mix)
        self.points.update(other.points)
        for mine, its in zip(self.hops, other.hops, strict=True):
            mine.update(its)


@dataclass
class HostMisses:
    """How often a host's part is missing, of the results for which it, or all hosts, were asked."""

    asked: int
    missed: int

    @property
    def rate(self) -> float:
        """0 to 1."""
        return self.missed / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class WindowSummary:
    """One window of one version."""

    window: str
    covered_seconds: float
    tally: Tally
    hosts: dict[str, HostMisses]
    drift: Drift

    @property
    def per_second(self) -> float:
        """Results a second."""
        return self.tally.results / self.covered_seconds


@dataclass
class Series:
    """One version's panes by number, and its counts since the beginning."""

    fine: dict[int, Tally] = field(default_factory=dict)
    coarse: dict[int, Tally] = field(default_factory=dict)
    total: Counter[Mix] = field(default_factory=Counter)


class ScoreWindows:
    """All windows of a party. Not thread-safe."""

    def __init__(self, party: str) -> None:
        self.party = party
        self._series: dict[Version, Series] = {}
        self._references: dict[Version, Reference] = {}
        self._marks: dict[int, int] = {}
        #: Results that were folded, for which purpose ever.
        self.results = 0

    def mark(self, partition: int) -> int | None:
        """The offset of the last result that was folded from the partition."""
        return self._marks.get(partition)

    def fold_result(self, result: ScoreJoined, partition: int, offset: int, now_us: int) -> bool:
        """Count a result that lies at this place; whether it was new. Of parity checks only the place is noted."""
        if offset <= self._marks.get(partition, -1):
            return False
        self._marks[partition] = offset
        self.results += 1
        if result.purpose is not Purpose.LIVE:
            return True
        series = self._series_of((result.model, result.version) if result.version else NO_VERSION)
        mix: Mix = (str(result.outcome), str(result.reason), result.party)
        series.total[mix if mix in series.total or len(series.total) < MOST_MIX else OTHER_MIX] += 1
        # A clock that is ahead must not make a window end in the future.
        at_us = min(result.joined_at_us, now_us)
        if at_us > now_us - LONGEST_US:
            hops, points = _hops(result), result.points if result.outcome is Outcome.SCORED else None
            for panes, length in ((series.fine, FINE_US), (series.coarse, COARSE_US)):
                _pane(panes, at_us // length, now_us // length).count(mix, hops, points)
        return True

    def fold_version(self, record: ServingVersion) -> None:
        """Take in what the hold-out's scores look like. The newest record of a version counts."""
        key = (record.model, record.version)
        # Checked last, forgotten last.
        self._references.pop(key, None)
        self._references[key] = Reference(record.reference_edges, record.reference_shares, record.rows)
        while len(self._references) > MOST_SERIES:
            self._references.pop(next(iter(self._references)))

    def versions(self) -> list[Version]:
        """Models and versions that were heard of, in the order of names."""
        return sorted(self._series)

    def totals(self, version: Version) -> Counter[Mix]:
        """Counts since the beginning."""
        return self._series[version].total

    def summarise(self, version: Version, now_us: int) -> list[WindowSummary]:
        """The windows of a version as of now."""
        return [self._window(version, name, now_us) for name in WINDOWS_US]

    def _window(self, version: Version, name: str, now_us: int) -> WindowSummary:
        series, length = self._series[version], WINDOWS_US[name]
        panes, pane_us = (series.coarse, COARSE_US) if length > PANES * FINE_US else (series.fine, FINE_US)
        newest = now_us // pane_us
        oldest = newest - length // pane_us + 1
        tally = Tally()
        for number, pane in panes.items():
            if oldest <= number <= newest:
                tally.add(pane)
        covered = max(now_us - oldest * pane_us, 1) / SECOND_US
        drift = measure_drift(tally.points, self._references.get(version))
        return WindowSummary(name, covered, tally, _misses(tally.mix, self.party), drift)

    def _series_of(self, version: Version) -> Series:
        # The one that was not heard of for longest goes first.
        series = self._series.pop(version, None) or Series()
        self._series[version] = series
        while len(self._series) > MOST_SERIES:
            self._series.pop(next(iter(self._series)))
        return series


def _pane(panes: dict[int, Tally], number: int, newest: int) -> Tally:
    pane = panes.get(number)
    if pane is None:
        for old in [other for other in panes if other <= newest - PANES]:
            del panes[old]
        # What is too old for this length is counted nowhere.
        pane = Tally()
        if number > newest - PANES:
            panes[number] = pane
    return pane


def _hops(result: ScoreJoined) -> tuple[int | None, ...]:
    """Buckets of the hops that there were: a request that was refused may not have been answered, or routed."""
    requested_us, routed_us, answered_us = result.requested_at_ms * 1000, result.routed_at_us, result.answered_at_us
    return (
        bucket_of(routed_us - requested_us) if routed_us else None,
        bucket_of(answered_us - routed_us) if answered_us and routed_us else None,
        bucket_of(result.joined_at_us - answered_us) if answered_us else None,
        bucket_of(result.joined_at_us - requested_us),
    )


def _misses(mix: Counter[Mix], party: str) -> dict[str, HostMisses]:
    """By host: of the results that were not ended by the guest itself, those for which the host is to blame."""
    hosts = sorted({blamed for _, _, blamed in mix if blamed not in ("", party)})
    asked = sum(count for (_, _, blamed), count in mix.items() if blamed != party)
    return {host: HostMisses(asked, sum(count for (_, _, who), count in mix.items() if who == host)) for host in hosts}
