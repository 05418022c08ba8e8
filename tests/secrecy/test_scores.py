"""What a guest makes of a host's part of a score: the finer it is, the better it tells whose row it was made of."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.scoring import Purpose, ScoreAsk, ScoreReason
from streams.features import PersonFeatures
from streams.kernels.scorecard import POINT_QUANTUM, share_logit
from streams.kernels.scoring import quantise_logits, score_half
from streams.machines.score.halves import to_kernel
from streams.machines.score.host import Asked, admit, answer
from streams.machines.score.models import make_host_model
from tests.machines.route_cases import NAME, NOW_MS, NOW_US, Version, make_rows

VERSION = Version("job-1", columns=6)
#: Weights as a trained model has them: few rows reach the box.
HALF = replace(VERSION.host_half, weights=tuple(weight // 8 for weight in VERSION.host_half.weights))
MODEL = make_host_model(VERSION.registered, HALF)
IDS = tuple(f"person-{n}" for n in range(3_000))
ROWS, TABLE = make_rows(HALF, IDS)
#: 2^-20, what the host computes.
EXACT = score_half(TABLE, to_kernel(HALF))


def ask_for(person: str, **changes: Any) -> Asked:
    ask = ScoreAsk(
        request_id=f"r-{person}",
        token=person.encode()[:16].ljust(16, b"."),
        model=NAME,
        version="job-1",
        purpose=Purpose.LIVE,
        asked_at_us=NOW_US,
        wait_until_ms=NOW_MS + 500,
    )
    return Asked(replace(ask, **changes), 0)


def told(*asked: Asked, quantum: int = POINT_QUANTUM) -> list[tuple[ScoreReason, int, int]]:
    """What a host with this setting answers: (reason, value, quantum)."""
    groups, answers = admit(asked, 10_000, NOW_US, lambda name, version: MODEL)
    for group in groups:
        persons = [token.rstrip(b".").decode() for token in group.tokens]
        rows: dict[str, PersonFeatures | None] = {person: ROWS.get(person) for person in persons}
        answers += answer(group, persons, rows, quantum, NOW_US)
    return [(each.answer.reason, each.answer.value, each.answer.quantum) for each in answers]


def candidates(values: NDArray[np.int64]) -> float:
    """The attack: whoever has the weights (a former employee) and a list of rows (a data broker) looks a score up.
    Gives the median number of rows that it fits.
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return float(np.median(counts[place]))


def test_an_exact_part_of_a_score_names_its_row_and_points_do_not() -> None:
    """Source: the design on what to return (any exact part can be solved for, so its precision is what can be
    limited; points cost an AUC of 5e-5 at most); Luo et al. 2021 (ICDE) on features from scores.
    """
    assert candidates(EXACT) == 1
    points = np.array([value for _, value, _ in told(*map(ask_for, IDS))])
    assert (np.abs(EXACT) < 4 << 20).mean() > 0.9, "clipped rows would be alike in any precision"
    assert len(points) == len(IDS) and candidates(points) > 10


def test_asking_again_makes_no_answer_finer() -> None:
    """Where noise hides, repetition averages it out; rounding is the same each time, under any id and purpose."""
    expected = share_logit(int(quantise_logits(EXACT)[7]), POINT_QUANTUM)
    asked = [ask_for(IDS[7], request_id=f"r-{n}", purpose=purpose) for n in range(50) for purpose in Purpose]
    assert set(told(*asked)) == {(ScoreReason.NONE, expected, POINT_QUANTUM)}


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(list(Purpose)),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(NOW_MS, 2**63 - 1),
    st.text(max_size=20),
    st.integers(0, len(IDS) - 1),
)
def test_nothing_in_a_question_changes_the_precision(
    purpose: Purpose, asked_at_us: int, wait_until_ms: int, request_id: str, person: int
) -> None:
    """The host's setting decides. This is every field of a question but model, version and token."""
    assert {field.name for field in fields(ScoreAsk)} == {
        "request_id",
        "token",
        "model",
        "version",
        "purpose",
        "asked_at_us",
        "wait_until_ms",
    }
    changes: dict[str, Any] = {
        "purpose": purpose,
        "asked_at_us": asked_at_us,
        "wait_until_ms": wait_until_ms,
        "request_id": request_id,
    }
    ((reason, value, quantum),) = told(ask_for(IDS[person], **changes))
    assert (reason, quantum) == (ScoreReason.NONE, POINT_QUANTUM)
    assert value == share_logit(int(quantise_logits(EXACT)[person]), POINT_QUANTUM)
