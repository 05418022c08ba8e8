"""The joint table of the train stage: vertical logistic regression between a guest and one host.

    guest                                          host
      TrainReady  ----------------------------->    asks its register of cohorts     each party's key for the job
      asks its register  <----------------------    TrainReady
      fits alone (the host's weights are zero)
    pass 0, and every pass of `trusted_guest`: the guest knows the residuals d
                 <------------------------------  PlainLogits (`trusted_guest` only, chunk by chunk)
      EncryptedResiduals  --------------------->  X_H^T [d]                 chunk by chunk
    other passes: nobody knows the residuals, d = e - rho
                 <------------------------------  EncryptedBasis            chunk by chunk: psi_k of the host's logits
      MaskedResiduals  ------------------------>  e, and X_H^T [rho]        chunk by chunk
      X_G^T [e]  <------------------------------  EncryptedShares           chunk by chunk
    end of a pass
                 <------------------------------  MaskedHostGradient        padded in every slot
      HostGradientShares  --------------------->  the host's gradient, 20 bits a column
                 <------------------------------  HostReport                the guest's likewise; Gram scalars
      StepDecided  ---------------------------->  step coefficients

Who learns what, beyond the spec and the numbers of rows and columns:

    | party | learns                                                             | never sees                          |
    |-------|--------------------------------------------------------------------|-------------------------------------|
    | guest | its gradient in each pass (20 bits a column); t + 1 scalars of the | any logit, weight, gradient or row  |
    |       | host's gradients in pass t and the largest entry of the newest     | of the host (but: `trusted_guest`)  |
    | host  | its gradient in each pass (20 bits a column), beginning with what  | labels, logits, residuals, weights  |
    |       | the guest's own model leaves unexplained; t + 1 step coefficients  | of the guest                        |

In `trusted_guest` the guest sees every logit of the host in every pass, which amounts to every host row.
"""

from __future__ import annotations

from typing import Final

from schemas.alignment import AlignmentReady
from schemas.cohorts import AskCohort, CohortCharged, CohortGranted, CohortRefused, SettleCohort
from schemas.jobs import Role
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
from schemas.training import (
    ContinueTraining,
    EncryptedBasis,
    EncryptedResiduals,
    EncryptedShares,
    HostGradientShares,
    HostReport,
    MaskedHostGradient,
    MaskedResiduals,
    ModelReady,
    PlainLogits,
    StepDecided,
    TrainReady,
)
from schemas.training_states import TrainPhase
from streams.machines.transition import Transition

#: Records that come from other parties only; all others come from the own party only.
PEER_RECORDS: Final[frozenset[type[Record]]] = frozenset(
    {
        TrainReady,
        EncryptedResiduals,
        PlainLogits,
        EncryptedBasis,
        MaskedResiduals,
        EncryptedShares,
        MaskedHostGradient,
        HostGradientShares,
        HostReport,
        StepDecided,
    }
)

GUEST, HOST = Role.GUEST.value, Role.HOST.value
_P = TrainPhase


def _for_both(
    phase: TrainPhase, event: type[Record], to: tuple[TrainPhase, ...], sends: tuple[type[Record], ...] = ()
) -> tuple[Transition, ...]:
    return tuple(Transition(role, phase, event, to, sends) for role in (GUEST, HOST))


_STARTING = (
    *_for_both(_P.WAITING, AlignmentReady, (_P.WAITING,)),
    *_for_both(_P.WAITING, StartTask, (_P.KEYS,), (TaskStarted, ContinueTraining)),
    Transition(GUEST, _P.KEYS, ContinueTraining, (_P.READY,), (TrainReady,)),
    Transition(GUEST, _P.READY, TrainReady, (_P.COHORT,), (AskCohort,)),
    Transition(GUEST, _P.COHORT, CohortGranted, (_P.FITTING,), (CohortCharged, ContinueTraining)),
    Transition(HOST, _P.WAITING, TrainReady, (_P.WAITING,)),
    Transition(HOST, _P.KEYS, TrainReady, (_P.KEYS,)),
    Transition(HOST, _P.KEYS, ContinueTraining, (_P.READY, _P.COHORT), (AskCohort,)),
    Transition(HOST, _P.READY, TrainReady, (_P.COHORT,), (AskCohort,)),
    Transition(HOST, _P.COHORT, CohortGranted, (_P.RESIDUALS,), (CohortCharged, TrainReady)),
    *_for_both(_P.COHORT, CohortRefused, (_P.ENDED,), (TaskFailed, SettleCohort)),
    Transition(GUEST, _P.FITTING, ContinueTraining, (_P.RESIDUALS,), (ContinueTraining,)),
)

_GUEST_PASSES = (
    Transition(
        GUEST,
        _P.RESIDUALS,
        ContinueTraining,
        (_P.RESIDUALS, _P.PRODUCTS),
        (EncryptedResiduals, TaskProgressed, ContinueTraining),
    ),
    Transition(GUEST, _P.LOGITS, PlainLogits, (_P.LOGITS, _P.PRODUCTS), (EncryptedResiduals, TaskProgressed)),
    Transition(GUEST, _P.BASIS, EncryptedBasis, (_P.BASIS,), (MaskedResiduals, TaskProgressed)),
    Transition(GUEST, _P.BASIS, EncryptedShares, (_P.BASIS, _P.PRODUCTS)),
    Transition(GUEST, _P.PRODUCTS, MaskedHostGradient, (_P.REPORT,), (HostGradientShares,)),
    Transition(
        GUEST,
        _P.REPORT,
        HostReport,
        (_P.BASIS, _P.LOGITS, _P.ENDED),
        (StepDecided, TaskProgressed, ModelReady, TaskSucceeded, SettleCohort, CohortCharged),
    ),
)

_HOST_PASSES = (
    Transition(HOST, _P.RESIDUALS, EncryptedResiduals, (_P.RESIDUALS, _P.SHARES), (MaskedHostGradient, TaskProgressed)),
    Transition(HOST, _P.LOGITS, ContinueTraining, (_P.LOGITS,), (PlainLogits, ContinueTraining)),
    Transition(HOST, _P.LOGITS, EncryptedResiduals, (_P.LOGITS, _P.SHARES), (MaskedHostGradient, TaskProgressed)),
    Transition(HOST, _P.BASIS, ContinueTraining, (_P.BASIS,), (EncryptedBasis, ContinueTraining)),
    Transition(
        HOST,
        _P.BASIS,
        MaskedResiduals,
        (_P.BASIS, _P.SHARES),
        (EncryptedShares, MaskedHostGradient, TaskProgressed),
    ),
    Transition(HOST, _P.SHARES, HostGradientShares, (_P.STEP,), (HostReport,)),
    Transition(
        HOST,
        _P.STEP,
        StepDecided,
        (_P.BASIS, _P.LOGITS, _P.ENDED),
        (TaskProgressed, ContinueTraining, ModelReady, TaskSucceeded, SettleCohort, CohortCharged),
    ),
)


def _endings(phase: TrainPhase) -> tuple[Transition, ...]:
    """What may come in any phase of a task. Once the register was asked, it hears of the end."""
    settled: tuple[type[Record], ...] = (SettleCohort, CohortCharged)
    if phase in (_P.KEYS, _P.READY, _P.COHORT):
        settled = (SettleCohort,) if phase is _P.COHORT else ()
    asked = (AskCohort,) if phase is _P.COHORT else ()
    return (
        *_for_both(phase, StopTask, (_P.ENDED,), settled),
        *_for_both(phase, LocalFault, (_P.ENDED,), (TaskFailed, *settled)),
        *_for_both(phase, PeerFault, (_P.ENDED,), (TaskFailed, *settled)),
        *_for_both(phase, TimerFired, (phase,), (TaskSuspended, *asked)),
    )


_ENDING = tuple(row for phase in TrainPhase if phase not in (_P.WAITING, _P.ENDED) for row in _endings(phase))

#: Before the start nobody is a peer yet: what was wrong is kept until it is known who takes part.
_ENDING_EARLY = (
    *_for_both(_P.WAITING, StopTask, (_P.ENDED,)),
    *_for_both(_P.WAITING, LocalFault, (_P.ENDED,), (TaskFailed,)),
    *_for_both(_P.WAITING, PeerFault, (_P.WAITING,)),
)

TRANSITIONS: Final[tuple[Transition, ...]] = (
    *_STARTING,
    *_GUEST_PASSES,
    *_HOST_PASSES,
    *_ENDING_EARLY,
    *_ENDING,
)
