"""What both roles do with a peer: order, blind and double points, and check what the peer announces and sends."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from schemas.alignment import AlignReady, BlindedPoints
from schemas.alignment_states import AlignLink, AlignSetup
from schemas.digests import digest_of
from schemas.record import Blob
from streams.identifiers import Identifiers
from streams.kernels.entropy import Secret, job_seed, permutation, prf
from streams.kernels.ristretto import MATCH_BYTES, POINT_BYTES, TAG_BYTES, blind_ids, multiply, scalar, tag_points
from streams.machines.align.protocol import MAX_CHUNK_POINTS, MAX_CHUNKS, MAX_ROWS, NONCE_BYTES
from streams.machines.task import violation

#: Not a secret: makes `prf` a hash of labelled, length-prefixed fields.
_PUBLIC = b"isthmus align, version 1"


def count_chunks(rows: int, chunk_points: int) -> int:
    """Chunks that cover so many rows."""
    return -(-rows // chunk_points)


def announce(secret: Secret, setup: AlignSetup, peer: str) -> AlignReady:
    """What this party's table will be sent to the peer as."""
    chunks = count_chunks(setup.rows, setup.chunk_points)
    seed = job_seed(secret, setup.job_id)
    nonce = prf(seed, "align/nonce", peer, setup.fingerprint, setup.spec_digest)
    return AlignReady(setup.job_id, setup.rows, setup.chunk_points, chunks, setup.spec_digest, nonce)


def check_ready(setup: AlignSetup, sender: str, ready: AlignReady) -> None:
    """Refuse an announcement that is beyond the limits, or of another job. Raises `RefusalError`."""
    if ready.spec_digest != setup.spec_digest:
        raise violation(sender, f"{sender} aligns for another spec than the one that {setup.job_id} was approved with")
    if len(ready.nonce) != NONCE_BYTES:
        raise violation(sender, f"{sender} announces a nonce of {len(ready.nonce)} bytes instead of {NONCE_BYTES}")
    if not 1 <= ready.rows <= MAX_ROWS:
        raise violation(sender, f"{sender} announces {ready.rows} rows; 1 to {MAX_ROWS} are allowed")
    if not 1 <= ready.chunk_points <= MAX_CHUNK_POINTS:
        raise violation(sender, f"{sender} announces {ready.chunk_points} points a chunk; at most {MAX_CHUNK_POINTS}")
    if ready.chunks != count_chunks(ready.rows, ready.chunk_points) or ready.chunks > MAX_CHUNKS:
        raise violation(
            sender,
            f"{sender} announces {ready.chunks} chunks of {ready.chunk_points} points for {ready.rows} rows;"
            f" they must fit, and be at most {MAX_CHUNKS}",
        )


def is_known(link: AlignLink, ready: AlignReady) -> bool:
    """Whether the peer announced this before. Raises `RefusalError` when it announced something else."""
    if link.ready is not None and link.ready != ready:
        raise violation(link.party, f"{link.party} announced its table twice, differently")
    return link.ready is not None


def shuffle(secret: Secret, setup: AlignSetup, peer: str) -> NDArray[np.uint32]:
    """The order in which `peer` sees the own rows: entry k is the own row at position k."""
    seed = job_seed(secret, setup.job_id)
    return permutation(prf(seed, "align/order", peer, setup.fingerprint, setup.spec_digest), setup.rows)


def cut_ids(ids: Identifiers, order: NDArray[np.uint32], chunk_points: int) -> tuple[Blob, ...]:
    """Identifiers in this order, a chunk a blob."""
    chunks = (order[start : start + chunk_points] for start in range(0, len(order), chunk_points))
    return tuple(Blob.of(json.dumps(ids.pick(chunk)).encode()) for chunk in chunks)


def blind(secret: Secret, setup: AlignSetup, own: str, link: AlignLink) -> BlindedPoints:
    """The next own chunk for the peer: hashed to points, times the own exponent."""
    ids: list[str] = json.loads(link.ids[link.sent].content)
    points = blind_ids(ids, _hash_context(setup, own, link.party), _exponent(secret, setup, own, link))
    return BlindedPoints(setup.job_id, link.sent, points)


def double(secret: Secret, setup: AlignSetup, own: str, link: AlignLink, record: BlindedPoints) -> bytes:
    """The peer's next chunk times the own exponent, digested: 32 bytes a point. Raises `RefusalError`."""
    expected = chunk_rows(link, record.chunk) * POINT_BYTES
    if len(record.points) != expected:
        raise violation(
            link.party, f"chunk {record.chunk} of points has {len(record.points)} bytes instead of {expected}"
        )
    try:
        doubled = multiply(record.points, _exponent(secret, setup, own, link))
    except ValueError as error:
        raise violation(link.party, f"chunk {record.chunk} of points: {error}") from error
    return tag_points(doubled, _transcript(secret, setup, own, link))


def ready_of(link: AlignLink) -> AlignReady:
    """The peer's announcement, which must be there before anything else of the peer's. Raises `RefusalError`."""
    if link.ready is None:
        raise violation(link.party, f"{link.party} sends before it announced what")
    return link.ready


def chunk_rows(link: AlignLink, chunk: int) -> int:
    """How many rows of the peer's are in this chunk."""
    ready = ready_of(link)
    return min(ready.chunk_points, ready.rows - chunk * ready.chunk_points)


def is_repeated(link: AlignLink, chunk: int, taken: int, total: int, what: str) -> bool:
    """Whether the chunk was taken before. Raises `RefusalError` when it is not the next one either."""
    if 0 <= chunk < taken:
        return True
    if chunk != taken or chunk >= total:
        raise violation(link.party, f"chunk {chunk} of {what} came when {taken} of {total} were there")
    return False


def split_tags(tags: bytes) -> tuple[bytes, bytes]:
    """(first halves, second halves) of joined 32-byte digests."""
    table = np.frombuffer(tags, dtype=np.uint8).reshape(-1, TAG_BYTES)
    return table[:, :MATCH_BYTES].tobytes(), table[:, MATCH_BYTES:].tobytes()


def _pair(setup: AlignSetup, own: str, peer: str) -> tuple[str, str]:
    """(guest, host)."""
    return (own, peer) if own == setup.guest else (peer, own)


def _hash_context(setup: AlignSetup, own: str, peer: str) -> bytes:
    return prf(_PUBLIC, "hash", setup.job_id, setup.id_type, *_pair(setup, own, peer))


def _transcript(secret: Secret, setup: AlignSetup, own: str, link: AlignLink) -> bytes:
    """What both sides agree on before points travel; the digests' domain."""
    readies = {own: digest_of(announce(secret, setup, link.party)), link.party: digest_of(ready_of(link))}
    guest, host = _pair(setup, own, link.party)
    return prf(_PUBLIC, "transcript", setup.job_id, guest, host, readies[guest], readies[host])


def _exponent(secret: Secret, setup: AlignSetup, own: str, link: AlignLink) -> bytes:
    """The own exponent for this job, this pair and this purpose; another table or another peer's table, another one."""
    seed = job_seed(secret, setup.job_id)
    return scalar(prf(seed, "align/exponent/intersection", _transcript(secret, setup, own, link), setup.fingerprint))
