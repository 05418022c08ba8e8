"""From exceptions to one clear text and an exit code. What is not listed here is a bug and shows its traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from confluent_kafka import KafkaException

from consumers.exits import NEEDS_A_PERSON
from infra.access_admin import AccessError
from infra.broker import BrokerError
from infra.broker.jars import JarError
from infra.broker.tools import ToolError
from infra.manifest import ManifestError
from infra.object_store import ObjectStoreError
from infra.secrets import SecretsError
from infra.settings import SettingsError
from infra.topic_admin import TopicError
from producers.audit_trail import AuditError
from producers.job_client import JobError
from producers.spec import DemoDataError, SpecError
from producers.topic_reader import BrokerUnavailableError
from streams.engine.storage_seal import SealError

REFUSED, WRONG_SPEC, NO_BROKER = 1, 2, 3


class CommandError(click.ClickException):
    """A command failed; `exit_code` says in which way."""

    def __init__(self, message: str, exit_code: int = REFUSED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ReportingGroup(click.Group):
    """The top of the command line: turns the errors that can happen into texts."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with reported():
            return super().invoke(ctx)


@contextmanager
def reported() -> Iterator[None]:
    """Raise a `CommandError` in place of each error that is not a bug."""
    try:
        yield
    except SpecError as error:
        lines = [f"  {mistake.path}: {mistake.message}".replace("  : ", "  ") for mistake in error.mistakes]
        count = len(error.mistakes)
        heading = f"the spec has {count} mistake{'s' if count > 1 else ''}, and nothing was submitted:"
        raise CommandError("\n".join([heading, *lines]), WRONG_SPEC) from error
    except DemoDataError as error:
        raise CommandError(str(error), WRONG_SPEC) from error
    except (SettingsError, SecretsError, ManifestError) as error:
        raise CommandError(str(error), NEEDS_A_PERSON) from error
    except (BrokerUnavailableError, TopicError, AccessError, BrokerError, JarError, ToolError) as error:
        raise CommandError(str(error), NO_BROKER) from error
    except KafkaException as error:
        raise CommandError(f"the broker refused: {error.args[0].str()}", NO_BROKER) from error
    except (JobError, ObjectStoreError, AuditError, SealError) as error:
        raise CommandError(str(error)) from error
