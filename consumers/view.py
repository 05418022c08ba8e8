"""The live view: keeps `vfl.job.view.<party>` up to date for operators. Optional; nothing depends on it.

python -m consumers.view --home DIR
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
from infra.topics import events_topic, group_id, transactional_id, view_topic
from streams.views.app import ViewPlaces, make_app
from streams.views.worker import run_app

VIEW = "view"


def view_places(settings: PartySettings) -> ViewPlaces:
    """Where the view of this party reads and writes."""
    party = settings.party
    return ViewPlaces(
        party=party,
        connection=connect_as(settings, VIEW),
        events_topic=events_topic(party),
        view_topic=view_topic(party),
        group_id=group_id(VIEW, party),
        instance_id=transactional_id(VIEW, party, 0),
        folder=settings.home / "run" / VIEW,
    )


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 0), default=0, help="There is one view a party: 0.")
def main(home: Path, slot: int) -> None:
    """Run the live view of a party."""
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    try:
        places = view_places(load_settings(home))
        app = make_app(places)
    except (SettingsError, SecretsError, ValueError) as error:
        refuse(f"view: {error}")
        return
    places.folder.mkdir(parents=True, exist_ok=True)
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    run_app(app)


if __name__ == "__main__":
    main()
