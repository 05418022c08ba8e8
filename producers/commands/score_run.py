"""`isthmus score run`: the processes of online scoring."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from consumers.supervisor import SCORE_BOOKS, SCORE_GUEST, SCORE_HOST, SCORE_VIEW, SCORING, SINGLE, supervise
from infra.access import OPERATOR
from infra.party_secrets import load_secrets
from infra.settings import load_settings
from infra.topics import party_topics
from producers.commands.options import home_option
from producers.topic_reader import check_topics, connection_of


def choose_processes(
    role: str, slot: int, names: tuple[str, ...], *, view: bool, http_port: int | None = None
) -> Mapping[str, tuple[str, ...]]:
    """What to run: the named processes, or those of the role; `http_port` is the view's. Raises `click.UsageError`."""
    chosen = _choose(role, slot, names, view=view)
    if http_port is None:
        return chosen
    if not SCORE_VIEW.keys() & chosen.keys():
        raise click.UsageError("--http-port is the live view's: add --view")
    return {
        name: (*arguments, "--http-port", str(http_port)) if name in SCORE_VIEW else arguments
        for name, arguments in chosen.items()
    }


def _choose(role: str, slot: int, names: tuple[str, ...], *, view: bool) -> Mapping[str, tuple[str, ...]]:
    if names:
        chosen = {name: SCORING[name] for name in names}
        if slot and (single := sorted(SINGLE & chosen.keys())):
            raise click.UsageError(f"{', '.join(single)} runs once a party, in slot 0")
        return chosen
    chosen = {}
    if role in ("guest", "both"):
        chosen |= SCORE_GUEST
    if role in ("host", "both"):
        chosen |= SCORE_HOST
    chosen |= {**SCORE_BOOKS, **(SCORE_VIEW if view else {})}
    return {name: arguments for name, arguments in chosen.items() if not slot or name not in SINGLE}


@click.command("run")
@click.option(
    "--as",
    "role",
    type=click.Choice(["guest", "host", "both"]),
    default="both",
    show_default=True,
    help="What this party is in scoring.",
)
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal sets.")
@click.option(
    "--process", "names", multiple=True, type=click.Choice(list(SCORING)), help="These only; repeat for more."
)
@click.option("--view", is_flag=True, help="The live view as well, served over HTTP.")
@click.option("--http-port", type=click.IntRange(1, 65_535), help="The live view's port of 127.0.0.1; else a free one.")
@home_option
def run(role: str, slot: int, names: tuple[str, ...], view: bool, http_port: int | None, home: Path) -> None:
    """Run the processes of online scoring until Ctrl-C, and start again what dies. Logs are in <home>/log.

    More of one kind: start the same with another --slot, such as --slot 1 --process score-joiner.
    """
    processes = choose_processes(role, slot, names, view=view, http_port=http_port)
    settings = load_settings(home)
    load_secrets(settings)
    topics = party_topics(settings.party, settings.topics.partitions)
    check_topics(connection_of(settings, OPERATOR), tuple(topic.name for topic in topics))
    click.echo(f"running {', '.join(processes)} of {settings.party}; logs are in {settings.home / 'log'}; Ctrl-C ends")
    sys.exit(supervise(settings.home, slot, processes, click.echo))
