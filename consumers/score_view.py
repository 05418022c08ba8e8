"""The live view of online scoring: windows over a guest's results, on HTTP. Optional; nothing depends on it.

python -m consumers.score_view --home DIR [--http-port N]

`<home>/run/score-view.url` says where it serves.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import click

from consumers.exits import end_with_parent, refuse
from infra.connection import connect_as
from infra.secrets import SecretsError
from infra.settings import PartySettings, SettingsError, load_settings
from infra.topics import SCORE_VIEW, group_id, results_topic, serving_topic, transactional_id
from streams.views.score_app import ScoreViewPlaces, make_score_app
from streams.views.score_http import ScoreServer, SharedWindows
from streams.views.worker import run_app


def score_view_places(settings: PartySettings) -> ScoreViewPlaces:
    """What the view of this party reads."""
    party = settings.party
    return ScoreViewPlaces(
        party=party,
        connection=connect_as(settings, SCORE_VIEW),
        results_topic=results_topic(party),
        serving_topic=serving_topic(party),
        group_id=group_id(SCORE_VIEW, party),
        instance_id=transactional_id(SCORE_VIEW, party, 0),
        folder=settings.home / "run" / SCORE_VIEW,
    )


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 0), default=0, help="There is one view a party: 0.")
@click.option(
    "--http-port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default="any that is free",
    help="Serve on this port of 127.0.0.1.",
)
def main(home: Path, slot: int, http_port: int) -> None:
    """Run the live view of a party's online scoring."""
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    try:
        settings = load_settings(home)
        places, shared = score_view_places(settings), SharedWindows(settings.party)
        app = make_score_app(places, shared)
    except (SettingsError, SecretsError, ValueError) as error:
        refuse(f"score view: {error}")
        return
    # Until faust has its own handlers.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    places.folder.mkdir(parents=True, exist_ok=True)
    try:
        server = ScoreServer(shared, http_port)
    except OSError as error:
        refuse(f"score view: cannot serve on port {http_port} of 127.0.0.1: {error}")
        return
    # Renamed into place: whoever waits for the file reads all of it.
    unfinished = settings.home / "run" / f"{SCORE_VIEW}.url.new"
    unfinished.write_text(server.url + "\n", encoding="utf-8")
    unfinished.replace(unfinished.with_suffix(""))
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    run_app(app)


if __name__ == "__main__":
    main()
