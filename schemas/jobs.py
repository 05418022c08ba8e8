"""Jobs: what is asked for, who agreed, how it went. Commands are imperative, events are in the past tense."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.profiles import KeyProfile
from schemas.record import Record


class Stage(StrEnum):
    """The stages of a job, in the order in which they run; `JOB` is the coordinators' own conversation."""

    JOB = "job"
    ALIGN = "align"
    TRAIN = "train"
    EVALUATE = "evaluate"
    REGISTER = "register"


#: The stages that do work for a job, in order.
PIPELINE: tuple[Stage, ...] = (Stage.ALIGN, Stage.TRAIN, Stage.EVALUATE, Stage.REGISTER)


class Role(StrEnum):
    """`guest` has the label and starts the job; a `host` has features only (the literature's active and passive)."""

    GUEST = "guest"
    HOST = "host"


class Privacy(StrEnum):
    """Which logistic regression protocol runs. `TRUSTED_GUEST` lets the guest recover every host row: name it so."""

    SPLIT_LINK = "split_link"
    TRUSTED_GUEST = "trusted_guest"


class Leak(StrEnum):
    """What a job may reveal beyond its protocol's leak table; spec and every party must accept each by name."""

    #: The gradients of this job, or of all jobs of the same rows, carry more bits than the labels of so small a table
    #: hold: the host could solve for labels.
    SMALL_TABLE = "small_table"
    #: A column differs from its most frequent value in fewer than 50 rows: the gradient gives the label sum over them.
    RARE_COLUMN = "rare_column"
    #: `privacy: trusted_guest`: the guest can recover all rows of the host, up to a rotation; exactly if it knows some.
    HOST_ROWS_TO_GUEST = "host_rows_to_guest"
    #: The training rows differ in a few rows from those of an earlier job: two gradients tell these rows apart.
    OVERLAPPING_COHORT = "overlapping_cohort"


class Reason(StrEnum):
    """Why a job or a task ended or waits. Each is explained for operators in `docs/operations.md`."""

    INVALID_SPEC = "invalid_spec"
    INVALID_DATA = "invalid_data"
    DATA_CHANGED = "data_changed"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    PEER_SILENT = "peer_silent"
    PEER_FAILED = "peer_failed"
    PROTOCOL_VIOLATION = "protocol_violation"
    EMPTY_INTERSECTION = "empty_intersection"
    TOO_FEW_ROWS = "too_few_rows"
    LEAK_NOT_ACCEPTED = "leak_not_accepted"
    LOGITS_OUT_OF_BOX = "logits_out_of_box"
    STORAGE_FAILED = "storage_failed"
    INTERNAL_ERROR = "internal_error"
    #: What a newer release calls by a name that this one does not have; never written.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PartySpec(Record):
    """One party's share of a job. `features` empty means every numeric column but id and label."""

    party: str
    dataset: str
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class AlignSpec(Record):
    """How rows are matched. `id_type` is one of `string`, `email`, `phone`: how identifiers are normalised."""

    id_type: str = "string"


@dataclass(frozen=True)
class TrainSpec(Record):
    """Logistic regression. Hyper-parameters are named as in scikit-learn where it has them.

    `l2` is lambda of the sum objective: sum_i loss_i + l2/2 ||w||^2, intercept unpenalised (scikit-learn's C is 1/l2).
    `rank` 0 means: the smallest rank whose sup error is at most `sup_error`.
    Logits are clipped to +-`guest_logit_clip` and +-`host_logit_clip` (the link's box), features to +-`feature_clip`.
    """

    algorithm: str = "logistic_regression"
    privacy: Privacy = Privacy.SPLIT_LINK
    l2: float = 1.0
    max_passes: int = 12
    tolerance: float = 3e-4
    rank: int = 6
    coarse_passes: int = 3
    sup_error: float = 0.0
    guest_logit_clip: float = 8.0
    host_logit_clip: float = 4.0
    feature_clip: float = 8.0
    key_bits: int = 2048
    key_profile: KeyProfile = KeyProfile.EXACT


@dataclass(frozen=True)
class EvaluateSpec(Record):
    """The hold-out is the last `holdout_fraction` of the joint row order, which the guest shuffled."""

    holdout_fraction: float = 0.3


@dataclass(frozen=True)
class ScoreBand(Record):
    """Scores of `from_points` or more, up to the next band, are called `name`, and `decision` follows."""

    name: str
    from_points: int
    decision: str


@dataclass(frozen=True)
class ServeSpec(Record):
    """How the model's logits become scores.

    points = base_points + points_to_double_odds * log2(odds of label 1), rounded; a negative `points_to_double_odds`
    gives the likelier label 1 fewer points. `bands` go from low to high; scores below the first have none.
    Without the hosts' parts `host_patience_ms` after the routing, the guest's columns score alone if `allow_degraded`.
    """

    base_points: int = 600
    points_to_double_odds: int = 20
    bands: tuple[ScoreBand, ...] = ()
    allow_degraded: bool = True
    host_patience_ms: int = 500


@dataclass(frozen=True)
class JobSpec(Record):
    """Everything that a job needs to be known about; its digest is what the parties approve."""

    name: str
    guest: PartySpec
    label: str
    hosts: tuple[PartySpec, ...]
    align: AlignSpec = AlignSpec()
    train: TrainSpec = TrainSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    serve: ServeSpec = ServeSpec()
    accept_leaks: tuple[Leak, ...] = ()
    deadline_seconds: int = 86_400
    patience_seconds: int = 30


@dataclass(frozen=True)
class Mistake(Record):
    """One thing wrong with a spec or a dataset. `path` is like `train.rank` or `hosts[0].dataset`."""

    path: str
    message: str


@dataclass(frozen=True)
class ColumnProfile(Record):
    """What a party tells about one of its columns: its name only."""

    name: str


@dataclass(frozen=True)
class DataProfile(Record):
    """What the parties tell each other about their data before they start: row count, column names, fingerprint."""

    rows: int
    columns: tuple[ColumnProfile, ...]
    fingerprint: bytes


# --- commands: clients -> coordinator, topic vfl.job.commands.<party>, plain Avro, key job_id ------------------------


@dataclass(frozen=True)
class SubmitJob(Record):
    """Start a job; published to the guest's command topic. `retry_of` names the job that this one repeats."""

    job_id: str
    spec: JobSpec
    retry_of: str | None = None


@dataclass(frozen=True)
class CancelJob(Record):
    """End a job wherever it stands; may be published at any of its parties."""

    job_id: str
    reason: str


@dataclass(frozen=True)
class ApproveJob(Record):
    """The operator of a host lets a proposed job run, accepting these leaks by name."""

    job_id: str
    accept_leaks: tuple[Leak, ...] = ()


@dataclass(frozen=True)
class DeclineJob(Record):
    """The operator of a host refuses a proposed job."""

    job_id: str
    reason: str


# --- control: coordinator <-> coordinator, sealed, topic vfl.job.exchange.<party> ------------------------------------


@dataclass(frozen=True)
class ProposeJob(Record):
    """Guest -> every host: please check and approve."""

    job_id: str
    spec: JobSpec


@dataclass(frozen=True)
class PartyApproved(Record):
    """Host -> guest: the job may run on my data."""

    job_id: str
    profile: DataProfile
    accept_leaks: tuple[Leak, ...]


@dataclass(frozen=True)
class PartyDeclined(Record):
    """Host -> guest: it may not, and why."""

    job_id: str
    reason: Reason
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True)
class StartStage(Record):
    """Guest -> every host: all parties approved and the previous stage ended everywhere; start this one."""

    job_id: str
    stage: Stage


@dataclass(frozen=True)
class PartyStageSucceeded(Record):
    """Host -> guest: my task of this stage succeeded."""

    job_id: str
    stage: Stage


@dataclass(frozen=True)
class EndJob(Record):
    """Any party -> every other: the job is over, for this reason (`None`: it succeeded)."""

    job_id: str
    reason: Reason | None
    blame: str
    detail: str


# --- events: coordinator -> everyone inside the party, plain Avro, topic vfl.job.events.<party>, key job_id ----------


@dataclass(frozen=True)
class JobAccepted(Record):
    """The spec and this party's data are in order; the spec is repeated so that the topic alone tells the story."""

    job_id: str
    party: str
    role: Role
    spec: JobSpec
    retry_of: str | None


@dataclass(frozen=True)
class JobRejected(Record):
    """The spec or this party's data has mistakes; all of them are listed."""

    job_id: str
    party: str
    reason: Reason
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True)
class JobAwaitingApproval(Record):
    """This host's policy leaves the decision to a person; `leaks` is what approving must accept by name."""

    job_id: str
    party: str
    leaks: tuple[Leak, ...]


@dataclass(frozen=True)
class JobApproved(Record):
    """`approved_by` agreed to the job."""

    job_id: str
    party: str
    approved_by: str
    accept_leaks: tuple[Leak, ...]


@dataclass(frozen=True)
class JobScheduled(Record):
    """Every party approved; the stages follow."""

    job_id: str
    party: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class StageStarted(Record):
    """The stage runs at every party."""

    job_id: str
    party: str
    stage: Stage


@dataclass(frozen=True)
class JobSucceeded(Record):
    """The job is over and its model is registered."""

    job_id: str
    party: str


@dataclass(frozen=True)
class JobFailed(Record):
    """The job is over without a model. `blame` is the party at which it failed."""

    job_id: str
    party: str
    reason: Reason
    blame: str
    detail: str
    mistakes: tuple[Mistake, ...] = ()


@dataclass(frozen=True)
class JobSuspended(Record):
    """The job waits for `blame`; it goes on by itself when that party returns, and ends at its deadline."""

    job_id: str
    party: str
    stage: Stage
    reason: Reason
    blame: str


@dataclass(frozen=True)
class JobResumed(Record):
    """The party that a suspended job waited for is back."""

    job_id: str
    party: str
    stage: Stage


@dataclass(frozen=True)
class JobCancelled(Record):
    """A client cancelled the job."""

    job_id: str
    party: str
    detail: str


@dataclass(frozen=True)
class CommandRefused(Record):
    """A command of a client changed nothing, and why: the job, if there is one, goes on as it was.

    `command` is the name of the command's record, such as `ApproveJob`.
    """

    job_id: str
    party: str
    command: str
    mistakes: tuple[Mistake, ...]
