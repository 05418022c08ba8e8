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

_FAIL = (JobFailed, EndJob)
_STOP = (*_FAIL, StopTask)
_NEXT_STAGE = (StageStarted, StartStage, StartTask, JobSucceeded, EndJob)


def _endings(role: str, phase: JobPhase) -> tuple[Transition, ...]:
    """How a job ends early in any phase of either role. `EndJob` is answered only when it claims what cannot be."""
    fail = _STOP if phase is RUNNING else _FAIL
    cancel = (JobCancelled, *fail[1:])
    good = (JobSucceeded,) if (role, phase) == (HOST, RUNNING) else ()
    silence = (JobSuspended,) if role == GUEST else ()
    return (
        Transition(role, phase, CancelJob, (ENDED,), cancel),
        Transition(role, phase, EndJob, (ENDED,), (JobCancelled, *good, *fail)),
        Transition(role, phase, TimerFired, (phase, ENDED), (*silence, *fail)),
        Transition(role, phase, LocalFault, (ENDED,), fail),
        Transition(role, phase, PeerFault, (phase, ENDED), fail),
    )


def _refusals(role: str, phase: JobPhase, *commands: type[Record]) -> tuple[Transition, ...]:
    """Commands of clients that change nothing, and get an answer."""
    return tuple(Transition(role, phase, command, (phase,), (CommandRefused,)) for command in commands)


def _reports(role: str) -> tuple[Transition, ...]:
    """What the stage process of the own party reports; reports of stages that are over change nothing."""
    return (
        Transition(role, RUNNING, TaskFailed, (RUNNING, ENDED), _STOP),
        Transition(role, RUNNING, TaskSuspended, (RUNNING,), (JobSuspended,)),
        Transition(role, RUNNING, TaskResumed, (RUNNING,), (JobResumed,)),
    )


TRANSITIONS: tuple[Transition, ...] = (
    # A job that was not heard of yet: the first record decides the role. What comes to the wrong party is turned away.
    Transition(GUEST, NEW, SubmitJob, (PROPOSED, ENDED), (JobAccepted, JobRejected, ProposeJob)),
    Transition(GUEST, NEW, ProposeJob, (NEW,), (JobRejected, PartyDeclined)),
    Transition(HOST, NEW, SubmitJob, (ENDED,), (JobRejected,)),
    Transition(
        HOST,
        NEW,
        ProposeJob,
        (AWAITING, APPROVED, ENDED),
        (JobAccepted, JobRejected, JobAwaitingApproval, JobApproved, PartyApproved, PartyDeclined),
    ),
    *(Transition(role, NEW, LocalFault, (ENDED,), (JobFailed,)) for role in (GUEST, HOST)),
    *_refusals(GUEST, NEW, CancelJob, ApproveJob, DeclineJob),
    *_refusals(HOST, NEW, CancelJob, ApproveJob, DeclineJob),
    # The guest waits for every host's consent.
    Transition(
        GUEST,
        PROPOSED,
        PartyApproved,
        (PROPOSED, RUNNING, ENDED),
        (JobApproved, JobResumed, JobScheduled, StageStarted, StartStage, StartTask, *_FAIL),
    ),
    Transition(GUEST, PROPOSED, PartyDeclined, (ENDED,), _FAIL),
    *_endings(GUEST, PROPOSED),
    *_refusals(GUEST, PROPOSED, SubmitJob, ApproveJob, DeclineJob),
    # A host waits for its operator, then for the guest.
    Transition(HOST, AWAITING, ApproveJob, (APPROVED, AWAITING), (JobApproved, PartyApproved, CommandRefused)),
    Transition(HOST, AWAITING, DeclineJob, (ENDED,), (JobRejected, PartyDeclined)),
    *_endings(HOST, AWAITING),
    *_refusals(HOST, AWAITING, SubmitJob),
    Transition(HOST, APPROVED, StartStage, (RUNNING, ENDED), (StageStarted, StartTask, *_FAIL)),
    *_endings(HOST, APPROVED),
    *_refusals(HOST, APPROVED, SubmitJob, ApproveJob, DeclineJob),
    # The stages, one after the other, each everywhere before the next.
    Transition(GUEST, RUNNING, TaskSucceeded, (RUNNING, ENDED), (JobResumed, *_NEXT_STAGE)),
    Transition(
        GUEST,
        RUNNING,
        PartyStageSucceeded,
        (RUNNING, ENDED),
        (JobResumed, *_NEXT_STAGE, *_STOP),
    ),
    *_reports(GUEST),
    *_endings(GUEST, RUNNING),
    *_refusals(GUEST, RUNNING, SubmitJob, ApproveJob, DeclineJob),
    Transition(HOST, RUNNING, StartStage, (RUNNING, ENDED), (StageStarted, StartTask, *_STOP)),
    Transition(HOST, RUNNING, TaskSucceeded, (RUNNING,), (JobResumed, PartyStageSucceeded)),
    *_reports(HOST),
    *_endings(HOST, RUNNING),
    *_refusals(HOST, RUNNING, SubmitJob, ApproveJob, DeclineJob),
    # It is over: only clients get an answer.
    *_refusals(GUEST, ENDED, *COMMANDS),
    *_refusals(HOST, ENDED, *COMMANDS),
)
