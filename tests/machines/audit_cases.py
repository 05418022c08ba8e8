"""Two parties' auditors with signing keys, and lists of what crossed between them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.audit import CrossedEnvelope, EnvelopesCrossed
from schemas.audit_statements import AUDIT, AuditContradicted, AuditCountersigned, AuditStatement
from schemas.jobs import JobSucceeded
from schemas.record import Record
from streams.kernels.trails import StreamName
from streams.machines.audit import AuditMachine
from streams.machines.audit.machine import SPEAK
from tests.machines.driver import Driver

ACME, GLOBEX = "acme", "globex"
JOB = "job-1"
MANIFEST = b"manifest" * 4
OUT = StreamName(ACME, GLOBEX, "train", "train")
BACK = StreamName(GLOBEX, ACME, "train", "train")
KEYS = {
    party: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(party.encode()).digest()) for party in (ACME, GLOBEX)
}

#: (sequence, chunk, digest)
Sealed = tuple[int, int, bytes]


@dataclass(frozen=True)
class Keys:
    """Signs for one party, and knows the keys of both."""

    party: str

    def sign(self, message: bytes) -> bytes:
        return KEYS[self.party].sign(message)

    def has_signed(self, peer: str, message: bytes, signature: bytes) -> bool:
        try:
            KEYS[peer].public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True


def make_machine(party: str) -> AuditMachine:
    return AuditMachine(party, Keys(party), MANIFEST, [MANIFEST])


def make_driver(*, restores: bool = False) -> Driver:
    return Driver({(party, AUDIT): make_machine(party) for party in (ACME, GLOBEX)}, JOB, restores=restores)


def sealed(count: int, text: str = "", start: int = 0) -> list[Sealed]:
    """So many records of a stream."""
    return [(number, 0, hashlib.sha256(f"{text}{number}".encode()).digest()) for number in range(start, start + count)]


def crossed(party: str, name: StreamName, records: Iterable[Sealed]) -> EnvelopesCrossed:
    """What the party writes down of them."""
    is_sent = party == name.sender
    peer = name.receiver if is_sent else name.sender
    entries = tuple(CrossedEnvelope(peer, name.origin, name.stage, is_sent, *record) for record in records)
    return EnvelopesCrossed(JOB, party, name.stage, MANIFEST, entries)


def tell(driver: Driver, party: str, *records: Record) -> None:
    """What the party's own topics say, one after the other."""
    for record in records:
        driver.send(party, AUDIT, record)
    driver.run()


def over(party: str) -> JobSucceeded:
    return JobSucceeded(JOB, party)


def speak(driver: Driver, *names: str) -> None:
    """Let timers fire and records travel until neither auditor has anything to say; by default without patience."""
    for _ in range(100):
        due = [
            (place, name) for place, timers in driver.timers.items() for name in (names or (SPEAK,)) if name in timers
        ]
        if not due:
            return
        for (party, stage), name in due:
            driver.fire(party, stage, name)
        driver.run()
    raise AssertionError("they do not come to rest")


def said(driver: Driver, party: str) -> list[AuditStatement]:
    return [r for r in driver.results[party] if isinstance(r, AuditStatement) and r.party == party]


def countersigned(driver: Driver, party: str) -> list[AuditCountersigned]:
    """What the party counter-signed, as it has it."""
    return [r for r in driver.results[party] if isinstance(r, AuditCountersigned) and r.party == party]


def contradicted(driver: Driver, party: str) -> list[AuditContradicted]:
    return [r for r in driver.results[party] if isinstance(r, AuditContradicted) and r.party == party]
