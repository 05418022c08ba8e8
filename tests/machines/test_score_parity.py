"""Online equals offline, to the last bit, or the version is not served."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.evaluation import ScoredRow
from schemas.jobs import ServeSpec
from schemas.scoring import AuditedAnswer, Outcome, Purpose, ScoreAudited, ScoreReason
from streams.kernels.scorecard import POINT_QUANTUM, bits_quantum, count_points, restore_share, share_logit
from streams.machines.score.parity import compare_scores, reference_of

SERVE = ServeSpec()
HOSTS = ("shop",)
ROWS = tuple(ScoredRow(f"id-{n}", n % 2, 0.5, 0.5, n * 40_000 - 900_000, (n * 37 - 800,)) for n in range(60))


def _online(place: int, quantum: int = POINT_QUANTUM) -> ScoreAudited:
    row = ROWS[place]
    value = share_logit(row.host_logits[0], quantum)
    logit = row.guest_logit + restore_share(value, quantum)
    return ScoreAudited(
        request_id=f"r{place}",
        pseudonym=b"",
        model="m",
        version="v",
        alias="",
        purpose=Purpose.PARITY,
        outcome=Outcome.SCORED,
        reason=ScoreReason.NONE,
        party="",
        detail="",
        guest_logit=row.guest_logit,
        alone_logit=None,
        answers=(AuditedAnswer("shop", ScoreReason.NONE, value, quantum, 1, 2),),
        logit=logit,
        points=count_points(logit, SERVE.base_points, SERVE.points_to_double_odds),
        band="",
        decision="",
        requested_at_ms=0,
        deadline_ms=0,
        routed_at_us=0,
        joined_at_us=0,
    )


@pytest.mark.parametrize("quantum", [POINT_QUANTUM, bits_quantum(3), bits_quantum(10)])
def test_equal_scores_pass_at_every_precision(quantum: int) -> None:
    verdict = compare_scores(ROWS, HOSTS, SERVE, {n: _online(n, quantum) for n in range(len(ROWS))})
    assert verdict.passed
    assert verdict.rows == len(verdict.points) == len(ROWS)


@given(
    st.integers(0, len(ROWS) - 1), st.sampled_from(["guest", "host", "sum", "points", "quantum", "refused", "missing"])
)
def test_one_bit_in_one_row_is_found(place: int, what: str) -> None:
    audited = {n: _online(n) for n in range(len(ROWS))}
    online = audited[place]
    answer = online.answers[0]
    assert online.guest_logit is not None
    assert online.logit is not None
    assert online.points is not None
    match what:
        case "guest":
            audited[place] = replace(online, guest_logit=online.guest_logit + 1)
        case "host":
            audited[place] = replace(online, answers=(replace(answer, value=answer.value + 1),))
        case "sum":
            audited[place] = replace(online, logit=online.logit - 1)
        case "points":
            audited[place] = replace(online, points=online.points + 1)
        case "quantum":
            audited[place] = replace(online, answers=(replace(answer, quantum=0),))
        case "refused":
            audited[place] = replace(online, outcome=Outcome.REFUSED, reason=ScoreReason.MISSING_FEATURE)
        case "missing":
            del audited[place]
    verdict = compare_scores(ROWS, HOSTS, SERVE, audited)
    assert not verdict.passed
    assert verdict.differences == 1
    assert verdict.detail.startswith(f"row {place}: ")


def test_many_differences_are_counted_and_few_described() -> None:
    verdict = compare_scores(ROWS, HOSTS, SERVE, {})
    assert verdict.differences == len(ROWS)
    assert verdict.detail.endswith(f"and {len(ROWS) - 3} more")


@given(st.lists(st.integers(300, 900), max_size=200))
def test_reference_bins_hold_every_row_once(points: list[int]) -> None:
    edges, shares = reference_of(points)
    assert list(edges) == sorted(set(edges))
    assert len(shares) == len(edges) + 1 <= 10
    assert sum(shares) == pytest.approx(1.0 if points else 0.0)
    below = [sum(value <= edge for value in points) for edge in edges]
    for index, count in enumerate(below):
        assert sum(shares[: index + 1]) * len(points) == pytest.approx(count)
