"""Puts a job's report together: from its views, the guest's evaluation report, the registry, and halves where known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from consumers.party import Party
from producers.charts import Scored
from producers.demo_reference import Reference
from producers.job_client import JobError
from producers.job_view import JobStatus, JobView
from producers.model_reader import WEIGHT_BITS
from producers.report import (
    Half,
    Report,
    Tile,
    draw_effort,
    draw_model,
    leak_lines,
    notice_of,
    party_cards,
    stage_rows,
    verdict_of,
)
from producers.spec import spec_to_yaml
from schemas.codec import DecodeError, decode
from schemas.evaluation import EvaluationReport
from schemas.jobs import Stage
from schemas.models import ModelHalf, ModelRegistered
from schemas.tasks import Measure
from streams.engine.blobs import SealedBlobs
from streams.engine.ports import StorageError


@dataclass(frozen=True)
class JobResult:
    """What is known of a job that has ended. Parties that nobody can look into are simply absent."""

    views: Mapping[str, JobView]
    guest: str
    evaluation: EvaluationReport | None = None
    model: ModelRegistered | None = None
    halves: Sequence[ModelHalf] = ()
    reference: Reference | None = None
    facts: tuple[tuple[str, str], ...] = ()
    title: str = ""
    footer: str = ""
    extra_tiles: tuple[Tile, ...] = field(default=())

    @property
    def view(self) -> JobView:
        """The guest's view, or the only one there is."""
        return self.views.get(self.guest) or next(iter(self.views.values()))

    @property
    def explanation(self) -> JobView:
        """The view that says most about a bad end: that of the party to blame, if it can be looked into."""
        return self.views.get(self.view.blame, self.view)

    @property
    def measures(self) -> dict[str, float]:
        """All measures that tasks reported, and the evaluation's."""
        # Some names mean a party's own figure, such as `columns`: the guest's come last and stay.
        views = sorted(self.views.values(), key=lambda view: view.party == self.guest)
        reported: list[Measure] = [
            measure for view in views for task in view.tasks.values() for measure in task.measures
        ]
        if self.evaluation is not None:
            reported += self.evaluation.measures
        return {measure.name: measure.value for measure in reported}


def load_evaluation(party: Party, view: JobView) -> EvaluationReport | None:
    """The guest's evaluation report, if the job got so far. Raises `JobError` when it cannot be read."""
    if view.report is None:
        return None
    try:
        report = decode(SealedBlobs(party.objects, party.keyring).load(view.report))
    except (StorageError, DecodeError) as error:
        raise JobError(f"the evaluation report of {view.job_id} cannot be read: {error}") from error
    if not isinstance(report, EvaluationReport):
        raise JobError(f"the evaluation report of {view.job_id} is a {type(report).__name__}")
    return report


def build_report(result: JobResult) -> Report:
    """The report as data, ready to be rendered."""
    view, measures = result.view, result.measures
    if view.spec is None:
        raise JobError(f"{view.job_id} was rejected before it began: there is nothing to report")
    tasks = [task for seen in result.views.values() for task in seen.tasks.values()]
    pooled = result.reference.auc_pooled if result.reference else None
    succeeded = view.status is JobStatus.SUCCEEDED
    auc, guest_only = (measures.get("auc"), measures.get("guest_auc")) if succeeded else (None, None)
    return Report(
        title=result.title or view.spec.name,
        job_id=view.job_id,
        status=str(view.status),
        verdict=verdict_of(result.explanation, auc, guest_only, pooled),
        tiles=_tiles(result, measures) if succeeded else result.extra_tiles,
        notice=notice_of(view.spec),
        parties=party_cards(view.spec),
        holdout=result.evaluation.rows_holdout if result.evaluation else 0,
        model_charts=draw_model(_scored(result), losses_of(measures)),
        leaks=leak_lines(view.spec),
        stages=stage_rows(tasks),
        effort_charts=draw_effort(tasks),
        weights=tuple(_half(half) for half in result.halves),
        facts=result.facts,
        spec=spec_to_yaml(view.spec),
        footer=result.footer,
    )


def losses_of(measures: Mapping[str, float]) -> list[float]:
    """The series `loss_pass_0`, `loss_pass_1`, ... as far as it goes, divided by the number of training rows."""
    losses: list[float] = []
    while (name := f"loss_pass_{len(losses)}") in measures:
        losses.append(measures[name] / max(1.0, measures.get("rows", 1.0)))
    return losses


def seconds_by_stage(result: JobResult) -> dict[str, float]:
    """Seconds from the first party's start of a stage to the last party's end."""
    spans = {}
    for stage in Stage:
        tasks = [task for view in result.views.values() for task in view.tasks.values() if task.stage is stage]
        if tasks:
            spans[str(stage)] = (max(task.updated_ms for task in tasks) - min(task.started_ms for task in tasks)) / 1000
    return spans


def bytes_by_stage(result: JobResult) -> dict[str, dict[str, int]]:
    """Sealed bytes that each party sent to others, by stage."""
    sent: dict[str, dict[str, int]] = {}
    for view in result.views.values():
        for task in view.tasks.values():
            sent.setdefault(str(task.stage), {})[task.party] = task.bytes_sent
    return sent


def _tiles(result: JobResult, measures: Mapping[str, float]) -> tuple[Tile, ...]:
    tiles = []
    for name, key, note in (("AUC together", "auc", "hold-out"), ("AUC guest alone", "guest_auc", "own columns")):
        if key in measures:
            tiles.append(Tile(name, f"{measures[key]:.4f}", note))
    if result.reference is not None:
        tiles.append(Tile("AUC one table", f"{result.reference.auc_pooled:.4f}", "scikit-learn, pooled"))
    if "ks" in measures:
        tiles.append(Tile("KS", f"{measures['ks']:.4f}", "hold-out"))
    if "n_intersection" in measures:
        tiles.append(Tile("rows in common", f"{measures['n_intersection']:,.0f}"))
    if "passes" in measures:
        tiles.append(Tile("passes", f"{measures['passes']:.0f}", "over the training rows"))
    return (*tiles, *result.extra_tiles)


def _scored(result: JobResult) -> list[Scored]:
    if result.evaluation is None or not result.evaluation.rows:
        return []
    rows = result.evaluation.rows
    label = np.array([row.label for row in rows], dtype=np.int8)
    models = [
        Scored("together", label, np.array([row.probability for row in rows])),
        Scored("guest alone", label, np.array([row.guest_probability for row in rows])),
    ]
    if result.reference is not None:
        models.append(Scored("one table", result.reference.label, result.reference.pooled))
    return models


def _half(half: ModelHalf) -> Half:
    scale = 2.0**-WEIGHT_BITS
    rows = sorted(
        ((name, weight * scale) for name, weight in zip(half.columns, half.weights, strict=True)),
        key=lambda row: -abs(row[1]),
    )
    if half.intercept is not None:
        rows.insert(0, ("intercept", half.intercept * scale))
    return Half(f"{half.party} ({half.role})", tuple(rows))
