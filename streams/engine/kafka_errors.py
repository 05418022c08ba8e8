"""What librdkafka's errors mean."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from streams.engine.errors import EngineError, LogUnavailableError, SlotTakenError
from streams.engine.ports import ClientErrorKind

_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
_UNANSWERED = {
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError.REQUEST_TIMED_OUT,
}
_MEMBER_FENCED = {KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED, KafkaError.UNRELEASED_INSTANCE_ID}
_FORBIDDEN = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}


def kind_of(error: KafkaError) -> ClientErrorKind:
    """What the failure of a producer's call means for its transaction."""
    if error.code() in _FENCED:
        return ClientErrorKind.FENCED
    if error.txn_requires_abort():
        return ClientErrorKind.ABORTABLE
    if error.code() in _UNANSWERED or error.retriable():
        return ClientErrorKind.TIMED_OUT
    return ClientErrorKind.FATAL


def member_error(error: KafkaError, member: str) -> EngineError | None:
    """The end of the process that an error of the consumer means; None for what passes or is only said."""
    # A consumer's fatal errors arrive as one code, and `fatal()` is false for it; the cause is in the text only.
    is_fatal = error.fatal() or error.code() == KafkaError._FATAL
    if error.code() in _MEMBER_FENCED or (is_fatal and "group.instance.id" in error.str()):
        return SlotTakenError(f"another process is the member {member} of its group: {error.str()}")
    if error.code() in _FORBIDDEN:
        return LogUnavailableError(f"{member} may not read: {error.str()}; see the access rules")
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return LogUnavailableError(f"{member}: an input topic is gone: {error.str()}")
    if is_fatal:
        return LogUnavailableError(f"the group member {member} is out of order: {error.str()}")
    return None


def text_of(error: KafkaException) -> str:
    """The message without Python's decoration."""
    return str(error.args[0].str())
