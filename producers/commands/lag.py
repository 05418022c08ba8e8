"""`isthmus lag`: which stage is behind, how far, since when."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from infra.settings import load_settings
from producers.commands.options import home_option, json_option, print_json
from producers.lag import describe_lag, measure_lag
from producers.topic_reader import connection_of


@click.command()
@click.option("--every", type=click.FloatRange(min=0.2), metavar="SECONDS", help="Repeat until Ctrl-C.")
@home_option
@json_option
def lag(every: float | None, home: Path, as_json: bool) -> None:
    """How far each stage of this party is behind its topics, in words."""
    settings = load_settings(home)
    while True:
        lags = measure_lag(partial(connection_of, settings), settings.party)
        now_ms = int(time.time() * 1000)
        if as_json:
            print_json([{**asdict(stage), "behind": stage.behind, "oldest_ms": stage.oldest_ms} for stage in lags])
        else:
            for stage in lags:
                click.echo(describe_lag(stage, now_ms))
        if every is None:
            return
        time.sleep(every)
        click.echo("")
