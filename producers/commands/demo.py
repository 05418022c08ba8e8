"""`isthmus demo`: see it work."""

from __future__ import annotations

from pathlib import Path

import click

from producers.demo_data import KEPT_SHARE
from producers.demo_parties import DemoOptions
from schemas.jobs import Privacy


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line, for programs.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Equal seeds give equal models.")
@click.option("--kill", "kills", type=click.IntRange(0, 500), default=0, help="SIGKILL this many random processes.")
@click.option("--rank", type=click.IntRange(1, 32), help="Rank of the split link; default: the spec's.")
@click.option("--data", type=click.Path(path_type=Path), metavar="PREFIX", help="PREFIX_guest.csv[.gz], PREFIX_host...")
@click.option(
    "--privacy", type=click.Choice([str(p) for p in Privacy]), default=str(Privacy.SPLIT_LINK), show_default=True
)
@click.option(
    "--rows",
    type=click.IntRange(min=60),
    help="Use only so many of the guest's rows; accepts the leaks of a small table.",
)
@click.option(
    "--kept",
    type=click.FloatRange(0.1, 1),
    default=KEPT_SHARE,
    show_default=True,
    help="The share of its rows that each side keeps.",
)
@click.option("--max-passes", type=click.IntRange(1, 100), help="End training after so many passes.")
@click.option("--deadline", type=click.IntRange(min=10), metavar="SECONDS", help="End the job after so long.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".isthmus/demo"),
    show_default=True,
    help="Where broker and parties live; emptied at the start if a demo made it.",
)
def demo(
    as_json: bool,
    seed: int,
    kills: int,
    rank: int | None,
    data: Path | None,
    privacy: str,
    rows: int | None,
    kept: float,
    max_passes: int | None,
    deadline: int | None,
    folder: Path,
) -> None:
    """Two parties on this machine train one model together: own homes, keys and processes, one Kafka between them.

    The default table is scikit-learn's breast-cancer data, cut by columns between a clinic and a laboratory. With
    --data two files are read. Each side loses a tenth of its rows, drawn from the seed: ids overlap only partly.
    """
    from producers.demo_summary import present_demo

    options = DemoOptions(seed, kills, rank, data, Privacy(privacy), rows, kept, max_passes, folder, deadline)
    raise click.exceptions.Exit(present_demo(options, as_json))
