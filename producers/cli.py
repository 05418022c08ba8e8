"""The command line: `isthmus`. One command a file in `producers/commands`."""

from __future__ import annotations

import importlib

import click

from producers.commands.errors import ReportingGroup

#: Command -> its module, in the order in which help lists them. Some need libraries that take a second to load.
COMMANDS = {
    "demo": "producers.commands.demo",
    "job": "producers.commands.job",
    "party": "producers.commands.party",
    "topics": "producers.commands.topics",
    "model": "producers.commands.model",
    "cohort": "producers.commands.cohort",
    "features": "producers.commands.features",
    "score": "producers.commands.score",
    "lag": "producers.commands.lag",
    "federation": "producers.commands.federation",
    "audit": "producers.commands.audit",
    "broker": "producers.commands.broker",
    "doctor": "producers.commands.doctor",
}


class CommandGroup(ReportingGroup):
    """Loads a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name: its module has it under the same."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="isthmus")
def main() -> None:
    """Vertical federated learning on Apache Kafka: train one model on columns that stay in different houses.

    Commands of a party take --home, the folder with its party.yaml; ISTHMUS_HOME is the default.

    Exit codes: 0 done, 1 the job ended without a model or the command was refused, 2 wrong usage or spec, 3 no broker,
    78 settings or keys are wrong, 130 interrupted.
    """


if __name__ == "__main__":
    main()
