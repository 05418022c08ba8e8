"""Results and serving records for tests of the scoring view."""

from __future__ import annotations

from schemas.scoring import Outcome, Purpose, ScoreJoined, ScoreReason
from schemas.serving import ServingVersion

PARTY = "bank"
#: Some time in 2025, at the beginning of a quarter minute.
BEGAN_US = 1_750_000_005_000_000


def joined(
    at_us: int = BEGAN_US,
    *,
    model: str = "risk",
    version: str = "1",
    outcome: Outcome = Outcome.SCORED,
    reason: ScoreReason = ScoreReason.NONE,
    party: str = "",
    points: int | None = 600,
    purpose: Purpose = Purpose.LIVE,
    request_id: str = "r",
    hops_us: tuple[int, int, int] = (1_000, 2_000, 3_000),
) -> ScoreJoined:
    """A result that was joined at this time; `hops_us` lead to it, to the millisecond of the request."""
    answered_us = at_us - hops_us[2]
    routed_us = answered_us - hops_us[1]
    return ScoreJoined(
        request_id=request_id,
        model=model,
        version=version,
        alias="live",
        outcome=outcome,
        reason=reason,
        party=party,
        detail="",
        points=points,
        probability=None if points is None else 0.5,
        band="",
        decision="",
        purpose=purpose,
        requested_at_ms=(routed_us - hops_us[0]) // 1000,
        routed_at_us=routed_us,
        answered_at_us=answered_us,
        joined_at_us=at_us,
    )


def checked(
    edges: tuple[int, ...] = (560, 600, 640),
    shares: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25),
    *,
    version: str = "1",
    rows: int = 1_000,
) -> ServingVersion:
    return ServingVersion("risk", version, b"", True, rows, 0, "", (), 0, edges, shares, 0)
