"""From records of the audit and results topics to rows of the history."""

from __future__ import annotations

import json

from infra.history_store import Booking, Row
from infra.history_tables import REQUEST_ID_CHARACTERS, TEXT_CHARACTERS
from schemas.record import Record
from schemas.scoring import AnswerAudited, AnswerLate, AuditedAnswer, ScoreAudited, ScoreJoined, ScoreReason
from streams.kernels.statements import bucket_of, leaf_of


class UnbookableError(ValueError):
    """The record has no place in the history; the text says why."""


class RowMaker:
    """Sorts records into the tables of one party's history."""

    def __init__(self, party: str) -> None:
        self._party = party

    def add(self, record: Record, booking: Booking) -> None:
        """Put the record's rows into the booking, all or none. Raises `UnbookableError`."""
        match record:
            case ScoreAudited():
                check_id(record.request_id)
                booking.outcomes.append(_outcome_row(record))
                booking.answers.extend(self._used_row(record, answer) for answer in record.answers)
            case AnswerLate():
                check_id(record.request_id)
                row = self._answer_row(record, self._party, record.host, "late")
                booking.answers.append(row)
                booking.late_answers.append(_late_row(record, row["leaf"]))
            case AnswerAudited():
                check_id(record.request_id)
                row = self._answer_row(record, record.guest, self._party, "given")
                booking.answers.append({**row, "token": record.token})
            case ScoreJoined():
                check_id(record.request_id)
                booking.results.append(_fit(record))
            case _:
                raise UnbookableError(f"{type(record).__name__} is no record of audit or results")

    def _used_row(self, audited: ScoreAudited, answer: AuditedAnswer) -> Row:
        late = AnswerLate(
            request_id=audited.request_id,
            host=answer.host,
            model=audited.model,
            version=audited.version,
            purpose=audited.purpose,
            reason=answer.reason,
            value=answer.value,
            quantum=answer.quantum,
            asked_at_us=answer.asked_at_us,
            answered_at_us=answer.answered_at_us,
            received_at_us=0,
        )
        return self._answer_row(late, self._party, answer.host, "used")

    def _answer_row(self, record: AnswerLate | AnswerAudited, guest: str, host: str, how: str) -> Row:
        answered = record.reason is ScoreReason.NONE
        leaf = leaf_of(
            record.request_id,
            record.purpose,
            guest,
            host,
            record.model,
            record.version,
            answered=answered,
            value=record.value,
            quantum=record.quantum,
        )
        return {
            "request_id": record.request_id,
            "purpose": str(record.purpose),
            "guest": guest,
            "host": host,
            "leaf": leaf,
            "how": how,
            "model": _text(record.model),
            "version": _text(record.version),
            "reason": str(record.reason),
            "answered": answered,
            "value": record.value,
            "quantum": record.quantum,
            "asked_at_us": record.asked_at_us,
            "answered_at_us": record.answered_at_us,
            "bucket": bucket_of(record.request_id),
            "token": None,
        }


def check_id(request_id: str) -> None:
    """Raises `UnbookableError` for an id that databases cannot hold."""
    if not 0 < len(request_id) <= REQUEST_ID_CHARACTERS:
        raise UnbookableError(
            f"the request id has {len(request_id)} characters, the history takes 1 to {REQUEST_ID_CHARACTERS}"
        )
    if "\0" in request_id:
        raise UnbookableError("the request id has a NUL character")


def _outcome_row(record: ScoreAudited) -> Row:
    row = _fit(record)
    answers = [{**answer.__dict__, "reason": str(answer.reason)} for answer in record.answers]
    return {**row, "answers": json.dumps(answers, separators=(",", ":"))}


def _late_row(record: AnswerLate, leaf: bytes) -> Row:
    return {**_fit(record), "leaf": leaf}


def _fit(record: Record) -> Row:
    """The record's fields; enums as plain text, texts cut to what columns hold."""
    return {name: _text(value) if isinstance(value, str) else value for name, value in record.__dict__.items()}


def _text(value: str) -> str:
    if len(value) > TEXT_CHARACTERS or "\0" in value:
        # PostgreSQL refuses a NUL.
        return value[:TEXT_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return str(value)
