"""Online scoring: requests, what the parties ask and answer, outcomes, audit, statements.

A request on its way:

    ScoreRequested --router--> ScoresAsked  --> host     --> ScoresAnswered --> joiner --> ScoreJoined, ScoreAudited
                           \\-> ScoresRouted ----------------------------------/

Times that people choose are in milliseconds since 1970, times that processes note in microseconds (`_us`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.jobs import ScoreBand
from schemas.record import Record


class Outcome(StrEnum):
    """How a request ended. Each request has exactly one."""

    #: Every party's part is in the score.
    SCORED = "scored"
    #: A host's part is missing: the score is that of the guest's own model, and the policy allows it.
    DEGRADED = "degraded"
    #: No score, because of what was asked or of what is known of the person.
    REFUSED = "refused"
    #: No score in time.
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class ScoreReason(StrEnum):
    """Why a request was not scored in full; the outcome names the party with it. See `docs/scoring.md`."""

    NONE = "none"
    #: The request is malformed: an empty id, a deadline before its beginning, a feature of the wrong type.
    INVALID_REQUEST = "invalid_request"
    #: No such model, version or alias.
    UNKNOWN_MODEL = "unknown_model"
    #: The version exists and has not passed its parity check, or failed it.
    NOT_SERVED = "not_served"
    #: The version's half cannot be had: the object store is down and the cache has none.
    MODEL_UNAVAILABLE = "model_unavailable"
    NO_SUCH_PERSON = "no_such_person"
    #: A column of the model has no value for this person; `detail` names it.
    MISSING_FEATURE = "missing_feature"
    #: A value of a column is no number; `detail` names it.
    MISTYPED_FEATURE = "mistyped_feature"
    #: The feature source gave no answer.
    SOURCE_FAILED = "source_failed"
    #: More than the party allows this peer.
    QUOTA_EXCEEDED = "quota_exceeded"
    #: Too many requests wait already.
    OVERLOADED = "overloaded"
    #: The party gave no answer while the request could wait.
    LATE = "late"
    #: The deadline had passed when the request was taken up.
    DEADLINE_EXCEEDED = "deadline_exceeded"
    UNKNOWN = "unknown"


class Purpose(StrEnum):
    """What a score is for. One request has at most one score of each."""

    LIVE = "live"
    #: Scored by a second version for comparison; told in the audit only.
    SHADOW = "shadow"
    #: Part of a parity check: features come from the table that the model was trained on.
    PARITY = "parity"
    UNKNOWN = "unknown"


# --- applications -> router, plain Avro, topic vfl.score.requests.<guest>, key request_id ----------------------------


@dataclass(frozen=True)
class RequestFeature(Record):
    """A value that the application knows better than the feature source."""

    name: str
    value: float


@dataclass(frozen=True)
class ScoreRequested(Record):
    """Please score a person.

    `request_id` is the application's, unique for ever (a UUIDv7, say): requests with the same id are one request.
    `model` is `NAME@ALIAS`, `NAME` (which is `NAME@live`) or `NAME/VERSION`. `entity_id` is the guest's id of the
    person, and stays at the guest.
    """

    request_id: str
    model: str
    entity_id: str
    requested_at_ms: int
    deadline_ms: int
    features: tuple[RequestFeature, ...] = ()
    purpose: Purpose = Purpose.LIVE


# --- router -> joiner, topic vfl.score.routed.<guest>, sealed by the party for itself --------------------------------


@dataclass(frozen=True)
class RoutedScore(Record):
    """A request with everything that the guest knows of it. With a `reason` there is nothing to wait for.

    Logits have 20 fractional bits. `pseudonym` names the person in the guest's own audit.
    """

    request_id: str
    pseudonym: bytes
    model: str
    version: str
    #: What the application asked for; empty when it named a version.
    alias: str
    purpose: Purpose
    requested_at_ms: int
    deadline_ms: int
    #: Where the request lies in the guest's request topic, and when the broker took it, by the broker's clock: what the
    #: joiner tells copies from. A router that reads records again writes the same.
    request_partition: int
    request_offset: int
    appended_at_ms: int
    routed_at_us: int
    #: Who was asked, in the order of names.
    hosts: tuple[str, ...]
    #: The guest's part of the joint logit.
    guest_logit: int | None
    #: The logit by the guest's own model, for degraded outcomes; none when the policy does not allow them.
    alone_logit: int | None
    #: For how long the joiner waits for the hosts.
    wait_until_ms: int
    reason: ScoreReason = ScoreReason.NONE
    #: Who is to blame for `reason`.
    party: str = ""
    detail: str = ""
    #: From the model's spec.
    base_points: int = 0
    points_to_double_odds: int = 0
    bands: tuple[ScoreBand, ...] = ()


@dataclass(frozen=True)
class ScoresRouted(Record):
    """What a router took up at once, all for one partition."""

    items: tuple[RoutedScore, ...]


# --- guest -> host, sealed, topic vfl.score.exchange.<host> ----------------------------------------------------------


@dataclass(frozen=True)
class ScoreAsk(Record):
    """What do you say of this person? `token` means something to these two parties only."""

    request_id: str
    token: bytes
    model: str
    version: str
    purpose: Purpose
    asked_at_us: int
    #: An answer after this is of no use.
    wait_until_ms: int


@dataclass(frozen=True)
class ScoresAsked(Record):
    """Questions of one partition of the guest: the answers go to that `partition` of its exchange topic."""

    partition: int
    asks: tuple[ScoreAsk, ...]


# --- host -> guest, sealed, topic vfl.score.exchange.<guest> ---------------------------------------------------------


@dataclass(frozen=True)
class ScoreAnswer(Record):
    """A host's part of a logit, as coarse as the host allows: `value` * `quantum` with 30 fractional bits."""

    request_id: str
    model: str
    version: str
    purpose: Purpose
    reason: ScoreReason
    value: int
    quantum: int
    #: As the question said: both parties book the answer under the time of asking.
    asked_at_us: int
    answered_at_us: int
    #: The column that `reason` is about.
    detail: str = ""


@dataclass(frozen=True)
class ScoresAnswered(Record):
    """Answers to questions of one record, or some of them."""

    answers: tuple[ScoreAnswer, ...]


# --- joiner -> applications, plain Avro, topic vfl.score.results.<guest>, key request_id -----------------------------


@dataclass(frozen=True)
class ScoreJoined(Record):
    """The outcome of a request. `points`, `probability`, `band` and `decision` are there for scored and degraded."""

    request_id: str
    model: str
    version: str
    alias: str
    outcome: Outcome
    reason: ScoreReason
    #: Who is to blame for `reason`.
    party: str
    detail: str
    points: int | None
    #: Of label 1; an exact multiple of 2^-28.
    probability: float | None
    band: str
    decision: str
    purpose: Purpose
    requested_at_ms: int
    routed_at_us: int
    #: When the last host answered, by its own clock; 0 without answers.
    answered_at_us: int
    joined_at_us: int


# --- joiner -> the guest's own books, plain Avro, topic vfl.score.audit.<guest>, key request_id ----------------------


@dataclass(frozen=True)
class AuditedAnswer(Record):
    """What a host said, as it went into the score."""

    host: str
    reason: ScoreReason
    value: int
    quantum: int
    asked_at_us: int
    answered_at_us: int


@dataclass(frozen=True)
class ScoreAudited(Record):
    """Everything that made an outcome, so that anybody with the guest's books can compute it again."""

    request_id: str
    pseudonym: bytes
    model: str
    version: str
    alias: str
    purpose: Purpose
    outcome: Outcome
    reason: ScoreReason
    party: str
    detail: str
    guest_logit: int | None
    alone_logit: int | None
    #: The answers that were used, in the order of the hosts' names; hosts that did not answer are missing.
    answers: tuple[AuditedAnswer, ...]
    #: 20 fractional bits; the guest's own model's if degraded.
    logit: int | None
    points: int | None
    band: str
    decision: str
    requested_at_ms: int
    deadline_ms: int
    routed_at_us: int
    joined_at_us: int


@dataclass(frozen=True)
class AnswerLate(Record):
    """An answer that was received and not applied.

    It came when its request had its outcome or another answer of the same host, or to no request that is known.
    """

    request_id: str
    host: str
    model: str
    version: str
    purpose: Purpose
    reason: ScoreReason
    value: int
    quantum: int
    asked_at_us: int
    answered_at_us: int
    received_at_us: int


# --- score host -> the host's own books, plain Avro, topic vfl.score.audit.<host>, key request_id --------------------


@dataclass(frozen=True)
class AnswerAudited(Record):
    """What this host answered. May be there more than once for a request, with the same content but for the time."""

    request_id: str
    guest: str
    token: bytes
    model: str
    version: str
    purpose: Purpose
    reason: ScoreReason
    value: int
    quantum: int
    asked_at_us: int
    answered_at_us: int
