"""Two houses with books of their own, and records as router, host and joiner write them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from consumers.score_accounts import Accounts, Outgoing
from consumers.score_rows import RowMaker
from infra.federation_local import found_together
from infra.history_store import Booking, HistoryStore, Progress
from infra.party_secrets import load_secrets
from infra.secrets import create_secrets
from infra.settings import load_settings, save_settings
from infra.statement_store import AccountReport, StatementStore
from infra.topics import score_audit_topic
from schemas.codec import decode, encode
from schemas.record import Record
from schemas.scoring import (
    AnswerAudited,
    AnswerLate,
    AuditedAnswer,
    Outcome,
    Purpose,
    ScoreAudited,
    ScoreJoined,
    ScoreReason,
)

BANK, BUREAU = "bank", "bureau"
#: Intervals of a minute; the test's time begins in the middle of one of them.
LENGTH_MS = 60_000
BEGIN_MS = 1_700_000_040_000
SECOND_US = 1_000_000


def answered(
    request_id: str,
    value: int = 7,
    *,
    asked_at_us: int = BEGIN_MS * 1000,
    reason: ScoreReason = ScoreReason.NONE,
    guest: str = BANK,
    version: str = "1",
) -> AnswerAudited:
    """What a host writes down about an answer."""
    return AnswerAudited(
        request_id=request_id,
        guest=guest,
        token=b"token",
        model="credit",
        version=version,
        purpose=Purpose.LIVE,
        reason=reason,
        value=value if reason is ScoreReason.NONE else 0,
        quantum=5,
        asked_at_us=asked_at_us,
        answered_at_us=asked_at_us + 1_500,
    )


def used(answer: AnswerAudited, host: str = BUREAU) -> ScoreAudited:
    """What a guest writes down about a request, when it gets the answer in time."""
    is_scored = answer.reason is ScoreReason.NONE
    told = AuditedAnswer(host, answer.reason, answer.value, answer.quantum, answer.asked_at_us, answer.answered_at_us)
    return ScoreAudited(
        request_id=answer.request_id,
        pseudonym=b"pseudonym",
        model=answer.model,
        version=answer.version,
        alias="live",
        purpose=answer.purpose,
        outcome=Outcome.SCORED if is_scored else Outcome.DEGRADED,
        reason=answer.reason,
        party="" if is_scored else host,
        detail="",
        guest_logit=100,
        alone_logit=90,
        answers=(told,),
        logit=107,
        points=600,
        band="A",
        decision="accept",
        requested_at_ms=answer.asked_at_us // 1000,
        deadline_ms=answer.asked_at_us // 1000 + 100,
        routed_at_us=answer.asked_at_us,
        joined_at_us=answer.asked_at_us + 3_000,
    )


def late(answer: AnswerAudited, host: str = BUREAU) -> AnswerLate:
    """What a guest writes down when the answer is of no use any more."""
    return AnswerLate(
        request_id=answer.request_id,
        host=host,
        model=answer.model,
        version=answer.version,
        purpose=answer.purpose,
        reason=answer.reason,
        value=answer.value,
        quantum=answer.quantum,
        asked_at_us=answer.asked_at_us,
        answered_at_us=answer.answered_at_us,
        received_at_us=answer.answered_at_us + 1_000,
    )


def joined(audited: ScoreAudited) -> ScoreJoined:
    """What applications get to see of it."""
    return ScoreJoined(
        request_id=audited.request_id,
        model=audited.model,
        version=audited.version,
        alias=audited.alias,
        outcome=audited.outcome,
        reason=audited.reason,
        party=audited.party,
        detail=audited.detail,
        points=audited.points,
        probability=0.25,
        band=audited.band,
        decision=audited.decision,
        purpose=audited.purpose,
        requested_at_ms=audited.requested_at_ms,
        routed_at_us=audited.routed_at_us,
        answered_at_us=0,
        joined_at_us=audited.joined_at_us,
    )


class House:
    """The books of a party, and what its reconciler thinks of them; without a broker."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.now_ms = BEGIN_MS + LENGTH_MS
        self.history = HistoryStore(make_url(f"sqlite:///{folder / name}.db"))
        self.statements = StatementStore(self.history, name)
        self.secrets = load_secrets(load_settings(folder / name))
        self.accounts = self.restarted()
        self._offset: int | None = None
        self._rows = RowMaker(name)

    def restarted(self) -> Accounts:
        """A new process on the same books."""
        self.accounts = Accounts(self.secrets, self.secrets.peers, self.statements, LENGTH_MS, lambda: self.now_ms)
        return self.accounts

    def book(self, *records: Record) -> None:
        """As the history writer does."""
        next_offset = (self._offset or 0) + len(records)
        booking = Booking((Progress(score_audit_topic(self.name), 0, self._offset, next_offset),))
        for record in records:
            self._rows.add(record, booking)
        self.history.book(booking)
        self._offset = next_offset

    def look(self) -> list[Outgoing]:
        """Statements first, then questions: what the process would send now."""
        questions = self.accounts.build_due(self.now_ms)
        while self.accounts.has_more:
            questions += self.accounts.build_due(self.now_ms)
        return self.unsent() + questions

    def unsent(self) -> list[Outgoing]:
        found: list[Outgoing] = []
        for receiver, record, mark_sent in self.accounts.unsent():
            found.append((receiver, record))
            mark_sent()
        return found

    def receive(self, sender: str, record: Record) -> list[Outgoing]:
        """What it sends because of a record, which travels as bytes."""
        answers = self.accounts.receive(sender, decode(encode(record)))
        return self.unsent() + answers

    def report(self) -> AccountReport:
        """Of the only account there is."""
        (found,) = self.statements.report()
        return found


def make_houses(folder: Path) -> tuple[House, House]:
    """A guest and a host that know each other's keys."""
    for name, peer in ((BANK, BUREAU), (BUREAU, BANK)):
        score = {"history": {"url": f"sqlite:///{folder / name}.db"}}
        settings = {
            "party": name,
            "access": {"kind": "custom"},
            "bootstrap_servers": "127.0.0.1:1",
            "peers": [peer],
            "score": score,
        }
        save_settings(folder / name, settings)
        create_secrets(folder / name, name, unsafe_seed=b"accounts")
    found_together([folder / BANK, folder / BUREAU], "accounts")
    return House(folder, BANK), House(folder, BUREAU)


def settle(*houses: House, copies: int = 1) -> list[tuple[str, str, Record]]:
    """Let the houses talk until nobody has anything to say. Gives (sender, receiver, record) of all that was said."""
    by_name = {house.name: house for house in houses}
    queue = [(house.name, receiver, record) for house in houses for receiver, record in house.look()]
    said = []
    while queue:
        sender, receiver, record = queue.pop(0)
        said.append((sender, receiver, record))
        for _ in range(copies):
            queue += [(receiver, to, answer) for to, answer in by_name[receiver].receive(sender, record)]
    return said


__all__ = [
    "BANK",
    "BEGIN_MS",
    "BUREAU",
    "LENGTH_MS",
    "SECOND_US",
    "House",
    "answered",
    "joined",
    "late",
    "make_houses",
    "settle",
    "used",
]
