"""Evaluation of a trained model on the joint rows that were held out, as one table.

    guest                                       host
      EvaluateReady     <------------------>      EvaluateReady     rows, chunks, fractional bits, spec digest
                                          <--     HoldoutLogits     one number a row, a chunk a record
      LogitsReceived    -->

The guest adds its own part, measures, and keeps a report with its rows' identifiers, labels and scores to itself. What
it shares (AUC and KS) travels with the registration.

Leaks
| who    | learns                                                              | does not learn            |
|--------|---------------------------------------------------------------------|---------------------------|
| guest  | each host's logit of every hold-out row, rounded to 2^-10           | weights and rows of hosts |
| host   | that the guest received them                                        | labels, scores, measures  |
| broker | sizes and timing                                                    | everything else           |

A logit at 2^-10 within a box of +-4 is 13 bits a row, one linear functional of the host's row: what online scoring
shows of a row, too. A guest that knows the host's values of as many rows as the host has columns can solve for its
weights.
Rounding more coarsely hardly hides anything that scoring would not show; it would cost accuracy instead.
"""

from __future__ import annotations

from schemas.alignment import AlignmentReady
from schemas.evaluation import (
    ContinueEvaluation,
    EvaluateReady,
    EvaluationReady,
    HoldoutLogits,
    LogitsReceived,
    ReportStored,
)
from schemas.evaluation_states import EvaluatePhase
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StartTask,
    StopTask,
    TaskFailed,
    TaskProgressed,
    TaskStarted,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from schemas.training import ModelReady
from streams.machines.transition import Transition

#: Rows in a chunk of logits: 4 bytes each stay well below the 900 KB of a record.
CHUNK_ROWS = 100_000
#: Rows in a chunk of a peer's at most.
MAX_CHUNK_ROWS = 200_000
#: Chunks at most; each is a name in the guest's state.
MAX_CHUNKS = 4_000

#: What peers may send; everything else comes from the own party only.
PEER_RECORDS: frozenset[type[Record]] = frozenset({EvaluateReady, HoldoutLogits, LogitsReceived})

#: `ContinueEvaluation.part`.
FIT_GUEST_ALONE = 0
MEASURE = 1

_P = EvaluatePhase


def _common(role: str, live: tuple[EvaluatePhase, ...]) -> tuple[Transition, ...]:
    """What comes before the start, and the end from outside."""
    rows = [
        Transition(role, _P.WAITING, AlignmentReady, (_P.WAITING,)),
        Transition(role, _P.WAITING, ModelReady, (_P.WAITING,)),
        Transition(role, _P.WAITING, EvaluateReady, (_P.WAITING,)),
    ]
    for phase in (_P.WAITING, *live):
        rows.append(Transition(role, phase, StopTask, (_P.ENDED,)))
        rows.append(Transition(role, phase, LocalFault, (_P.ENDED,), (TaskFailed,)))
        # Before the start nobody is a peer yet: what was wrong is kept until it is known who takes part.
        to = phase if phase is _P.WAITING else _P.ENDED
        rows.append(Transition(role, phase, PeerFault, (to,), () if phase is _P.WAITING else (TaskFailed,)))
    for phase in live:
        rows.append(Transition(role, phase, TimerFired, (phase,), (TaskSuspended,)))
    return tuple(rows)


#: `TaskResumed` may come with any record of a peer, `TaskFailed` with any record at all.
TRANSITIONS: tuple[Transition, ...] = (
    Transition("guest", _P.WAITING, StartTask, (_P.COLLECTING,), (TaskStarted, EvaluateReady, ContinueEvaluation)),
    Transition("guest", _P.COLLECTING, EvaluateReady, (_P.COLLECTING,)),
    Transition("guest", _P.COLLECTING, ContinueEvaluation, (_P.COLLECTING, _P.MEASURING), (ContinueEvaluation,)),
    Transition(
        "guest",
        _P.COLLECTING,
        HoldoutLogits,
        (_P.COLLECTING, _P.MEASURING),
        (LogitsReceived, ContinueEvaluation, TaskProgressed),
    ),
    Transition("guest", _P.MEASURING, ContinueEvaluation, (_P.ENDED,), (EvaluationReady, ReportStored, TaskSucceeded)),
    *_common("guest", (_P.COLLECTING, _P.MEASURING)),
    Transition(
        "host", _P.WAITING, StartTask, (_P.READY, _P.SENT), (TaskStarted, EvaluateReady, HoldoutLogits, TaskProgressed)
    ),
    Transition("host", _P.READY, EvaluateReady, (_P.SENT,), (HoldoutLogits, TaskProgressed)),
    Transition("host", _P.SENT, LogitsReceived, (_P.ENDED,), (TaskSucceeded,)),
    *_common("host", (_P.READY, _P.SENT)),
)
