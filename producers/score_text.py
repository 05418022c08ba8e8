"""Outcomes of scoring for people: table rows, lines, the board of a load."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from producers.score_load import LoadReport
from schemas.scoring import Outcome, ScoreJoined, ScoreReason

_STYLES = {Outcome.SCORED: "green", Outcome.DEGRADED: "yellow", Outcome.REFUSED: "red", Outcome.EXPIRED: "magenta"}


def mapping_of_result(result: ScoreJoined) -> dict[str, Any]:
    """For `--json`: the fields of the record, and the milliseconds from request to outcome."""
    return {**asdict(result), "total_ms": round(total_ms(result), 3)}


def total_ms(result: ScoreJoined) -> float:
    """From the request (by the application's clock) to the outcome (by the joiner's)."""
    return result.joined_at_us / 1000 - result.requested_at_ms


def why(result: ScoreJoined) -> str:
    """Reason, party and detail; empty for a full score."""
    if result.reason is ScoreReason.NONE:
        return ""
    blamed = f" at {result.party}" if result.party else ""
    return f"{result.reason}{blamed}" + (f": {result.detail}" if result.detail else "")


def name_version(result: ScoreJoined) -> str:
    """`NAME/VERSION`, or what was asked for where no version was found."""
    return f"{result.model}/{result.version}" if result.version else result.model


def result_line(result: ScoreJoined) -> str:
    """One line, for pipes and files."""
    at = datetime.fromtimestamp(result.joined_at_us / 1e6, UTC).strftime("%H:%M:%S.%f")[:-3]
    points = "-" if result.points is None else str(result.points)
    words = [at, result.request_id, name_version(result), str(result.outcome), points, result.decision or "-"]
    return "  ".join([*words, f"{total_ms(result):.1f} ms", why(result)]).rstrip()


def results_table(rows: Iterable[tuple[str, ScoreJoined | Exception]]) -> Table:
    """(whom it is about, result or error) as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "outcome", "points", "probability", "band", "decision", "version", "ms", "why"):
        table.add_column(heading, justify="right" if heading in ("points", "probability", "ms") else "left")
    for name, result in rows:
        if isinstance(result, Exception):
            table.add_row(name, Text("no result", "red"), "", "", "", "", "", "", Text(str(result)))
            continue
        points = "" if result.points is None else str(result.points)
        probability = "" if result.probability is None else f"{result.probability:.4f}"
        outcome = Text(str(result.outcome), _STYLES.get(result.outcome, ""))
        cells = (points, probability, result.band, result.decision, name_version(result), f"{total_ms(result):.1f}")
        table.add_row(name, outcome, *cells, Text(why(result)))
    return table


def describe_mix(outcomes: Counter[tuple[str, str, str]]) -> str:
    """`498 scored, 2 degraded (late at bureau)`."""
    parts = []
    for (outcome, reason, party), count in outcomes.most_common():
        because = "" if reason == ScoreReason.NONE else f" ({reason}{f' at {party}' if party else ''})"
        parts.append(f"{count} {outcome}{because}")
    return ", ".join(parts) or "none yet"


def load_lines(report: LoadReport) -> list[str]:
    """How a load goes, or went."""
    figures = report.percentiles()
    per_second = report.ended / report.seconds if report.seconds else 0.0
    lines = [
        f"sent      {report.sent} of {report.total} at {report.rate:g} a second",
        f"outcomes  {report.ended} ({per_second:.0f} a second), in flight {report.sent - report.ended - report.lost}, "
        f"lost {report.lost}",
        f"          {describe_mix(report.outcomes)}",
        "latency   "
        + ", ".join(
            f"{name.removesuffix('_ms')} {'-' if math.isnan(value) else f'{value:.1f} ms'}"
            for name, value in figures.items()
        )
        + ", each from when it was due",
    ]
    return [*lines, f"problem   {report.problem}"] if report.problem else lines
