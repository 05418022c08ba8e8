"""States of the train stage. Private to a party: they hold weights, keys and shares, and rest sealed only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.alignment import AlignmentReady
from schemas.jobs import JobSpec, Leak
from schemas.record import Blob, Record
from schemas.tasks import PeerFault
from schemas.training import TrainReady


class TrainPhase(StrEnum):
    """Where a party stands. Both roles' phases are listed here so that one table can name them."""

    #: Nothing but hand-overs and the peer's Ready; waits for StartTask.
    WAITING = "waiting"
    #: Data is prepared; the own continuation makes the Paillier key.
    KEYS = "keys"
    #: Waits for the peer's Ready.
    READY = "ready"
    #: Waits for what the own register of cohorts says.
    COHORT = "cohort"
    #: Guest: the own continuation fits the guest alone.
    FITTING = "fitting"
    #: Flow E: encrypted residuals travel from guest to host.
    RESIDUALS = "residuals"
    #: Flow E in `trusted_guest`: plain logits travel to the guest, encrypted residuals back, side by side.
    LOGITS = "logits"
    #: Flow S: encrypted basis values, masked residuals and encrypted shares travel side by side.
    BASIS = "basis"
    #: Guest: waits for the host's masked gradient.
    PRODUCTS = "products"
    #: Host: waits for its gradient's shares.
    SHARES = "shares"
    #: Guest: waits for the host's report.
    REPORT = "report"
    #: Host: waits for the step.
    STEP = "step"
    #: Over; ignores everything.
    ENDED = "ended"


@dataclass(frozen=True)
class EarlyTrainReady(Record):
    """A Ready that came before the own StartTask, which will say who the peer is."""

    party: str
    ready: TrainReady


@dataclass(frozen=True)
class TrainWaiting(Record):
    """Before StartTask: what arrived early."""

    job_id: str
    alignment: AlignmentReady | None = None
    early: tuple[EarlyTrainReady, ...] = ()
    #: What parties did wrong before it was known whether they take part.
    faults: tuple[PeerFault, ...] = ()


@dataclass(frozen=True)
class TrainEnded(Record):
    """After the end."""

    job_id: str


@dataclass(frozen=True)
class NumberRow(Record):
    """A row of numbers: a gradient, a Gram row, a step."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class TrainSetup(Record):
    """What does not change during the task. Shapes: features (rows, columns) int32 LE, label (rows,) int8."""

    job_id: str
    peer: str
    spec: JobSpec
    spec_digest: bytes
    #: What every party accepted by name.
    accepted_leaks: tuple[Leak, ...]
    fingerprint: bytes
    #: Names, means and scales of the own columns, without the intercept.
    columns: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    #: Indexes of own columns without variance.
    constant: tuple[int, ...]
    #: Training rows, and how many of them have label 1 (-1 at a host).
    rows: int
    positives: int
    #: Standardised, clipped, FX fractional bits; at the guest with a last column of ones.
    features: Blob
    label: Blob | None
    #: The training rows as the register of cohorts knows them, and in which of its ledgers.
    cohort: Blob
    ledger: str
    #: The own Paillier primes, big-endian; empty before they are made.
    prime_p: bytes = b""
    prime_q: bytes = b""
    #: The peer's modulus and number of columns; empty and 0 before its Ready.
    peer_modulus: bytes = b""
    peer_columns: int = 0
    #: H(features, label, own key): the private inputs that every mask is bound to, besides the weights.
    private_digest: bytes = b""


@dataclass(frozen=True)
class TrainingMemory(Record):
    """What a party keeps from pass to pass."""

    #: Fixed point with 24 fractional bits; where the next gradient is taken.
    weights: tuple[int, ...]
    #: Gradients so far, penalty included, oldest first.
    gradients: tuple[NumberRow, ...] = ()
    #: Nesterov's iterate and age; used only where no scalars may be shared.
    iterate: tuple[int, ...] = ()
    age: int = 0
    #: Digest chain over everything that was received before the current pass.
    transcript: bytes = b""
    #: Rows in chunks that are done, for progress.
    rows_done: int = 0
    #: The peer whose silence was told, or "".
    silent: str = ""


@dataclass(frozen=True)
class PassState(Record):
    """What a party keeps within a pass. `rank` 0: the guest knows the residuals (flow E)."""

    pass_index: int
    rank: int
    #: Chunks that were sent, received for the first half of the pass, and received for the second half.
    sent: int = 0
    received: int = 0
    returned: int = 0
    #: Digest chains over the received chunks of either half. Each half comes in order; how they interleave is chance.
    inputs: bytes = b""
    returned_inputs: bytes = b""
    #: Product so far of what the peer encrypted with the own columns: one unsendable ciphertext a column.
    products: bytes = b""
    #: Sums of the own columns with the own shares, modulo the share modulus: fixed-width integers.
    share_sums: bytes = b""
    #: The own half of the own gradient once the masked products are away: fixed-width integers.
    own_shares: bytes = b""


@dataclass(frozen=True)
class GuestTraining(Record):
    """The guest between StartTask and the end."""

    phase: TrainPhase
    setup: TrainSetup
    memory: TrainingMemory
    current: PassState
    #: Gram rows 0..t and steps 0..t-1 of all parties together.
    gram: tuple[NumberRow, ...] = ()
    steps: tuple[NumberRow, ...] = ()
    #: Loss at the beginning of each pass, the first exact and the others integrated.
    losses: tuple[float, ...] = ()
    ready: TrainReady | None = None


@dataclass(frozen=True)
class HostTraining(Record):
    """A host between StartTask and the end."""

    phase: TrainPhase
    setup: TrainSetup
    memory: TrainingMemory
    current: PassState
    ready: TrainReady | None = None
