"""Is what is served what was trained? The hold-out's scores, offline from the evaluation and online from the audit.

The evaluation knows each row's parts of the logit exactly: the guest's with 20 fractional bits, the hosts' with 10. An
online answer must be that part in units of its quantum, and the joined logit the sum of what was answered: integers all
of them, so equal means equal to the last bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.evaluation import ScoredRow
from schemas.jobs import ServeSpec
from schemas.scoring import Outcome, ScoreAudited
from streams.kernels.scorecard import LEAST_QUANTUM, MOST_QUANTUM, count_points, restore_share, share_logit

#: Bins of the points, by which a later drift is told (population stability index: ten are the custom).
REFERENCE_BINS = 10
#: Differences that are described one by one; more are counted.
DESCRIBED = 3


@dataclass(frozen=True)
class Verdict:
    """What came of a check. `points` are those of all rows, offline."""

    rows: int
    differences: int
    detail: str
    points: tuple[int, ...]

    @property
    def passed(self) -> bool:
        """Whether the version may be served."""
        return self.differences == 0


def compare_scores(
    rows: Sequence[ScoredRow], hosts: Sequence[str], serve: ServeSpec, audited: Mapping[int, ScoreAudited]
) -> Verdict:
    """`audited` has the online score of each row by its place in `rows`; a missing one is a difference."""
    problems: list[str] = []
    points: list[int] = []
    quanta = quanta_of(hosts, audited)
    for place, row in enumerate(rows):
        logit = row.guest_logit
        for host, shared in zip(hosts, row.host_logits, strict=True):
            quantum = quanta.get(host, LEAST_QUANTUM)
            logit += restore_share(share_logit(shared, quantum), quantum)
        expected = count_points(logit, serve.base_points, serve.points_to_double_odds)
        points.append(expected)
        online = audited.get(place)
        problem = "no online score" if online is None else _find_difference(row, hosts, online, logit, expected)
        if problem:
            problems.append(f"row {place}: {problem}")
    described = "; ".join(problems[:DESCRIBED])
    if len(problems) > DESCRIBED:
        described += f"; and {len(problems) - DESCRIBED} more"
    return Verdict(len(rows), len(problems), described, tuple(points))


def quanta_of(hosts: Sequence[str], audited: Mapping[int, ScoreAudited]) -> dict[str, int]:
    """The quantum of each host's answers, from the first usable one."""
    quanta: dict[str, int] = {}
    for online in audited.values():
        for answer in online.answers:
            if LEAST_QUANTUM <= answer.quantum <= MOST_QUANTUM:
                quanta.setdefault(answer.host, answer.quantum)
        if len(quanta) == len(hosts):
            break
    return quanta


def _find_difference(row: ScoredRow, hosts: Sequence[str], online: ScoreAudited, logit: int, points: int) -> str:
    if online.outcome is not Outcome.SCORED:
        return f"{online.outcome} ({online.reason} at {online.party}) instead of a score"
    if online.guest_logit != row.guest_logit:
        return "the guest's part differs"
    answers = {answer.host: answer for answer in online.answers}
    for host, shared in zip(hosts, row.host_logits, strict=True):
        answer = answers.get(host)
        if answer is None:
            return f"the part of {host} is missing"
        if not LEAST_QUANTUM <= answer.quantum <= MOST_QUANTUM:
            return f"{host} answers in units of {answer.quantum}"
        if answer.value != share_logit(shared, answer.quantum):
            return f"the part of {host} differs"
    if online.logit != logit or online.points != points:
        return "the parts agree, their sum or its points do not"
    return ""


def reference_of(points: Sequence[int]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Inclusive upper edges of at most ten bins of about equally many rows, the last one open, and the rows' shares."""
    ordered = sorted(points)
    cuts = [ordered[len(ordered) * part // REFERENCE_BINS] for part in range(1, REFERENCE_BINS)] if ordered else []
    edges = tuple(sorted(set(cuts)))
    counts = [0] * (len(edges) + 1)
    for value in ordered:
        counts[bisect_left(edges, value)] += 1
    return edges, tuple(count / max(1, len(ordered)) for count in counts)
