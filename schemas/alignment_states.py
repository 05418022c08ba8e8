"""States of the align stage. Private to a party: they rest sealed only.

A state holds no exponent: it is derived anew from the party's secret in each step that needs it. Chunks of identifiers,
tags and joint rows are blobs, each written once; a step rewrites their names only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.alignment import AlignReady
from schemas.record import Blob, Record
from schemas.tasks import PeerFault


class AlignPhase(StrEnum):
    """Where a party stands; one table names the phases of both roles."""

    #: Nothing but early Readys; waits for StartTask.
    WAITING = "waiting"
    #: Blinded points and tags travel; with several hosts each pair at its own pace.
    BLINDING = "blinding"
    #: Guest: sends the joint rows. Host: receives them.
    MATCHING = "matching"
    #: Guest: waits for every host to confirm.
    CONFIRMING = "confirming"
    #: Over; ignores everything.
    ENDED = "ended"


@dataclass(frozen=True)
class EarlyReady(Record):
    """A Ready that came before the own StartTask."""

    party: str
    ready: AlignReady


@dataclass(frozen=True)
class AlignWaiting(Record):
    """Before StartTask."""

    job_id: str
    early: tuple[EarlyReady, ...] = ()
    #: What parties did wrong before it was known whether they take part.
    faults: tuple[PeerFault, ...] = ()


@dataclass(frozen=True)
class AlignEnded(Record):
    """After the end. `rows` keeps the joint rows that were handed on, if the end was a good one."""

    job_id: str
    rows: Blob | None = None


@dataclass(frozen=True)
class AlignSetup(Record):
    """What does not change during the task."""

    job_id: str
    guest: str
    id_type: str
    rows: int
    chunk_points: int
    spec_digest: bytes
    fingerprint: bytes
    patience_seconds: int


@dataclass(frozen=True)
class AlignLink(Record):
    """How far this party is with one peer."""

    party: str
    #: Own normalised identifiers in the order that was shuffled for this peer, a chunk a blob (JSON array of strings).
    ids: tuple[Blob, ...]
    ready: AlignReady | None = None
    #: Own chunks that were blinded and sent.
    sent: int = 0
    #: The peer's chunks, times the own exponent, digested. Guest: 32 bytes a point. Host: the last 16 of them.
    doubled: tuple[Blob, ...] = ()
    #: Guest: the host's tags of the own chunks, 16 bytes a point.
    returned: tuple[Blob, ...] = ()
    #: Guest: positions, then proofs, of each chunk of joint rows, to be sent. Host: positions received.
    matches: tuple[Blob, ...] = ()
    #: Host: proofs received.
    proofs: tuple[Blob, ...] = ()
    is_confirmed: bool = False


@dataclass(frozen=True)
class GuestAlignment(Record):
    """The guest between StartTask and the end. `links` are sorted by party."""

    phase: AlignPhase
    setup: AlignSetup
    links: tuple[AlignLink, ...]
    #: The joint rows of the own dataset, from MATCHING on, and how many chunks of them were sent.
    rows: Blob | None = None
    n_joint: int = 0
    matches_sent: int = 0
    #: The peer whose silence was told, or "".
    silent: str = ""


@dataclass(frozen=True)
class HostAlignment(Record):
    """A host between StartTask and the end."""

    phase: AlignPhase
    setup: AlignSetup
    link: AlignLink
    #: Announced with the first chunk of joint rows.
    n_joint: int = 0
    match_chunks: int = 0
    silent: str = ""
