"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from infra.settings import PartySettings, load_settings
from producers.job_client import JobClient
from producers.topic_reader import connection_of

Command = TypeVar("Command", bound=Callable[..., Any])


def home_option(command: Command) -> Command:
    """`--home DIR`, the party's folder."""
    option = click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="ISTHMUS_HOME",
        default=Path(),
        show_default="the current folder",
        show_envvar=True,
        help="The party's home, the folder with party.yaml.",
    )
    return option(command)


def json_option(command: Command) -> Command:
    """`--json`, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def open_client(home: Path) -> tuple[PartySettings, JobClient]:
    """The settings of the party and a client of its topics, to be used as a context manager."""
    settings = load_settings(home)
    return settings, JobClient(settings.party, connection_of(settings))


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} is not JSON")
