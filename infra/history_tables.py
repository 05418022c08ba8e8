"""The tables of a party's scoring history, for SQLite, PostgreSQL and MySQL.

Times are integers: microseconds since 1970 in `_us`, milliseconds in `_ms`. Logits have 20 fractional bits.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

#: Longer request ids are set aside: MySQL indexes 3,072 bytes at most.
REQUEST_ID_CHARACTERS = 200
#: Longer names and texts are cut: an application may ask for a model of any name.
TEXT_CHARACTERS = 200
PARTY_CHARACTERS = 40
WORD_CHARACTERS = 32

metadata = MetaData()


def _text(characters: int) -> TypeEngine[str]:
    # MySQL takes `a` and `A` for equal unless it is told otherwise.
    exact = mysql.VARCHAR(characters, charset="utf8mb4", collation="utf8mb4_bin")
    return String(characters).with_variant(exact, "mysql", "mariadb")


def _digest() -> TypeEngine[bytes]:
    return LargeBinary(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")


def _bytes() -> TypeEngine[bytes]:
    return LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def _request() -> list[Column[str]]:
    return [
        Column("request_id", _text(REQUEST_ID_CHARACTERS), primary_key=True),
        Column("purpose", _text(WORD_CHARACTERS), primary_key=True),
    ]


def _texts(*names: str) -> list[Column[str]]:
    return [Column(name, _text(TEXT_CHARACTERS), nullable=False) for name in names]


def _numbers(*names: str, nullable: bool = False) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=nullable) for name in names]


#: One row a request and purpose: all of `ScoreAudited`; `answers` is a JSON list.
outcomes = Table(
    "outcomes",
    metadata,
    *_request(),
    Column("pseudonym", LargeBinary, nullable=False),
    *_texts("model", "version", "alias", "outcome", "reason", "party", "detail", "band", "decision"),
    Column("answers", Text, nullable=False),
    *_numbers("guest_logit", "alone_logit", "logit", "points", nullable=True),
    *_numbers("requested_at_ms", "deadline_ms", "routed_at_us", "joined_at_us"),
    Index("outcomes_by_time", "joined_at_us", "request_id"),
    Index("outcomes_by_model", "model", "version", "joined_at_us", "request_id"),
)

#: What applications were told: all of `ScoreJoined`. Results and outcomes must say the same.
results = Table(
    "results",
    metadata,
    *_request(),
    *_texts("model", "version", "alias", "outcome", "reason", "party", "detail", "band", "decision"),
    Column("points", BigInteger),
    Column("probability", Float(53)),
    *_numbers("requested_at_ms", "routed_at_us", "answered_at_us", "joined_at_us"),
    Index("results_by_time", "joined_at_us"),
)

#: Every answer that this party gave as a host (`how` = given) or got as a guest (used, late), each content once, under
#: the earliest time at which it was asked for. Statements of account are made of this table.
answers = Table(
    "answers",
    metadata,
    *_request(),
    Column("guest", _text(PARTY_CHARACTERS), primary_key=True),
    Column("host", _text(PARTY_CHARACTERS), primary_key=True),
    Column("leaf", _digest(), primary_key=True),
    Column("how", _text(WORD_CHARACTERS), nullable=False),
    *_texts("model", "version", "reason"),
    Column("answered", Boolean, nullable=False),
    *_numbers("value", "quantum", "asked_at_us", "answered_at_us"),
    Column("bucket", SmallInteger, nullable=False),
    #: What a host calls the person toward this guest.
    Column("token", LargeBinary),
    Index("answers_by_time", "asked_at_us"),
)

#: All of `AnswerLate`.
late_answers = Table(
    "late_answers",
    metadata,
    *_request(),
    Column("host", _text(PARTY_CHARACTERS), primary_key=True),
    Column("leaf", _digest(), primary_key=True),
    Column("asked_at_us", BigInteger, primary_key=True),
    *_texts("model", "version", "reason"),
    *_numbers("value", "quantum", "answered_at_us", "received_at_us"),
)

#: Where the writer goes on: changed in the transaction that writes what lies before.
positions = Table(
    "positions",
    metadata,
    Column("topic", _text(TEXT_CHARACTERS), primary_key=True),
    Column("partition", BigInteger, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
    #: Everything that the topic held at this time is in the tables.
    Column("caught_up_ms", BigInteger, nullable=False),
)

#: Offsets of the audit topics that went into files together, or are about to.
archive_cuts = Table(
    "archive_cuts",
    metadata,
    Column("topic", _text(TEXT_CHARACTERS), primary_key=True),
    Column("partition", BigInteger, primary_key=True, autoincrement=False),
    Column("first_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("written", Boolean, nullable=False),
)

#: Seconds (of asking) of which `answers` changed; `changes` grows with each change.
touched = Table(
    "touched",
    metadata,
    Column("second", BigInteger, primary_key=True, autoincrement=False),
    Column("changes", BigInteger, nullable=False),
)


def _account() -> list[Column[str] | Column[int] | Column[bool]]:
    return [
        Column("guest", _text(PARTY_CHARACTERS), primary_key=True),
        Column("host", _text(PARTY_CHARACTERS), primary_key=True),
        Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
        Column("model", _text(TEXT_CHARACTERS), primary_key=True),
        Column("version", _text(TEXT_CHARACTERS), primary_key=True),
        Column("answered", Boolean, primary_key=True, autoincrement=False),
    ]


#: Signed statements, own and received, the newest of each account and sender.
statements = Table(
    "statements",
    metadata,
    *_account(),
    Column("sender", _text(PARTY_CHARACTERS), primary_key=True),
    *_numbers("end_ms", "made_at_ms", "count", "value_sum"),
    Column("digest", _digest(), nullable=False),
    #: The `ScoreStatement` in single-object encoding, with its signature.
    Column("encoding", _bytes(), nullable=False),
    #: Own ones: the broker has it.
    Column("sent", Boolean, nullable=False),
    Index("statements_by_time", "start_ms"),
    Index("statements_to_send", "sent"),
)

#: What came of comparing two statements.
verdicts = Table(
    "verdicts",
    metadata,
    *_account(),
    #: agreed, asking (the differing requests are not all known yet) or differs.
    Column("status", _text(WORD_CHARACTERS), nullable=False),
    Column("own_digest", _digest(), nullable=False),
    Column("peer_digest", _digest(), nullable=False),
    #: JSON list of the buckets that were not told yet.
    Column("open_buckets", Text, nullable=False),
    *_numbers("decided_at_ms", "asked_at_ms"),
    Index("verdicts_by_status", "status"),
)

#: The requests about which two houses differ, and whose books lack or contradict what this party's books hold.
differences = Table(
    "differences",
    metadata,
    *_account(),
    Column("request_id", _text(REQUEST_ID_CHARACTERS), primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("kind", _text(WORD_CHARACTERS), nullable=False),
    Column("blame", _text(PARTY_CHARACTERS), nullable=False),
)

#: Intervals for which statements were made, and the sum of `touched.changes` that they know of.
intervals = Table(
    "intervals",
    metadata,
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("length_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("changes", BigInteger, nullable=False),
)
