"""The command line: `isthmus`. One command a file in `producers/commands`."""

from __future__ import annotations

import click

from producers.commands.audit import audit
from producers.commands.broker import broker
from producers.commands.cohort import cohort
from producers.commands.demo import demo
from producers.commands.errors import ReportingGroup
from producers.commands.features import features
from producers.commands.federation import federation
from producers.commands.job import job
from producers.commands.lag import lag
from producers.commands.model import model
from producers.commands.party import party
from producers.commands.score import score
from producers.commands.score_run import run as score_run
from producers.commands.topics import topics


@click.group(cls=ReportingGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="isthmus")
def main() -> None:
    """Vertical federated learning on Apache Kafka: train one model on columns that stay in different houses.

    Commands of a party take --home, the folder with its party.yaml; ISTHMUS_HOME is the default.

    Exit codes: 0 done, 1 the job ended without a model or the command was refused, 2 wrong usage or spec, 3 no broker,
    78 settings or keys are wrong, 130 interrupted.
    """


for command in (demo, job, party, topics, model, cohort, features, score, lag, federation, audit, broker):
    main.add_command(command)
score.add_command(score_run)

if __name__ == "__main__":
    main()
