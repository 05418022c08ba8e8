"""`isthmus broker`: an embedded Apache Kafka, for trying things out on one machine."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import click

from infra.broker import BrokerError, EmbeddedBroker, Tuning
from infra.broker.certificates import ADMIN, BROKER, CA, prepare_certificates

LOOK_SECONDS = 0.5


@click.group()
def broker() -> None:
    """An embedded Apache Kafka for one machine; not for production."""


@broker.command()
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), default=Path(".isthmus/broker"), show_default=True
)
@click.option("--port", type=click.IntRange(1, 65535), default=9092, show_default=True)
def run(home: Path, port: int) -> None:
    """Run a broker in the foreground until Ctrl-C. Its data stay in --home; the first start downloads Apache Kafka."""
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    click.echo("starting Apache Kafka")
    with EmbeddedBroker(home, port, tuning=Tuning.LASTING) as running:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        click.echo(f"Apache Kafka answers at {running.bootstrap}; its log is {running.log_file}; Ctrl-C ends it")
        click.echo(f"parties believe its certificate by {running.ca_file} (isthmus party init --ca)")
        click.echo(f"its administrator connects with {running.admin_file} (isthmus topics ... --admin)")
        while not stopping:
            code = running.wait(LOOK_SECONDS)
            if code is not None:
                raise BrokerError(f"the broker ended with {code}: see {running.log_file}")


@broker.command()
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where they are kept.")
@click.option("--host", default="localhost", show_default=True, help="The name by which clients address the broker.")
def certificates(folder: Path, host: str) -> None:
    """Make the certificates of a small cluster that is not this one's embedded broker, such as one in containers."""
    try:
        prepare_certificates(folder, host)
    except (OSError, ValueError) as error:
        raise BrokerError(f"certificates could not be made in {folder}: {error}") from error
    click.echo(f"{folder / CA} vouches for {folder / BROKER}; {folder / ADMIN} is the administrator's")
