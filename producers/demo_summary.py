"""What the demo says at the end: a summary for people, a report as a file, one JSON line for programs."""

from __future__ import annotations

import contextlib
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from consumers.party import open_party
from producers.commands.errors import CommandError, reported
from producers.demo import DemoRun, Interrupted, log_hint, running_demo
from producers.demo_parties import DemoOptions
from producers.demo_reference import fit_references
from producers.job_report import JobResult, build_report, bytes_by_stage, load_evaluation, seconds_by_stage
from producers.job_view import JobStatus, describe, human_bytes
from producers.leaks import ACCEPTED
from producers.model_reader import load_half, read_models
from producers.report import Tile, write_report

REPORT_NAME = "report.html"


def present_demo(options: DemoOptions, as_json: bool) -> int:
    """Run the demo and tell how it went; the exit code. With `as_json`, standard output holds the JSON line alone."""
    console = Console(stderr=as_json)
    line: dict[str, Any] = {"status": "failed", "seed": options.seed}
    try:
        with reported(), running_demo(options, console) as run:
            result = _collect(run)
            report = options.folder / REPORT_NAME
            write_report(build_report(result), report)
            line |= summary_of(run, result, report)
        _print_summary(console, line, result)
        code = 0 if line["status"] == JobStatus.SUCCEEDED else 1
    except CommandError as error:
        line["error"] = error.format_message()
        console.print(f"failed: {error.format_message()}", style="red", markup=False, highlight=False)
        console.print(log_hint(options.folder), style="dim", markup=False)
        code = error.exit_code
    except (KeyboardInterrupt, Interrupted):
        line |= {"status": "interrupted", "error": "interrupted"}
        console.print("interrupted; everything that was started has ended", style="yellow")
        code = 130
    if as_json:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    return code


def _collect(run: DemoRun) -> JobResult:
    """Read what the parties hold. Only a demonstration may look into both houses."""
    parties = {name: open_party(settings.home) for name, settings in run.settings.items()}
    evaluation = load_evaluation(parties[run.guest], run.view)
    model, halves, reference = None, [], None
    if run.view.status is JobStatus.SUCCEEDED:
        models = read_models(run.settings[run.guest])
        model = next((entry for entry in models.values() if entry.job_id == run.job_id), None)
        if model is not None:
            halves = [load_half(party, model) for _, party in sorted(parties.items())]
        if evaluation is not None:
            reference = fit_references(run.tables, [row.id for row in evaluation.rows], run.spec.train)
    facts = [("seed", str(run.options.seed)), ("kills", str(len(run.kills)))]
    if model is not None:
        facts = [
            ("model_sha256", model.model_sha256.hex()),
            *((f"half of {half.party}", half.sha256.hex()) for half in model.halves),
            *facts,
        ]
    tiles = [Tile("time", f"{run.seconds:.0f} s", "align, train, evaluate, register")]
    if run.options.kills:
        tiles.append(Tile("kills", str(len(run.kills)), "processes, by SIGKILL"))
    return JobResult(
        views=run.views,
        guest=run.guest,
        evaluation=evaluation,
        model=model,
        halves=halves,
        reference=reference,
        facts=tuple(facts),
        title=run.tables.title,
        footer=f"Made by isthmus {_version()}. Keys of this demonstration come from its seed and protect nothing.",
        extra_tiles=tuple(tiles),
    )


def summary_of(run: DemoRun, result: JobResult, report: Path) -> dict[str, Any]:
    """The JSON line."""
    measures, reference, view = result.measures, result.reference, run.view
    line: dict[str, Any] = {
        "status": str(view.status),
        "job_id": run.job_id,
        "auc": measures.get("auc"),
        "ks": measures.get("ks"),
        "auc_guest_only": measures.get("guest_auc"),
        "auc_pooled": reference.auc_pooled if reference else None,
        "n_intersection": _whole(measures.get("n_intersection")),
        "passes": _whole(measures.get("passes")),
        "model_sha256": result.model.model_sha256.hex() if result.model else None,
        "kills": len(run.kills),
        "seconds": round(run.seconds, 3),
        "seconds_by_stage": seconds_by_stage(result),
        "bytes_by_stage": {stage: sum(sent.values()) for stage, sent in bytes_by_stage(result).items()},
        "seed": run.options.seed,
        "privacy": str(run.spec.train.privacy),
        "rank": run.spec.train.rank,
        "setup_seconds": round(run.setup_seconds, 3),
        "killed": [kill.process if not kill.party else f"{kill.party}/{kill.process}" for kill in run.kills],
        "report": str(report),
    }
    if view.status is not JobStatus.SUCCEEDED:
        told = result.explanation
        line |= {"reason": view.reason, "blame": view.blame, "detail": told.detail, "error": describe(told)}
        line["mistakes"] = [f"{mistake.path}: {mistake.message}" for mistake in told.mistakes]
    return line


def _print_summary(console: Console, line: dict[str, Any], result: JobResult) -> None:
    view = result.view
    console.print()
    if line["status"] != JobStatus.SUCCEEDED:
        console.print(line["error"], style="red", markup=False, highlight=False)
        for mistake in line["mistakes"]:
            console.print(f"  {mistake}", markup=False, highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("AUC together", _number(line["auc"])),
        ("AUC guest alone", _number(line["auc_guest_only"])),
        ("AUC one table (scikit-learn)", _number(line["auc_pooled"])),
        ("KS", _number(line["ks"])),
        ("rows in common", line["n_intersection"]),
        ("passes", line["passes"]),
        ("seconds", f"{line['seconds']:.1f} (and {line['setup_seconds']:.1f} to set up)"),
        ("by stage", ", ".join(f"{stage} {value:.1f}" for stage, value in line["seconds_by_stage"].items())),
        ("sent", ", ".join(f"{stage} {human_bytes(value)}" for stage, value in line["bytes_by_stage"].items())),
        ("kills", line["kills"] or None),
        ("model", line["model_sha256"]),
        ("report", line["report"]),
    ):
        if value not in (None, ""):
            table.add_row(name, str(value))
    console.print(table)
    for leak in view.spec.accept_leaks if view.spec else ():
        console.print(f"accepted by name, {leak}: {ACCEPTED[leak]}", style="yellow", markup=False, highlight=False)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _version() -> str:
    with contextlib.suppress(PackageNotFoundError):
        return version("isthmus")
    return "from source"
