"""Which topics a stage's process reads and writes, and what may lie on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from schemas.audit import EnvelopesCrossed
from schemas.jobs import ApproveJob, CancelJob, DeclineJob, SubmitJob
from schemas.record import Record
from schemas.tasks import TaskFailed, TaskProgressed, TaskResumed, TaskStarted, TaskSucceeded, TaskSuspended

#: What clients may put on the command topic of stage `job`, in plain Avro.
CLIENT_COMMANDS: frozenset[type[Record]] = frozenset({SubmitJob, CancelJob, ApproveJob, DeclineJob})
#: The events that stage `job` acts on; it passes over the others.
TASK_EVENTS: frozenset[type[Record]] = frozenset(
    {TaskStarted, TaskProgressed, TaskSuspended, TaskResumed, TaskSucceeded, TaskFailed}
)


@dataclass(frozen=True)
class StageTopics:
    """The topics of one stage at one party. Inputs and state have equally many partitions."""

    party: str
    stage: str
    commands: str
    #: The door for peers; empty where they have nothing to say to the stage.
    exchange: str
    state: str
    events: str
    #: Empty for the stages that register nothing.
    registry: str
    dead_letter: str
    #: What crosses between parties, by digest.
    audit: str
    #: A peer's exchange topic of this stage.
    exchange_of: Callable[[str], str]
    #: The own command topic of a stage.
    commands_of: Callable[[str], str]
    #: Plain records accepted on `commands`; any other plain record there is a dead letter.
    plain_commands: frozenset[type[Record]] = frozenset()
    #: Plain records taken from `events`; none: the topic is not an input.
    plain_events: frozenset[type[Record]] = frozenset()
    #: Whether `audit` is an input. What such a stage says itself is not written down there: there would be no end.
    follows_audit: bool = False
    #: Where `ToResults` goes; empty for a stage without.
    results: str = ""
    #: Whether a record of a peer counts only after all before it. If not, each has one chunk and stands for itself:
    #: what is lost is said again, what comes twice changes nothing, and the machine sees to that.
    is_ordered: bool = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the process's group subscribes to."""
        optional = (self.exchange, self.events if self.plain_events else "", self.audit if self.follows_audit else "")
        return (self.commands, *filter(None, optional))

    def accepts_plain(self, topic: str, cls: type[Record]) -> bool:
        """Whether a plain record of this class may lie on an input topic."""
        if topic == self.audit:
            return self.follows_audit and cls is EnvelopesCrossed
        return topic == self.commands and cls in self.plain_commands
