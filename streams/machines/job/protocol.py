"""The coordinators' protocol as one table: who consents, which stage runs, how a job ends everywhere.

    guest                                         each host
      SubmitJob ->
      ProposeJob  ------------------------------>  checks the spec and its own data, asks its policy or its operator
                  <------------------------------  PartyApproved | PartyDeclined
      StartStage(align)  ----------------------->  both start their own stage process
                  <------------------------------  PartyStageSucceeded(align)
      ... train, evaluate, register alike ...
      EndJob(no reason: it succeeded)  --------->

What crosses the door between the parties:

    | record              | the receiver learns                                                             |
    |---------------------|---------------------------------------------------------------------------------|
    | ProposeJob          | the spec: names of parties, datasets and features, hyper-parameters             |
    | PartyApproved       | row count, column names and fingerprint (a SHA-256) of the host's data          |
    | PartyDeclined       | which part of the spec the host cannot serve; never values or names of its data |
    | StartStage, PartyStageSucceeded | the progress of the job                                             |
    | EndJob              | the class of the reason and who is to blame; never a detail from inside a house |

A record of a party that is not part of the job changes nothing. A participant's record that does not belong where the
job stands ends the job with `PROTOCOL_VIOLATION` and blame.
"""

from __future__ import annotations

from schemas.job_states import JobPhase
from schemas.jobs import (
    ApproveJob,
    CancelJob,
    CommandRefused,
    DeclineJob,
    EndJob,
    JobAccepted,
    JobApproved,
    JobAwaitingApproval,
    JobCancelled,
    JobFailed,
    JobRejected,
    JobResumed,
    JobScheduled,
    JobSucceeded,
    JobSuspended,
    PartyApproved,
    PartyDeclined,
    PartyStageSucceeded,
    ProposeJob,
    Role,
    StageStarted,
    StartStage,
    SubmitJob,
)
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StartTask,
    StopTask,
    TaskFailed,
    TaskResumed,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from streams.machines.transition import Transition

#: The records that only clients of the own party may send.
COMMANDS: tuple[type[Record], ...] = (SubmitJob, CancelJob, ApproveJob, DeclineJob)
#: The records that only other parties may send.
CONTROL: tuple[type[Record], ...] = (
    ProposeJob,
    PartyApproved,
    PartyDeclined,
    StartStage,
    PartyStageSucceeded,
    EndJob,
)

GUEST, HOST = Role.GUEST.value, Role.HOST.value
NEW, PROPOSED, RUNNING, ENDED = JobPhase.NEW, JobPhase.PROPOSED, JobPhase.RUNNING, JobPhase.ENDED
AWAITING, APPROVED = JobPhase.AWAITING_APPROVAL, JobPhase.APPROVED

_STOP = (JobFailed, EndJob, StopTask)


def _endings(role: str, phase: JobPhase) -> tuple[Transition, ...]:
    """How a job ends early in any phase of either role; a timer may also only say that a party is silent."""
    return (
        Transition(role, phase, CancelJob, (ENDED,), (JobCancelled, EndJob, StopTask)),
        Transition(role, phase, EndJob, (ENDED,), (JobFailed, JobCancelled, JobSucceeded, EndJob, StopTask)),
        Transition(role, phase, TimerFired, (phase, ENDED), (JobSuspended, *_STOP)),
        Transition(role, phase, LocalFault, (ENDED,), _STOP),
        Transition(role, phase, PeerFault, (phase, ENDED), _STOP),
        Transition(role, phase, SubmitJob, (phase,), (CommandRefused,)),
    )


def _refusals(role: str, phase: JobPhase, *commands: type[Record]) -> tuple[Transition, ...]:
    return tuple(Transition(role, phase, command, (phase,), (CommandRefused,)) for command in commands)


def _running(role: str, *others: type[Record]) -> tuple[Transition, ...]:
    """What a stage process of the own party reports."""
    return (
        Transition(role, RUNNING, TaskSucceeded, (RUNNING, ENDED), (JobResumed, *others)),
        Transition(role, RUNNING, TaskFailed, (ENDED,), _STOP),
        Transition(role, RUNNING, TaskSuspended, (RUNNING,), (JobSuspended,)),
        Transition(role, RUNNING, TaskResumed, (RUNNING,), (JobResumed,)),
    )


_NEXT_STAGE = (StageStarted, StartStage, StartTask, JobSucceeded, EndJob)

TRANSITIONS: tuple[Transition, ...] = (
    # A job that was not heard of yet: the first record decides the role.
    Transition(GUEST, NEW, SubmitJob, (PROPOSED, ENDED), (JobAccepted, JobRejected, ProposeJob)),
    Transition(
        HOST,
        NEW,
        ProposeJob,
        (AWAITING, APPROVED, ENDED, NEW),
        (JobAccepted, JobRejected, JobAwaitingApproval, JobApproved, PartyApproved, PartyDeclined),
    ),
    Transition(GUEST, NEW, LocalFault, (ENDED,), (JobFailed,)),
    Transition(HOST, NEW, LocalFault, (ENDED,), (JobFailed,)),
    *_refusals(GUEST, NEW, CancelJob, ApproveJob, DeclineJob),
    # The guest waits for every host's consent.
    Transition(
        GUEST,
        PROPOSED,
        PartyApproved,
        (PROPOSED, RUNNING, ENDED),
        (JobApproved, JobResumed, JobScheduled, StageStarted, StartStage, StartTask, *_STOP),
    ),
    Transition(GUEST, PROPOSED, PartyDeclined, (ENDED,), (JobFailed, EndJob)),
    *_endings(GUEST, PROPOSED),
    *_refusals(GUEST, PROPOSED, ApproveJob, DeclineJob),
    # A host waits for its operator, then for the guest.
    Transition(HOST, AWAITING, ApproveJob, (APPROVED, AWAITING), (JobApproved, PartyApproved, CommandRefused)),
    Transition(HOST, AWAITING, DeclineJob, (ENDED,), (JobRejected, PartyDeclined)),
    *_endings(HOST, AWAITING),
    Transition(HOST, APPROVED, StartStage, (RUNNING, ENDED), (StageStarted, StartTask, *_STOP)),
    *_endings(HOST, APPROVED),
    *_refusals(HOST, APPROVED, ApproveJob, DeclineJob),
    # The stages, one after the other, each everywhere before the next.
    *_running(GUEST, *_NEXT_STAGE),
    Transition(GUEST, RUNNING, PartyStageSucceeded, (RUNNING, ENDED), (JobResumed, *_NEXT_STAGE, *_STOP)),
    *_endings(GUEST, RUNNING),
    *_refusals(GUEST, RUNNING, ApproveJob, DeclineJob),
    *_running(HOST, PartyStageSucceeded),
    Transition(HOST, RUNNING, StartStage, (RUNNING, ENDED), (StageStarted, StartTask, *_STOP)),
    *_endings(HOST, RUNNING),
    *_refusals(HOST, RUNNING, ApproveJob, DeclineJob),
    # It is over: only clients get an answer.
    *_refusals(GUEST, ENDED, *COMMANDS),
    *_refusals(HOST, ENDED, *COMMANDS),
)
