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
        bootstrap_servers=settings.bootstrap_servers,
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
        settings = load_settings(home)
    except SettingsError as error:
        refuse(f"view: {error}")
        return
    if settings.kafka:
        # They are librdkafka's; the view's client is another one, and without them it might talk in the clear.
        refuse(f"view: cannot use the Kafka client settings {', '.join(sorted(settings.kafka))} of party.yaml")
    places = view_places(settings)
    places.folder.mkdir(parents=True, exist_ok=True)
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    run_app(make_app(places))


if __name__ == "__main__":
    main()
