"""`isthmus score`: ask for scores, watch them, and put a load on the path. Everything goes through topics."""

from __future__ import annotations

import csv
import json
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from infra.access import APPLICATION
from infra.settings import PartySettings, load_settings
from producers.commands.errors import REFUSED, CommandError
from producers.commands.options import home_option, json_option, print_json
from producers.commands.score_books import history, reconcile
from producers.commands.score_run import run
from producers.score_client import DEADLINE_MS, ScoreClient, ScoreClientError
from producers.score_follow import follow_results
from producers.score_load import LoadReport, LoadRun, parse_ids
from producers.score_text import load_lines, mapping_of_result, result_line, results_table
from producers.topic_reader import connection_of
from schemas.scoring import Outcome, ScoreJoined

#: Results on the board of `watch`.
BOARD_ROWS = 20
#: A load is to show how the path behaves, not how the client holds it back.
LOAD_IN_FLIGHT = 50_000
deadline_option = click.option(
    "--deadline-ms",
    type=click.IntRange(min=1),
    default=DEADLINE_MS,
    show_default=True,
    help="Milliseconds from the request to its deadline.",
)


@click.group()
def score() -> None:
    """Ask for scores, watch them, look them up, and settle accounts."""


# --- send -----------------------------------------------------------------------------------------------------------


@score.command()
@click.argument("entity_ids", metavar="[ID]...", nargs=-1)
@click.option("--model", required=True, help="NAME@ALIAS, NAME (which is NAME@live) or NAME/VERSION.")
@click.option("--csv", "csv_file", type=click.File(encoding="utf-8"), help="Take the ids from a CSV file; - is stdin.")
@click.option("--id-column", help="The ids' column of the CSV file; else the first.")
@click.option(
    "--feature", "features", multiple=True, metavar="NAME=VALUE", help="A value that the request brings along."
)
@click.option("--request-id", help="Name the request; the same name gives the same result. For one id only.")
@deadline_option
@home_option
@json_option
def send(
    entity_ids: tuple[str, ...],
    model: str,
    csv_file: TextIO | None,
    id_column: str | None,
    features: tuple[str, ...],
    request_id: str | None,
    deadline_ms: int,
    home: Path,
    as_json: bool,
) -> None:
    """Score persons by their IDs, from arguments, from --csv, or - for one a line of standard input.

    The exit code is 0 when all were scored (degraded scores included), else 1. With --json one result a line.
    """
    people = list(_people(entity_ids, csv_file, id_column))
    if not people:
        raise click.UsageError("whom? Give ids, --csv FILE, or - to read ids from standard input")
    if request_id is not None and len(people) > 1:
        raise click.UsageError("--request-id names one request: give one id")
    values = dict(_feature(text) for text in features)
    settings = load_settings(home)
    with _client(settings) as client:
        sent: list[Future[ScoreJoined] | Exception] = []
        for person in people:
            try:
                future = client.send(person, model, deadline_ms=deadline_ms, features=values, request_id=request_id)
            except ScoreClientError as error:
                sent.append(error)
            else:
                sent.append(future)
        rows = [(person, _ended(one)) for person, one in zip(people, sent, strict=True)]
    _report(rows, as_json)


def _people(entity_ids: tuple[str, ...], csv_file: TextIO | None, id_column: str | None) -> Iterator[str]:
    for text in entity_ids:
        if text == "-":
            yield from (line.strip() for line in click.get_text_stream("stdin") if line.strip())
        else:
            yield text
    if csv_file is None:
        return
    table = csv.DictReader(csv_file)
    columns = table.fieldnames or ()
    column = id_column or next(iter(columns), None)
    if column not in columns:
        raise click.UsageError(f"the CSV file has no column {column}: it has {', '.join(columns) or 'none'}")
    yield from (row[column] for row in table)


def _feature(text: str) -> tuple[str, float]:
    name, separator, value = text.partition("=")
    try:
        if name and separator:
            return name, float(value)
    except ValueError:
        pass
    raise click.UsageError(f"--feature {text}: write it as NAME=NUMBER")


def _ended(sent: Future[ScoreJoined] | Exception) -> ScoreJoined | Exception:
    if isinstance(sent, Exception):
        return sent
    try:
        return sent.result()
    except ScoreClientError as error:
        return error


def _report(rows: list[tuple[str, ScoreJoined | Exception]], as_json: bool) -> None:
    if as_json:
        for person, result in rows:
            told = {"error": str(result)} if isinstance(result, Exception) else mapping_of_result(result)
            print_json({"entity_id": person, **told})
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(results_table(rows))
    scored = (Outcome.SCORED, Outcome.DEGRADED)
    without = [result for _, result in rows if isinstance(result, Exception) or result.outcome not in scored]
    if without:
        raise CommandError(f"{len(without)} of {len(rows)} have no score", REFUSED)


# --- watch ----------------------------------------------------------------------------------------------------------


@score.command()
@click.argument("model", required=False)
@click.option("--count", type=click.IntRange(min=1), help="End after so many results; else at Ctrl-C.")
@home_option
@json_option
def watch(model: str | None, count: int | None, home: Path, as_json: bool) -> None:
    """Show results as they come: of all models, or of MODEL (NAME, NAME@ALIAS or NAME/VERSION)."""
    settings = load_settings(home)
    console = Console()
    results = follow_results(settings.party, connection_of(settings, APPLICATION), model, count)
    if as_json or not console.is_terminal:
        for result in results:
            click.echo(json.dumps(mapping_of_result(result)) if as_json else result_line(result))
        return
    latest: deque[ScoreJoined] = deque(maxlen=BOARD_ROWS)
    with Live(Text("waiting for results"), console=console, refresh_per_second=8) as live:
        for result in results:
            latest.append(result)
            live.update(results_table((shown.request_id, shown) for shown in latest))


# --- load -----------------------------------------------------------------------------------------------------------


@score.command()
@click.option("--model", required=True, help="NAME@ALIAS, NAME or NAME/VERSION.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=100.0, show_default=True, help="A second.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True)
@click.option("--ids", required=True, help="A range such as C0001..C0500, or a file with an id a line.")
@deadline_option
@home_option
@json_option
def load(model: str, rate: float, seconds: float, ids: str, deadline_ms: int, home: Path, as_json: bool) -> None:
    """Send requests at a steady rate, whatever becomes of them, and measure.

    Latencies count from when each request was due, not from when it could be sent. The exit code is 1 if any was lost.
    """
    people = _load_ids(ids)
    settings = load_settings(home)
    with _client(settings, LOAD_IN_FLIGHT) as client:
        run = LoadRun(client, people, model, rate=rate, seconds=seconds, deadline_ms=deadline_ms)
        report = _show(run, Console(stderr=True))
    if as_json:
        print_json(report.mapping())
    else:
        click.echo("\n".join(load_lines(report)))
    if report.lost:
        raise CommandError(f"{report.lost} of {report.sent} requests have no outcome", REFUSED)


def _show(run: LoadRun, console: Console) -> LoadReport:
    if not console.is_terminal:
        return run.run()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        return run.run(lambda report: live.update(Text("\n".join(load_lines(report)))))


def _load_ids(text: str) -> list[str]:
    try:
        return parse_ids(text)
    except ValueError as error:
        path = Path(text)
        if not path.is_file():
            raise click.UsageError(f"--ids: {error}, and there is no such file") from None
        people = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not people:
            raise click.UsageError(f"--ids: {path} is empty") from None
        return people


def _client(settings: PartySettings, most_in_flight: int | None = None) -> ScoreClient:
    if most_in_flight is None:
        return ScoreClient(settings.party, connection_of(settings, APPLICATION))
    return ScoreClient(settings.party, connection_of(settings, APPLICATION), most_in_flight=most_in_flight)


score.add_command(history)
score.add_command(reconcile)
score.add_command(run)
