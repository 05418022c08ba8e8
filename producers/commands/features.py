"""`isthmus features`: what this party knows of persons, for online scoring."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumers.party import open_party
from infra.settings import PartySettings
from producers.commands.errors import REFUSED, WRONG_SPEC, CommandError
from producers.commands.options import home_option, json_option, print_json
from producers.feature_loader import (
    Choice,
    FeatureLoadError,
    FeatureTable,
    FeatureTableError,
    load_features,
    open_features,
)
from streams.features import FeatureSourceError
from streams.kernels.ristretto import normalise_id

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_id_type_option = click.option(
    "--id-type",
    type=click.Choice(["string", "email", "phone"]),
    default="string",
    show_default=True,
    help="As in the jobs whose models will score these persons.",
)


@click.group()
def features() -> None:
    """Load what this party knows of persons into its feature topic, and look at it."""


@features.command()
@click.option("--csv", "csv_file", type=FILE, help="A CSV file, plain or gzip, whose first line names the columns.")
@click.option("--parquet", "parquet_file", type=FILE, help="A Parquet file.")
@click.option("--sql-query", help="A query whose result has a row a person. Needs --url-env.")
@click.option("--url-env", help="The environment variable that holds the database's URL, as SQLAlchemy writes it.")
@click.option("--dataset", help="A dataset of party.yaml, with the file and the column of ids that stand there.")
@click.option("--id", "id_column", help="The column of ids. Needed unless --dataset is given.")
@click.option("--columns", help="The features, separated by commas. Otherwise all columns of numbers.")
@_id_type_option
@click.option("--delete-missing", is_flag=True, help="Afterwards delete everybody who is not in the table.")
@home_option
@json_option
def load(
    csv_file: Path | None,
    parquet_file: Path | None,
    sql_query: str | None,
    url_env: str | None,
    dataset: str | None,
    id_column: str | None,
    columns: str | None,
    id_type: str,
    delete_missing: bool,
    home: Path,
    as_json: bool,
) -> None:
    """Write a table of persons to the feature topic. A person's new row replaces the old one; repeat it at will."""
    # pandas takes most of the start, and few commands need it.
    from producers.feature_files import read_csv, read_parquet, read_sql

    places = {"--csv": csv_file, "--parquet": parquet_file, "--sql-query": sql_query, "--dataset": dataset}
    given = [name for name, value in places.items() if value is not None]
    if len(given) != 1:
        raise click.UsageError(f"give one of {', '.join(places)}" + (f", not {' and '.join(given)}" if given else ""))
    if (id_column is None) != (dataset is not None):
        raise click.UsageError(
            "the column of ids is that of the dataset" if dataset else "name the column of ids: --id"
        )
    if (url_env is None) != (sql_query is None):
        raise click.UsageError("--sql-query and --url-env belong together")
    names = tuple(name.strip() for name in columns.split(",")) if columns else ()
    party = open_party(home)
    choice = Choice(id_column or "", id_type, names)
    with _reported():
        if csv_file is not None:
            table = read_csv(csv_file, choice)
        elif parquet_file is not None:
            table = read_parquet(parquet_file, choice)
        elif sql_query is not None:
            table = read_sql(sql_query, _environment(str(url_env)), party.settings.home, choice)
        else:
            table = _read_dataset(party.settings, str(dataset), choice)
        with _progress() as progress:
            task = progress.add_task("loading", total=len(table.ids))
            report = load_features(
                party,
                table,
                delete_missing=delete_missing,
                progress=lambda done: progress.update(task, completed=done),
            )
    if as_json:
        print_json({**asdict(report), "columns": list(table.columns), "left_out": list(table.left_out)})
        return
    click.echo(f"{report.rows:,} persons with {len(table.columns)} features in {report.seconds:.1f} s")
    if table.left_out:
        click.echo(f"left out, for they are not numbers: {', '.join(table.left_out)}")
    if delete_missing:
        click.echo(f"{report.deleted:,} persons deleted who are not in the table")


@features.command()
@click.argument("entity_id", metavar="ID")
@_id_type_option
@home_option
@json_option
def show(entity_id: str, id_type: str, home: Path, as_json: bool) -> None:
    """What the feature topic holds of one person. The exit code is 1 if there is no such person."""
    party = open_party(home)
    try:
        person = normalise_id(entity_id, id_type)
    except ValueError as error:
        raise CommandError(str(error), WRONG_SPEC) from error
    with _reported():
        source = open_features(party)
        source.close()
        found = source.person(person)
    if found is None:
        raise CommandError(f"the feature topic of {party.name} has no such person")
    if as_json:
        print_json({"id": person, "as_of_ms": found.as_of_ms, "values": dict(found.values)})
        return
    loaded = datetime.fromtimestamp(found.as_of_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    click.echo(f"{person}, as loaded at {loaded}")
    width = max((len(name) for name in found.values), default=0)
    for name, value in found.values.items():
        click.echo(f"  {name:<{width}}  {'missing' if value is None else value}")


@features.command()
@home_option
@json_option
def count(home: Path, as_json: bool) -> None:
    """How many persons the feature topic holds."""
    party = open_party(home)
    with _reported():
        source = open_features(party)
        source.close()
        persons = len(source.known_ids())
    if as_json:
        print_json({"persons": persons, "unreadable": len(source.pseudonyms()) - persons})
    else:
        click.echo(f"{persons:,} persons")


def _read_dataset(settings: PartySettings, name: str, choice: Choice) -> FeatureTable:
    from producers.feature_files import read_csv

    dataset = settings.datasets.get(name)
    if dataset is None:
        known = ", ".join(sorted(settings.datasets)) or "none"
        raise FeatureTableError([f"{settings.party} has no dataset {name!r}; it offers: {known}"])
    choice = Choice(dataset.id, choice.id_type, choice.columns)
    return read_csv(settings.resolve(dataset.path), choice, dataset.label)


def _environment(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise FeatureTableError([f"the environment variable {name} is not set"])
    return value


def _progress() -> Progress:
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*bar, console=Console(stderr=True), transient=True)


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except FeatureTableError as error:
        lines = [f"  {mistake}" for mistake in error.mistakes]
        raise CommandError(
            "\n".join(["the table cannot be loaded, and nothing was written:", *lines]), WRONG_SPEC
        ) from error
    except (FeatureLoadError, FeatureSourceError) as error:
        raise CommandError(str(error), REFUSED) from error
