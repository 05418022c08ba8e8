"""The auditors of two parties: each signs what it wrote down of every stream between them, and answers the other.

    own audit topic, own events           auditor              peer's auditor
      EnvelopesCrossed, JobAccepted  ->     |
                                            |
      every 128 entries of a stream,        |
      and where it ends with its job        | AuditStatement ------> |  compares with its own list
                                            | <-- AuditCountersigned |    the same
                                            | <-- AuditContradicted  |    not the same: the first record that differs

Both sides do both. Whatever is said, and whatever is answered, lies on the party's own topic vfl.audit.results.

Statements stand for themselves: a root is of all entries from the first on, so that the newest statement of a stream
says what all before it said. So nothing is lost when one is; what has no answer is repeated, after three seconds,
six, twelve and so on, for about four days. Entries that the receiver has not written down yet let a statement wait;
statements about a job that the receiver does not know are passed over, and come again.

A list that is merely too short is contradicted only when the job is over at the receiver and a minute has passed
without news; later statements can still agree. Every other contradiction is for ever, and told once.

A statement does not count that speaks of fewer entries than an earlier one: its party was restored from an old backup.
What cannot be taken is a dead letter that names the peer and the reason; it ends nothing, and changes nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from schemas.audit import EnvelopesCrossed
from schemas.audit_statements import AuditContradicted, AuditCountersigned, AuditStatement
from schemas.jobs import JobAccepted, JobCancelled, JobFailed, JobRejected, JobSucceeded
from schemas.record import Record
from schemas.tasks import TimerFired
from streams.machines.transition import Transition

#: Events after which a job is over at a party.
ENDS: Final[tuple[type[Record], ...]] = (JobSucceeded, JobFailed, JobCancelled, JobRejected)
#: Events of the party that its auditor acts on.
AUDITED_EVENTS: Final[frozenset[type[Record]]] = frozenset({JobAccepted, *ENDS})

AUDITOR: Final = "auditor"


class AuditPhase(StrEnum):
    """A job is never closed for its auditor: what crosses after its end counts as well."""

    RUNNING = "running"
    OVER = "over"


def _rows(phase: AuditPhase) -> tuple[Transition, ...]:
    words = (AuditStatement, AuditCountersigned, AuditContradicted)
    return (
        Transition(AUDITOR, phase, EnvelopesCrossed, (phase,)),
        Transition(AUDITOR, phase, JobAccepted, (phase,)),
        *(Transition(AUDITOR, phase, end, (AuditPhase.OVER,)) for end in ENDS),
        Transition(AUDITOR, phase, TimerFired, (phase,), words),
        Transition(AUDITOR, phase, AuditStatement, (phase,)),
        # What the peer answered is kept on the own topic.
        Transition(AUDITOR, phase, AuditCountersigned, (phase,), (AuditCountersigned,)),
        Transition(AUDITOR, phase, AuditContradicted, (phase,), (AuditContradicted,)),
    )


TRANSITIONS: Final[tuple[Transition, ...]] = (*_rows(AuditPhase.RUNNING), *_rows(AuditPhase.OVER))
