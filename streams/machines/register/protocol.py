"""Registration of a model whose halves stay where they are, as one table.

    guest                                     host
                        <--   HalfStored        digest of the host's half, fingerprints of its data, schema and program
      ModelAssembled    -->                     all digests, model digest, shared measures
                        <--   ModelAccepted     after its registry

Hosts register first, the guest when all have: a model that the guest's registry tells can be scored everywhere.

Leaks
| who    | learns                                                                          | does not learn       |
|--------|---------------------------------------------------------------------------------|----------------------|
| guest  | digests of the hosts' halves and data                                           | their content        |
| host   | digests of all halves and data; the measures that the guest shares (AUC and KS) | content; the report  |
| broker | with the registry topic: the same                                               | everything else      |

A digest commits a party to its half: a half that is shown later (to an auditor, after a dispute) can be told from
another. Guessing 24-bit weights against it takes all of them at once.
"""

from __future__ import annotations

from schemas.evaluation import EvaluationReady
from schemas.models import ModelRegistered
from schemas.record import Record
from schemas.registration import HalfStored, ModelAccepted, ModelAssembled
from schemas.registration_states import RegisterPhase
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StartTask,
    StopTask,
    TaskFailed,
    TaskStarted,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from schemas.training import ModelReady
from streams.machines.transition import Transition

#: What peers may send; everything else comes from the own party only.
PEER_RECORDS: frozenset[type[Record]] = frozenset({HalfStored, ModelAssembled, ModelAccepted})

_P = RegisterPhase


def _common(role: str, live: tuple[RegisterPhase, ...]) -> tuple[Transition, ...]:
    """What comes before the start, and the end from outside."""
    rows = [
        Transition(role, _P.WAITING, ModelReady, (_P.WAITING,)),
        Transition(role, _P.WAITING, EvaluationReady, (_P.WAITING,)),
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
    Transition("guest", _P.WAITING, HalfStored, (_P.WAITING,)),
    Transition("guest", _P.WAITING, StartTask, (_P.COLLECTING, _P.CONFIRMING), (TaskStarted, ModelAssembled)),
    Transition("guest", _P.COLLECTING, HalfStored, (_P.COLLECTING, _P.CONFIRMING), (ModelAssembled,)),
    Transition("guest", _P.CONFIRMING, ModelAccepted, (_P.CONFIRMING, _P.ENDED), (ModelRegistered, TaskSucceeded)),
    *_common("guest", (_P.COLLECTING, _P.CONFIRMING)),
    # Before StartTask a party does not know its role.
    Transition("host", _P.WAITING, HalfStored, (_P.WAITING,)),
    Transition("host", _P.WAITING, StartTask, (_P.OFFERED,), (TaskStarted, HalfStored)),
    Transition("host", _P.OFFERED, ModelAssembled, (_P.ENDED,), (ModelRegistered, ModelAccepted, TaskSucceeded)),
    *_common("host", (_P.OFFERED,)),
)
