"""The catalogue: every topic of a party, as data. Topics come from here only: brokers make none themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from schemas.audit_statements import AUDIT
from schemas.cohorts import COHORT
from schemas.jobs import Stage

#: Follows a topic's name; a change that old processes could not live with gets a new version and new topics.
VERSION = "v1"
#: Commands, exchange, state, events and view of a party have equally many: state and view are written to the partition
#: of their input.
PARTITIONS = 4

#: Stands in topic names where jobs have a stage.
SCORE = "score"

#: The processes of online scoring; each has a principal and a group of its own.
ROUTER, JOINER, SCORE_HOST = "score-router", "score-joiner", "score-host"
PARITY, HISTORY, RECONCILER, SCORE_VIEW = "score-parity", "score-history", "score-reconciler", "score-view"
SCORING = (ROUTER, JOINER, SCORE_HOST, PARITY, HISTORY, RECONCILER, SCORE_VIEW)

_DAY_MS = 86_400_000
#: A party that was away for two weeks still finds what it was sent. Longer than any sensible job deadline.
EXCHANGE_RETENTION_MS = 14 * _DAY_MS
#: Events are the party's memory of its jobs: five years.
EVENTS_RETENTION_MS = 5 * 365 * _DAY_MS
#: Time for an operator to look at what could not be read.
DEAD_LETTER_RETENTION_MS = 30 * _DAY_MS
#: State of jobs that ended is deleted by tombstones, which must outlive a party's longest rest.
TOMBSTONE_RETENTION_MS = 14 * _DAY_MS
#: Requests and what follows from them are of use for minutes; two days let an operator look, and a party catch up.
SCORING_RETENTION_MS = 2 * _DAY_MS
#: Applications that were away still find their results.
RESULTS_RETENTION_MS = 14 * _DAY_MS
#: Compaction leaves the newest segment alone, so that it must not live for ever either; 16 MiB or a day.
COMPACTED_SEGMENT_BYTES = 16 * 1024 * 1024
COMPACTED_SEGMENT_MS = _DAY_MS


class Kind(StrEnum):
    """What a topic is for; access rights follow from it."""

    COMMANDS = "commands"
    EXCHANGE = "exchange"
    STATE = "state"
    EVENTS = "events"
    REGISTRY = "registry"
    VIEW = "view"
    DEAD_LETTER = "deadletter"
    REQUESTS = "requests"
    ROUTED = "routed"
    RESULTS = "results"
    AUDIT = "audit"
    SERVING = "serving"
    FEATURES = "features"


@dataclass(frozen=True)
class Topic:
    """One topic. `stage` is None where all stages of the party share it, or none has to do with it."""

    name: str
    kind: Kind
    party: str
    stage: Stage | None
    partitions: int
    #: Kafka's topic configuration, names and values as Kafka spells them.
    config: dict[str, str] = field(hash=False)
    #: The one process that reads it, where there is no other.
    reader: str | None = None


def commands_topic(stage: str, party: str) -> str:
    """Private: clients (stage `job` only) and the party's own processes -> the stage's process."""
    return f"vfl.{stage}.commands.{party}.{VERSION}"


def exchange_topic(stage: str, party: str) -> str:
    """The door: peers -> the stage's process of `party`."""
    return f"vfl.{stage}.exchange.{party}.{VERSION}"


def state_topic(stage: str, party: str) -> str:
    """Private to the stage's process: its sealed states."""
    return f"vfl.{stage}.state.{party}.{VERSION}"


def events_topic(party: str) -> str:
    """What happened to jobs at `party`, for everyone inside it."""
    return f"vfl.job.events.{party}.{VERSION}"


def registry_topic(party: str) -> str:
    """The models of `party`."""
    return f"vfl.model.registry.{party}.{VERSION}"


def view_topic(party: str) -> str:
    """How the jobs of `party` stand now, for everyone inside it: one record a job."""
    return f"vfl.job.view.{party}.{VERSION}"


def requests_topic(party: str) -> str:
    """Private: applications -> the router of `party`."""
    return f"vfl.score.requests.{party}.{VERSION}"


def routed_topic(party: str) -> str:
    """Private: the router of `party` -> its joiner."""
    return f"vfl.score.routed.{party}.{VERSION}"


def questions_topic(party: str) -> str:
    """The door for questions: routers of peers -> the score host of `party`."""
    return exchange_topic(SCORE, party)


def answers_topic(party: str) -> str:
    """The door for answers: score hosts of peers -> the joiner of `party`."""
    return f"vfl.score.answers.{party}.{VERSION}"


def results_topic(party: str) -> str:
    """The joiner of `party` -> applications: one record for each outcome."""
    return f"vfl.score.results.{party}.{VERSION}"


def score_audit_topic(party: str) -> str:
    """The books of `party` about scoring: how each outcome came about, or what it answered as a host."""
    return f"vfl.score.audit.{party}.{VERSION}"


def statements_topic(party: str) -> str:
    """The door for accounts: peers -> the reconciler of `party`."""
    return f"vfl.score.statements.{party}.{VERSION}"


def serving_topic(party: str) -> str:
    """Which versions `party` serves, and what its aliases mean."""
    return f"vfl.model.serving.{party}.{VERSION}"


def features_topic(party: str) -> str:
    """What `party` knows of persons, for scoring: sealed, one record a person."""
    return f"vfl.features.{party}.{VERSION}"


def job_audit_topic(party: str) -> str:
    """Private: what crossed between this party and its peers in jobs, by digest."""
    return f"vfl.job.audit.{party}.{VERSION}"


def audit_results_topic(party: str) -> str:
    """What the auditor of `party` signed, what its peers answered, and what it answered them."""
    return f"vfl.audit.results.{party}.{VERSION}"


def dead_letter_topic(party: str) -> str:
    """What a process of `party` could not read."""
    return f"vfl.deadletter.{party}.{VERSION}"


def group_id(stage: str, party: str) -> str:
    """The consumer group of the stage's processes at `party`; its lag is the stage's progress."""
    return f"vfl.{party}.{stage}.{VERSION}"


def transactional_id(stage: str, party: str, slot: int) -> str:
    """The transactional id of one process, equal to its `group.instance.id` and the same after every restart."""
    return f"vfl.{party}.{stage}.{slot}"


def party_topics(party: str, partitions: int = PARTITIONS) -> tuple[Topic, ...]:
    """All topics of `party`. Raises `ValueError` for a name as in `check_party_name`."""
    check_party_name(party)
    topics: list[Topic] = []
    kept = _kept(EXCHANGE_RETENTION_MS)
    for stage in Stage:
        topics.append(Topic(commands_topic(stage, party), Kind.COMMANDS, party, stage, partitions, kept, stage))
        topics.append(Topic(exchange_topic(stage, party), Kind.EXCHANGE, party, stage, partitions, kept, stage))
        topics.append(Topic(state_topic(stage, party), Kind.STATE, party, stage, partitions, _compacted(), stage))
    # The register of cohorts has no door: only the party's own train stage speaks to it.
    topics.append(Topic(commands_topic(COHORT, party), Kind.COMMANDS, party, None, partitions, kept, COHORT))
    topics.append(Topic(state_topic(COHORT, party), Kind.STATE, party, None, partitions, _compacted(), COHORT))
    topics.append(Topic(events_topic(party), Kind.EVENTS, party, None, partitions, _kept(EVENTS_RETENTION_MS)))
    topics.append(Topic(job_audit_topic(party), Kind.AUDIT, party, None, partitions, _kept(EVENTS_RETENTION_MS)))
    topics += _audit_topics(party, partitions)
    topics.append(Topic(registry_topic(party), Kind.REGISTRY, party, None, partitions, _compacted()))
    topics.append(Topic(view_topic(party), Kind.VIEW, party, None, partitions, _compacted()))
    topics += _scoring_topics(party, partitions)
    topics.append(Topic(dead_letter_topic(party), Kind.DEAD_LETTER, party, None, 1, _kept(DEAD_LETTER_RETENTION_MS)))
    return tuple(topics)


def _audit_topics(party: str, partitions: int) -> list[Topic]:
    short, long = _kept(EXCHANGE_RETENTION_MS), _kept(EVENTS_RETENTION_MS)
    return [
        Topic(commands_topic(AUDIT, party), Kind.COMMANDS, party, None, partitions, short, AUDIT),
        Topic(exchange_topic(AUDIT, party), Kind.EXCHANGE, party, None, partitions, short, AUDIT),
        Topic(state_topic(AUDIT, party), Kind.STATE, party, None, partitions, _compacted(), AUDIT),
        Topic(audit_results_topic(party), Kind.AUDIT, party, None, partitions, long),
    ]


def _scoring_topics(party: str, partitions: int) -> list[Topic]:
    # Requests carry the time at which the broker took them: a client's clock may be wrong.
    requests = {**_kept(SCORING_RETENTION_MS), "message.timestamp.type": "LogAppendTime"}
    short = _kept(SCORING_RETENTION_MS)
    return [
        Topic(requests_topic(party), Kind.REQUESTS, party, None, partitions, requests, ROUTER),
        Topic(routed_topic(party), Kind.ROUTED, party, None, partitions, short, JOINER),
        Topic(questions_topic(party), Kind.EXCHANGE, party, None, partitions, short, SCORE_HOST),
        Topic(answers_topic(party), Kind.EXCHANGE, party, None, partitions, short, JOINER),
        Topic(state_topic(SCORE, party), Kind.STATE, party, None, partitions, _compacted(), JOINER),
        Topic(results_topic(party), Kind.RESULTS, party, None, partitions, _kept(RESULTS_RETENTION_MS)),
        Topic(score_audit_topic(party), Kind.AUDIT, party, None, partitions, _kept(EVENTS_RETENTION_MS)),
        Topic(features_topic(party), Kind.FEATURES, party, None, partitions, _compacted()),
        # Few and far between, and an order that all agree on.
        Topic(serving_topic(party), Kind.SERVING, party, None, 1, _compacted()),
        Topic(statements_topic(party), Kind.EXCHANGE, party, None, 1, _kept(EVENTS_RETENTION_MS), RECONCILER),
    ]


def check_party_name(party: str) -> None:
    """Raise `ValueError` unless `party` is 1-40 lower-case letters, digits or hyphens, starting with a letter.

    No dots: they separate the parts of a topic's name. No underscores: Kafka's metrics take them for dots.
    """
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789-"
    if not (0 < len(party) <= 40 and party[0].isalpha() and party.isascii() and all(c in allowed for c in party)):
        raise ValueError(
            f"{party!r} cannot name a party: use 1 to 40 lower-case letters, digits and hyphens, starting with a letter"
        )


def _kept(retention_ms: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(retention_ms)}


def _compacted() -> dict[str, str]:
    return {
        "cleanup.policy": "compact",
        "delete.retention.ms": str(TOMBSTONE_RETENTION_MS),
        "segment.bytes": str(COMPACTED_SEGMENT_BYTES),
        "segment.ms": str(COMPACTED_SEGMENT_MS),
    }
