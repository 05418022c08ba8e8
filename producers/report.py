"""The HTML report of a job: one file, no external assets, readable on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from producers import charts
from producers.job_view import JobStatus, JobView, TaskView, human_bytes
from producers.leaks import ACCEPTED, reveals
from schemas.jobs import PIPELINE, JobSpec, Leak, Privacy


@dataclass(frozen=True)
class Tile:
    """One key figure."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """One drawing with its caption."""

    title: str
    text: str
    svg: str


@dataclass(frozen=True)
class PartyCard:
    """One party and what it brought."""

    name: str
    role: str
    text: str
    columns: str


@dataclass(frozen=True)
class LeakLine:
    """One thing that was revealed."""

    name: str
    text: str
    accepted: bool


@dataclass(frozen=True)
class StageRow:
    """One stage at one party."""

    stage: str
    party: str
    seconds: float
    sent: str
    received: str
    records: int
    state: str


@dataclass(frozen=True)
class Half:
    """One party's weights, largest first."""

    party: str
    rows: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Report:
    """Everything that the template prints."""

    title: str
    job_id: str
    status: str
    verdict: str
    tiles: tuple[Tile, ...]
    notice: str
    parties: tuple[PartyCard, ...]
    holdout: int
    model_charts: tuple[Chart, ...]
    leaks: tuple[LeakLine, ...]
    stages: tuple[StageRow, ...]
    effort_charts: tuple[Chart, ...]
    weights: tuple[Half, ...]
    facts: tuple[tuple[str, str], ...]
    spec: str
    footer: str = ""


def write_report(report: Report, path: Path) -> None:
    """Render and write atomically enough for a reader: the old file stays until the new one is whole."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("report.html.j2").render(report=report)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def draw_model(models: Sequence[charts.Scored], losses: Sequence[float]) -> tuple[Chart, ...]:
    """ROC (all models), KS, lift and calibration (the first model), and the loss of each pass."""
    drawn = []
    if models:
        joint = models[0]
        drawn += [
            Chart("ROC", "How many positives are found for how many false alarms.", charts.draw_roc(models)),
            Chart(
                "KS", "How far positives and negatives lie apart when rows are sorted by score.", charts.draw_ks(joint)
            ),
            Chart("Lift", "Positives in each tenth of the rows, against the average.", charts.draw_lift(joint)),
            Chart(
                "Calibration", "A predicted 30 % should come true in 30 of 100 rows.", charts.draw_calibration(joint)
            ),
        ]
    if losses:
        text = "The penalised loss a row: exact for the guest alone, then integrated from gradients."
        drawn.append(Chart("Loss per pass", text, charts.draw_loss(losses)))
    return tuple(drawn)


def draw_effort(tasks: Sequence[TaskView]) -> tuple[Chart, ...]:
    """Seconds and megabytes, by stage and party."""
    if not tasks:
        return ()
    stages = [str(stage) for stage in PIPELINE if any(task.stage is stage for task in tasks)]
    parties = sorted({task.party for task in tasks})
    by_key = {(str(task.stage), task.party): task for task in tasks}

    def series(value: str) -> list[tuple[str, list[float]]]:
        return [
            (
                party,
                [float(getattr(by_key[key], value)) if (key := (stage, party)) in by_key else 0.0 for stage in stages],
            )
            for party in parties
        ]

    seconds = charts.draw_bars("seconds", stages, series("seconds"), lambda value: f"{value:.1f} s")
    sent = charts.draw_bars("bytes", stages, series("bytes_sent"), lambda value: human_bytes(round(value)))
    return (
        Chart("Seconds", "From the first to the last event of a stage; waiting for the other side included.", seconds),
        Chart("Sent through the exchange topics", "Sealed bytes that left a party's house.", sent),
    )


def leak_lines(spec: JobSpec) -> tuple[LeakLine, ...]:
    """What was accepted by name first, then what every such job reveals."""
    accepted = [LeakLine(str(leak), ACCEPTED[leak], True) for leak in Leak if leak in spec.accept_leaks]
    return (*accepted, *(LeakLine(name, text, False) for name, text in reveals(spec)))


def stage_rows(tasks: Sequence[TaskView]) -> tuple[StageRow, ...]:
    """The table under the effort charts, in the order of the pipeline."""
    order = {stage: place for place, stage in enumerate(PIPELINE)}
    return tuple(
        StageRow(
            str(task.stage),
            task.party,
            task.seconds,
            human_bytes(task.bytes_sent),
            human_bytes(task.bytes_received),
            task.records_sent + task.records_received,
            str(task.status),
        )
        for task in sorted(tasks, key=lambda task: (order.get(task.stage, 99), task.party))
    )


def party_cards(spec: JobSpec) -> tuple[PartyCard, ...]:
    """Who took part, and what each brought."""
    cards = []
    for role, share in (("guest", spec.guest), *(("host", host) for host in spec.hosts)):
        columns = f"{len(share.features)} columns" if share.features else "every numeric column"
        label = f" and the label {spec.label}" if role == "guest" else ""
        text = f"Brings {columns}{label} from its table {share.dataset}."
        cards.append(PartyCard(share.party, role, text, ", ".join(share.features)))
    return tuple(cards)


def verdict_of(view: JobView, auc: float | None, auc_guest_only: float | None, auc_pooled: float | None) -> str:
    """The one sentence that a reader takes away."""
    if view.status is not JobStatus.SUCCEEDED:
        return (
            f"The job ended without a model: {view.status}"
            + (f", {view.reason} at {view.blame}" if view.reason else "")
            + (f": {view.detail}" if view.detail else ".")
        )
    if auc is None:
        return "The job trained and registered a model."
    text = f"Together the parties reach an AUC of {auc:.4f} on rows that training did not see"
    if auc_guest_only is not None:
        text += f"; the guest alone reaches {auc_guest_only:.4f}"
    if auc_pooled is not None:
        text += f", and the same columns in one table {auc_pooled:.4f}"
    return text + "."


def notice_of(spec: JobSpec) -> str:
    """What a reader must not overlook."""
    if spec.train.privacy is Privacy.TRUSTED_GUEST:
        return "This job ran with privacy: trusted_guest. The guest can recover the hosts' rows from what it received."
    if Leak.SMALL_TABLE in spec.accept_leaks:
        return (
            "This table is smaller than the leak budget allows. The job ran because its spec and every party accepted "
            "that by name; see below what it means before doing the same with real data."
        )
    return ""
