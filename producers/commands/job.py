"""`isthmus job`: submit, look at, cancel and repeat jobs. Everything goes through topics."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from consumers.party import open_party
from producers.commands.errors import REFUSED, CommandError
from producers.commands.options import home_option, json_option, open_client, print_json
from producers.job_client import JobClient, JobError
from producers.job_view import JobStatus, JobView, describe, human_bytes
from producers.progress import ProgressBoard
from producers.spec import mapping_of, read_spec
from producers.topic_reader import connection_of

SPEC_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def job() -> None:
    """Submit, look at, cancel and repeat jobs."""


@job.command()
@click.argument("spec_file", metavar="SPEC", type=SPEC_FILE)
@click.option("--watch", "watched", is_flag=True, help="Stay and show progress until the job ends.")
@home_option
@json_option
def submit(spec_file: Path, watched: bool, home: Path, as_json: bool) -> None:
    """Submit the job that SPEC (YAML) describes. To be run at the guest."""
    spec = read_spec(spec_file)
    _, client = open_client(home)
    with client:
        _report_submission(client, client.submit(spec), watched, as_json)


@job.command()
@click.argument("job_id")
@click.option("--watch", "watched", is_flag=True, help="Stay and show progress until the job ends.")
@home_option
@json_option
def retry(job_id: str, watched: bool, home: Path, as_json: bool) -> None:
    """Submit the spec of an ended job again, under a new id."""
    _, client = open_client(home)
    with client:
        _report_submission(client, client.retry(job_id), watched, as_json)


@job.command("list")
@home_option
@json_option
def list_jobs(home: Path, as_json: bool) -> None:
    """All jobs of this party, the newest last."""
    _, client = open_client(home)
    with client:
        views = client.views()
    if as_json:
        print_json([_mapping(view) for view in views.values()])
        return
    if not views:
        click.echo("no jobs yet")
    width = max((len(job_id) for job_id in views), default=0)
    for view in views.values():
        click.echo(f"{view.job_id:<{width}}  {_clock(view.first_ms)}  {describe(view)}")


@job.command()
@click.argument("job_id")
@home_option
@json_option
def show(job_id: str, home: Path, as_json: bool) -> None:
    """What is known about a job: state, stages, traffic, measures, mistakes."""
    _, client = open_client(home)
    with client:
        view = client.job(job_id)
    if as_json:
        print_json(_mapping(view))
    else:
        click.echo("\n".join(_lines(view)))


@job.command()
@click.argument("job_id")
@home_option
def watch(job_id: str, home: Path) -> None:
    """Show progress until the job ends. The exit code is 0 if it succeeded."""
    settings, client = open_client(home)
    with client:
        _end(_watch(client, job_id, settings.party))


@job.command()
@click.argument("job_id")
@click.option("--reason", default="cancelled by the operator", show_default=True, help="What the parties are told.")
@home_option
def cancel(job_id: str, reason: str, home: Path) -> None:
    """End a job wherever it stands. May be run at any of its parties."""
    _, client = open_client(home)
    with client:
        view = client.cancel(job_id, reason)
    click.echo(f"{job_id}: {describe(view)}")


@job.command()
@click.argument("job_id")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The HTML file; else JOB_ID.html here."
)
@home_option
def report(job_id: str, output: Path | None, home: Path) -> None:
    """Write the HTML report of a job that has ended. At a host it holds what the host knows: no scores, no curves."""
    from producers.job_report import JobResult, build_report, load_evaluation
    from producers.model_reader import load_half, read_models
    from producers.report import write_report

    opened = open_party(home)
    with JobClient(opened.name, connection_of(opened.settings)) as client:
        view = client.job(job_id)
    if not view.ended:
        raise JobError(f"{job_id} has not ended: {describe(view)}")
    model = next((entry for entry in read_models(opened.settings).values() if entry.job_id == job_id), None)
    result = JobResult(
        views={opened.name: view},
        guest=view.spec.guest.party if view.spec else opened.name,
        evaluation=load_evaluation(opened, view),
        model=model,
        halves=[load_half(opened, model)] if model else [],
        facts=(("model_sha256", model.model_sha256.hex()),) if model else (),
        footer=f"As known at {opened.name}.",
    )
    path = output or Path(f"{job_id}.html")
    write_report(build_report(result), path)
    click.echo(f"wrote {path}")


def _report_submission(client: JobClient, job_id: str, watched: bool, as_json: bool) -> None:
    view = client.await_answer(job_id)
    if view.status is JobStatus.UNKNOWN:
        raise CommandError("; ".join(mistake.message for mistake in view.refusals[-1].mistakes))
    if view.status is JobStatus.REJECTED:
        _end(view)
    if as_json:
        print_json({"job_id": job_id, "status": str(view.status)})
    else:
        click.echo(job_id)
    if watched:
        _end(_watch(client, job_id, client.party))


def _watch(client: JobClient, job_id: str, party: str) -> JobView:
    with ProgressBoard(Console(stderr=True), [party]) as board:
        last = None
        for last in client.watch(job_id):
            board.show(last)
    if last is None:
        raise JobError(f"nothing was heard of {job_id}")
    return last


def _end(view: JobView) -> None:
    if view.status is not JobStatus.SUCCEEDED:
        raise CommandError("\n".join(_lines(view)), REFUSED)
    click.echo("\n".join(_lines(view)))


def _lines(view: JobView) -> list[str]:
    lines = [f"{view.job_id} at {view.party}: {describe(view)}"]
    lines += [f"  {mistake.path}: {mistake.message}" for mistake in view.mistakes]
    if view.spec is not None:
        hosts = ", ".join(host.party for host in view.spec.hosts)
        lines.append(f"  {view.spec.name}: guest {view.spec.guest.party}, hosts {hosts}, label {view.spec.label}")
    lines.append(
        f"  since {_clock(view.first_ms)}, {view.seconds:.1f} s"
        + (f", retry of {view.retry_of}" if view.retry_of else "")
    )
    for task in view.tasks.values():
        lines.append(
            f"  {task.stage:<9} {task.status:<10} {task.seconds:7.1f} s  sent {human_bytes(task.bytes_sent):>9}"
            f"  received {human_bytes(task.bytes_received):>9}  {task.detail}".rstrip()
        )
        lines += [f"            {measure.name} = {measure.value:.6g}" for measure in task.measures]
    return lines


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _mapping(view: JobView) -> dict[str, Any]:
    return {
        "job_id": view.job_id,
        "party": view.party,
        "role": view.role,
        "status": view.status,
        "text": describe(view),
        "stage": view.stage,
        "reason": view.reason,
        "blame": view.blame,
        "detail": view.detail,
        "mistakes": [asdict(mistake) for mistake in view.mistakes],
        "first_ms": view.first_ms,
        "updated_ms": view.updated_ms,
        "age_seconds": round(time.time() - view.updated_ms / 1000, 3),
        "retry_of": view.retry_of,
        "approvals": list(view.approvals),
        "tasks": [
            {**asdict(task), "measures": {measure.name: measure.value for measure in task.measures}}
            for task in view.tasks.values()
        ],
        "spec": mapping_of(view.spec) if view.spec else None,
    }
