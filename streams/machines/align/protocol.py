"""ECDH-PSI on ristretto255 (Meadows 1986; Huberman, Franklin, Hogg 1999; draft-wang-ppm-ecdh-psi), as one table.

    guest                                                     host
      AlignReady              <------------------------>      AlignReady          sizes, chunk counts, spec digest
      BlindedPoints  (a P(x), guest's shuffled order)   -->                       N_G chunks
                                                        <--   BlindedPoints       N_H chunks: b P(y), host's order
                                                        <--   DoubleBlindedTags   first half of H(b a P(x)), N_G chunks
      MatchedRows    (positions of b P(y), second half of H(a b P(y)))  -->
                                                        <--   MatchConfirmed

Both sides blind and double at the same time, a chunk a step. The exponents a and b are fresh for each (job, guest,
host) and for this purpose only; the digest H is bound to the job, both parties and both Readys. With several hosts the
guest runs this with each, keeps the rows that all of them have, and sends each host the positions of these only.

Group: ristretto255 (RFC 9496) and not X25519 with SHA-256(id) as u-coordinate. There, whether u lies on the curve or on
its twist survives blinding: one bit of every identifier is visible to everybody, and halves a dictionary. Ristretto's
map gives points of one prime-order group, and its decoder refuses everything else.

Leaks
| who    | learns                                                        | does not learn                     |
|--------|---------------------------------------------------------------|------------------------------------|
| guest  | each host's table size; which own rows each host has          | identifiers of a host outside them |
| host   | the guest's table size; which own rows are joint at last      | identifiers of the guest outside   |
| broker | sizes and timing; the number of joint rows from record sizes  | identifiers, tags, positions       |

Checks. A host takes a position only with the second half of a digest that one of its rows and a row of the guest have
in common, each once: a guest cannot list more rows than it shares, nor any if it shares none. It can still put a
position that it does not share in the place of one that it does (it cannot know whose that is): to tell these apart
the host would need a proof of equal discrete logarithms (RFC 9497, section 2.2), which is not made. Feeding invented
identifiers is a matter of approval and of the sizes that are announced here.
"""

from __future__ import annotations

from schemas.alignment import (
    AlignmentReady,
    AlignReady,
    BlindedPoints,
    ContinueBlinding,
    ContinueMatching,
    DoubleBlindedTags,
    MatchConfirmed,
    MatchedRows,
)
from schemas.alignment_states import AlignPhase
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StartTask,
    StopTask,
    TaskFailed,
    TaskProgressed,
    TaskStarted,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from streams.machines.transition import Transition

#: Points in a chunk of ours: 512 KiB, and about a second of work at 62 microseconds a point; the native kernel takes 7.
CHUNK_POINTS = 16_384
#: Points in a chunk of a peer's at most: 28,000 * 32 bytes stay below the 900 KB of a record.
MAX_CHUNK_POINTS = 28_000
#: Rows of a table at most: 90 minutes of work for 50 million rows each, at 62 + 49 microseconds; natively 7 + 6.
MAX_ROWS = 50_000_000
#: Chunks of a table at most, whatever their size: each is a step, and up to four names of 40 bytes in the state.
MAX_CHUNKS = 4_000

#: A nonce tells two tables of one party apart in one job.
NONCE_BYTES = 32

#: What peers may send; everything else comes from the own party only.
PEER_RECORDS: frozenset[type[Record]] = frozenset(
    {AlignReady, BlindedPoints, DoubleBlindedTags, MatchedRows, MatchConfirmed}
)

_P = AlignPhase
_SENDING = (ContinueBlinding, BlindedPoints, TaskProgressed)


def _ends(role: str) -> tuple[Transition, ...]:
    """What every phase of a role answers to the end from outside."""
    live = (_P.WAITING, _P.BLINDING, _P.MATCHING) + ((_P.CONFIRMING,) if role == "guest" else ())
    rows: list[Transition] = []
    for phase in live:
        rows.append(Transition(role, phase, StopTask, (_P.ENDED,)))
        rows.append(Transition(role, phase, LocalFault, (_P.ENDED,), (TaskFailed,)))
        # Before the start nobody is a peer yet: what was wrong is kept until it is known who takes part.
        to = phase if phase is _P.WAITING else _P.ENDED
        rows.append(Transition(role, phase, PeerFault, (to,), () if phase is _P.WAITING else (TaskFailed,)))
        if phase is not _P.WAITING:
            rows.append(Transition(role, phase, TimerFired, (phase,), (TaskSuspended,)))
    return tuple(rows)


#: `TaskResumed` may come with any record of a peer, `TaskFailed` with any record at all.
TRANSITIONS: tuple[Transition, ...] = (
    Transition("guest", _P.WAITING, StartTask, (_P.BLINDING,), (TaskStarted, AlignReady, ContinueBlinding)),
    Transition("guest", _P.WAITING, AlignReady, (_P.WAITING,)),
    Transition("guest", _P.BLINDING, AlignReady, (_P.BLINDING,), (ContinueBlinding,)),
    Transition("guest", _P.BLINDING, ContinueBlinding, (_P.BLINDING,), _SENDING),
    Transition("guest", _P.BLINDING, BlindedPoints, (_P.BLINDING, _P.MATCHING), (ContinueMatching, TaskProgressed)),
    Transition("guest", _P.BLINDING, DoubleBlindedTags, (_P.BLINDING, _P.MATCHING), (ContinueMatching,)),
    Transition(
        "guest", _P.MATCHING, ContinueMatching, (_P.MATCHING, _P.CONFIRMING, _P.ENDED), (MatchedRows, ContinueMatching)
    ),
    Transition("guest", _P.CONFIRMING, MatchConfirmed, (_P.CONFIRMING, _P.ENDED), (AlignmentReady, TaskSucceeded)),
    *_ends("guest"),
    Transition("host", _P.WAITING, StartTask, (_P.BLINDING,), (TaskStarted, AlignReady, ContinueBlinding)),
    Transition("host", _P.WAITING, AlignReady, (_P.WAITING,)),
    Transition("host", _P.BLINDING, AlignReady, (_P.BLINDING,), (ContinueBlinding,)),
    Transition("host", _P.BLINDING, ContinueBlinding, (_P.BLINDING, _P.MATCHING), _SENDING),
    Transition("host", _P.BLINDING, BlindedPoints, (_P.BLINDING, _P.MATCHING), (DoubleBlindedTags, TaskProgressed)),
    Transition(
        "host", _P.MATCHING, MatchedRows, (_P.MATCHING, _P.ENDED), (MatchConfirmed, AlignmentReady, TaskSucceeded)
    ),
    *_ends("host"),
)
