"""What a party says about its accounts with others, what it takes from them, and what comes of comparing both.

    own books --> statement ==> peer          the same from the peer
    both statements equal: agreed.  Otherwise: LeavesWanted ==> peer ==> LeavesTold: the requests that differ, by name

Statements are repeated when books change: a house that was away for an hour writes longer books later, and what
differed agrees. Everything is kept in the history's database, so a crash repeats messages and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from infra.history_store import Row
from infra.history_tables import REQUEST_ID_CHARACTERS, TEXT_CHARACTERS
from infra.party_secrets import PartySecrets
from infra.statement_store import ACCOUNT, AGREED, ASKING, DIFFERS, StatementStore
from schemas.codec import decode, encode
from schemas.record import Record
from schemas.statements import LeavesTold, LeavesWanted, ScoreStatement, StatementLeaf
from streams.kernels.statements import (
    BUCKETS,
    Account,
    BookedLeaf,
    account_of,
    build_statement,
    compare,
    find_differences,
    find_flaw,
    is_within,
    matches_bucket,
    signed_bytes,
    tell_leaves,
)

_log = logging.getLogger("isthmus.reconciler")

_DAY_MS = 86_400_000
#: Intervals that are longer over are not looked at again, and not taken from peers.
HORIZON_MS = 14 * _DAY_MS
#: By how much two houses' clocks may differ.
CLOCKS_MS = 300_000
#: Questions without an answer are repeated.
ASK_AGAIN_MS = 10_000
#: Intervals taken up at once: the group has to hear of us in between.
AT_ONCE = 4
#: Leaves in one record: below a megabyte, however long the ids are.
LEAVES_AT_ONCE = 1_000

#: Receiver and record.
Outgoing = tuple[str, Record]


class RefusedError(Exception):
    """What a peer says is not taken; the text says why."""


class StaleError(RefusedError):
    """A later statement about the same is known: this one came again, from an attacker or from a crash of our own."""


class Accounts:
    """One party's accounts with all its peers. One thread calls it; methods raise `HistoryUnavailableError`."""

    def __init__(
        self,
        secrets: PartySecrets,
        peers: Iterable[str],
        store: StatementStore,
        length_ms: int,
        now_ms: Callable[[], int],
    ) -> None:
        """`length_ms` is that of the intervals; it has to be the same at both houses."""
        self._secrets = secrets
        self._party = secrets.party
        self._peers = frozenset(peers)
        self._store = store
        self._length_ms = length_ms
        self._now_ms = now_ms
        self._forget_at_ms = 0
        #: There are more intervals to speak of than `build_due` took up.
        self.has_more = False

    # --- speaking ---

    def build_due(self, complete_ms: int) -> list[Outgoing]:
        """Make the statements of intervals up to the time for which the own books are complete; gives questions."""
        if self._now_ms() >= self._forget_at_ms:
            self._store.forget_before(self._now_ms() - 2 * HORIZON_MS)
            self._forget_at_ms = self._now_ms() + _DAY_MS
        changed = self._store.changed_intervals(self._length_ms, self._now_ms() - HORIZON_MS, complete_ms)
        questions: list[Outgoing] = []
        self.has_more = len(changed) > AT_ONCE
        for start_ms, changes in list(changed.items())[:AT_ONCE]:
            for row in self._store.accounts_in(start_ms, self._length_ms):
                account = Account(**row)
                if self._peer_of(account) in self._peers:
                    questions += self._refresh(account)
            self._store.note_interval(start_ms, self._length_ms, changes)
        for row in self._store.unanswered(complete_ms):
            questions += self._refresh(Account(**row))
        for row in self._store.asking(self._now_ms() - ASK_AGAIN_MS):
            questions += self._judge(Account(**row))
        return questions

    def unsent(self) -> list[tuple[str, Record, Callable[[], None]]]:
        """Receiver, statement, and what to call when the broker has it."""
        return [
            (
                self._peer_of(Account(**{name: row[name] for name in ACCOUNT})),
                decode(row["encoding"]),
                lambda row=row: self._store.mark_sent(row),  # type: ignore[misc]
            )
            for row in self._store.unsent()
        ]

    def _refresh(self, account: Account) -> list[Outgoing]:
        """Say it again if the books say something else by now."""
        key = _row(account)
        known = self._store.statement(key, self._party)
        made_at_ms = max(self._now_ms(), known["made_at_ms"] + 1 if known else 0)
        leaves = (BookedLeaf(*entry) for entry in self._store.leaves(key, self._length_ms))
        bare = build_statement(self._party, account, self._length_ms, made_at_ms, leaves)
        if known is not None and (known["digest"], known["end_ms"]) == (bare.digest, bare.interval_end_ms):
            return []
        statement = replace(bare, signature=self._secrets.sign(signed_bytes(bare)))
        self._store.put_statement(_statement_row(statement, is_sent=False))
        return self._judge(account)

    # --- listening ---

    def receive(self, sender: str, record: Record) -> list[Outgoing]:
        """Take what a peer sent; gives questions and answers to it. Raises `RefusedError`."""
        match record:
            case ScoreStatement():
                return self._take_statement(sender, record)
            case LeavesWanted():
                return self._tell(sender, record)
            case LeavesTold():
                self._take_leaves(sender, record)
                return []
        raise RefusedError(f"{type(record).__name__} is not about accounts")

    def _take_statement(self, sender: str, statement: ScoreStatement) -> list[Outgoing]:
        account = account_of(statement)
        self._check_parties(sender, account)
        if statement.sender != sender:
            raise RefusedError(f"{sender} sent a statement of {statement.sender}")
        if not self._secrets.has_signed(sender, signed_bytes(statement), statement.signature):
            raise RefusedError(f"the signature under a statement is not {sender}'s")
        if flaw := find_flaw(statement):
            raise RefusedError(f"a statement of {sender} contradicts itself: {flaw}")
        self._check_time(sender, statement)
        key = _row(account)
        known = self._store.statement(key, sender)
        encoding = encode(statement)
        if known is not None and known["encoding"] != encoding and known["made_at_ms"] >= statement.made_at_ms:
            kind = StaleError if known["made_at_ms"] > statement.made_at_ms else RefusedError
            raise kind(
                f"{sender} sent a statement made at {statement.made_at_ms}, and before that another one made at "
                f"{known['made_at_ms']}: a replay, or two stories"
            )
        self._store.put_statement(_statement_row(statement, is_sent=True))
        return self._judge(account)

    def _check_time(self, sender: str, statement: ScoreStatement) -> None:
        start_ms, end_ms = statement.interval_start_ms, statement.interval_end_ms
        if end_ms - start_ms != self._length_ms or start_ms % self._length_ms:
            raise RefusedError(
                f"{sender} counts in intervals of {(end_ms - start_ms) / 1000:g} s and {self._party} in those of "
                f"{self._length_ms / 1000:g} s: agree on score.statement_seconds"
            )
        now_ms = self._now_ms()
        if statement.made_at_ms < end_ms - CLOCKS_MS or end_ms > now_ms + CLOCKS_MS:
            raise RefusedError(f"{sender} speaks of an interval that is not over: it ends at {end_ms}")
        if end_ms < now_ms - HORIZON_MS:
            raise RefusedError(f"{sender} speaks of an interval that ended at {end_ms}, too long ago to look at again")

    def _tell(self, sender: str, wanted: LeavesWanted) -> list[Outgoing]:
        account = account_of(wanted)
        self._check_parties(sender, account)
        if not all(0 <= bucket < BUCKETS for bucket in wanted.buckets):
            raise RefusedError(f"{sender} asks for buckets that do not exist")
        key = _row(account)
        if self._store.statement(key, self._party) is None:
            # It asks again when it has heard our statement.
            return []
        # What is told has to be what the statement says, also if books have grown since.
        questions = self._refresh(account)
        row = self._store.statement(key, self._party)
        assert row is not None
        statement = decode(row["encoding"])
        assert isinstance(statement, ScoreStatement)
        told: list[Outgoing] = []
        for bucket in sorted(set(wanted.buckets)):
            leaves = [StatementLeaf(name, leaf) for name, leaf, _ in self._store.leaves(key, self._length_ms, [bucket])]
            told += [(sender, part) for part in tell_leaves(statement, bucket, leaves, LEAVES_AT_ONCE)]
        return questions + told

    def _take_leaves(self, sender: str, told: LeavesTold) -> None:
        account = account_of(told)
        self._check_parties(sender, account)
        key = _row(account)
        row = self._store.statement(key, sender)
        verdict = self._store.verdict(key)
        if row is None or verdict is None or row["digest"] != told.digest or told.bucket not in verdict["open_buckets"]:
            return  # Said before, or overtaken by a later statement.
        if not all(0 < len(leaf.request_id) <= REQUEST_ID_CHARACTERS for leaf in told.leaves):
            raise RefusedError(f"{sender} names requests with ids that cannot be")
        if any("\0" in leaf.request_id or not is_within(told, leaf.request_id) for leaf in told.leaves):
            raise RefusedError(f"{sender} names requests that do not belong there")
        statement = decode(row["encoding"])
        assert isinstance(statement, ScoreStatement)
        if not told.after and not told.until and not matches_bucket(told, statement):
            raise RefusedError(f"{sender} told leaves of bucket {told.bucket} that it did not sign")
        entries = self._store.leaves(key, self._length_ms, [told.bucket])
        own = [StatementLeaf(name, leaf) for name, leaf, _ in entries if is_within(told, name)]
        at_guest, at_host = (own, told.leaves) if account.guest == self._party else (told.leaves, own)
        found = [(one.request_id, str(one.kind)) for one in find_differences(at_guest, at_host)]
        if not told.until:
            verdict["open_buckets"].remove(told.bucket)
        if not verdict["open_buckets"]:
            verdict["status"] = DIFFERS
        self._store.add_differences(verdict, told.bucket, found, sender, from_start=not told.after)
        if verdict["status"] == DIFFERS:
            _log.warning("%s and %s differ about %s/%s from %d on: isthmus score reconcile", *_texts(account))

    # --- judging ---

    def _judge(self, account: Account) -> list[Outgoing]:
        """Compare, if both have spoken. Gives the question that is to be asked, if any."""
        key, peer = _row(account), self._peer_of(account)
        own_row, peer_row = self._store.statement(key, self._party), self._store.statement(key, peer)
        if own_row is None or peer_row is None:
            return []
        if own_row["end_ms"] != peer_row["end_ms"]:
            return []  # The length of intervals was changed in between.
        own, theirs = decode(own_row["encoding"]), decode(peer_row["encoding"])
        assert isinstance(own, ScoreStatement) and isinstance(theirs, ScoreStatement)
        now_ms = self._now_ms()
        verdict = self._store.verdict(key)
        is_same = verdict is not None and (verdict["own_digest"], verdict["peer_digest"]) == (own.digest, theirs.digest)
        if verdict is not None and is_same:
            if verdict["status"] != ASKING or verdict["asked_at_ms"] >= now_ms - ASK_AGAIN_MS:
                return []
            buckets = tuple(verdict["open_buckets"])
            self._store.put_verdict({**verdict, "asked_at_ms": now_ms})
        else:
            buckets = compare(own, theirs)
            fresh = {
                **key,
                "status": ASKING if buckets else AGREED,
                "own_digest": own.digest,
                "peer_digest": theirs.digest,
                "open_buckets": list(buckets),
                "decided_at_ms": now_ms,
                "asked_at_ms": now_ms,
            }
            self._store.put_verdict(fresh, forget=True)
        if not buckets:
            return []
        names = (account.guest, account.host, account.start_ms, account.model, account.version, account.answered)
        return [(peer, LeavesWanted(*names, buckets))]

    def _check_parties(self, sender: str, account: Account) -> None:
        if sender not in self._peers or {account.guest, account.host} != {self._party, sender}:
            raise RefusedError(f"{sender} speaks of an account between {account.guest} and {account.host}")
        for text in (account.model, account.version):
            if len(text) > TEXT_CHARACTERS or "\0" in text:
                raise RefusedError(f"{sender} speaks of a model with a name of {len(text)} characters")

    def _peer_of(self, account: Account) -> str:
        return account.host if account.guest == self._party else account.guest


def _row(account: Account) -> Row:
    return dict(vars(account))


def _texts(account: Account) -> tuple[str, str, str, str, int]:
    return account.guest, account.host, account.model, account.version, account.start_ms


def _statement_row(statement: ScoreStatement, *, is_sent: bool) -> Row:
    return {
        **_row(account_of(statement)),
        "sender": statement.sender,
        "end_ms": statement.interval_end_ms,
        "made_at_ms": statement.made_at_ms,
        "count": statement.count,
        "value_sum": statement.value_sum,
        "digest": statement.digest,
        "encoding": encode(statement),
        "sent": is_sent,
    }
