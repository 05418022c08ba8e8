"""What sealing costs: a scoring record of 1 kB, a chunk of a training record, and the share of a whole job's time.

Beside each, in the same run, the cipher alone (AES-256-GCM-SIV of the same bytes, the key schedule ready): the rest is
what binds a record to its place and its manifest, and its Avro envelope.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from benchmarks._timing import seconds_per_item
from schemas.codec import decode, encode
from schemas.envelope import SealedRecord, SealedState
from streams import kem
from streams.engine.agreement import Agreement
from streams.engine.chunks import CHUNK_BYTES
from streams.engine.messages import MessageSeal
from streams.engine.seal import Keyring, Stream
from streams.engine.storage_seal import NONCE_BYTES

BANK, SHOP = "bank", "shop"
TOPIC = "vfl.score.questions.shop.v1"
#: Any record of 1 kB.
RECORD = SealedState(bytes(12), bytes(range(250)) * 4)
ROUNDS, CHUNKS = 2_000, 20
#: For sealing a scoring record, and for opening it.
LIMIT_US = 30.0
#: Of a training job's time.
LIMIT_SHARE = 0.05


def run() -> dict[str, Any]:
    """Microseconds of processor time; ratios to the cipher alone."""
    bank, shop = (_keyring(party, peer) for party, peer in ((BANK, SHOP), (SHOP, BANK)))
    sender, receiver = MessageSeal(bank, "score"), MessageSeal(shop, "score")
    sealed = sender.seal(RECORD, SHOP, TOPIC, 0)
    seal_us = _microseconds(lambda: sender.seal(RECORD, SHOP, TOPIC, 0), ROUNDS)
    open_us = _microseconds(lambda: receiver.open(sealed, TOPIC, 0), ROUNDS)
    cipher_us = _microseconds(_cipher_alone(encode(RECORD)), ROUNDS)
    stream, chunk = Stream(BANK, SHOP, "job-1", "train", "train"), bytes(CHUNK_BYTES)
    envelope = encode(bank.seal(stream, 0, chunk))
    chunk_seal_us = _microseconds(lambda: encode(bank.seal(stream, 0, chunk)), CHUNKS)
    chunk_open_us = _microseconds(lambda: shop.open(_envelope(envelope)), CHUNKS)
    chunk_cipher_us = _microseconds(_cipher_alone(chunk), CHUNKS)
    job = _demo()
    sealing_s = job["bytes"] * (chunk_seal_us + chunk_open_us) / CHUNK_BYTES / 1e6
    return {
        "record_bytes": len(encode(RECORD)),
        "seal_us": seal_us,
        "open_us": open_us,
        "limit_us": LIMIT_US,
        "cipher_us": cipher_us,
        "seal_to_cipher": seal_us / cipher_us,
        "chunk_bytes": CHUNK_BYTES,
        "chunk_seal_us": chunk_seal_us,
        "chunk_open_us": chunk_open_us,
        "chunk_cipher_us": chunk_cipher_us,
        "chunk_seal_to_cipher": chunk_seal_us / chunk_cipher_us,
        "job": job,
        "job_share": sealing_s / job["seconds"],
        "limit_share": LIMIT_SHARE,
    }


def _microseconds(work: Callable[[], object], times: int) -> float:
    def repeat() -> None:
        for _ in range(times):
            work()

    return 1e6 * seconds_per_item(repeat, times)


def _cipher_alone(content: bytes) -> Callable[[], object]:
    cipher, nonce = AESGCMSIV(bytes(32)), bytes(NONCE_BYTES)
    return lambda: cipher.encrypt(nonce, content, b"")


def _keyring(party: str, peer: str) -> Keyring:
    private = {BANK: b"b" * 32, SHOP: b"s" * 32}
    public = X25519PrivateKey.from_private_bytes(private[peer]).public_key().public_bytes_raw()
    return Keyring(
        party,
        Agreement(private[party], {peer: public}, b"m" * 32, private[party], {peer: kem.public_key_of(private[peer])}),
        b"k" * 32,
    )


def _envelope(value: bytes) -> SealedRecord:
    envelope = decode(value)
    assert isinstance(envelope, SealedRecord)
    return envelope


def _demo() -> dict[str, Any]:
    """What crosses between two parties in the demo's job, and how long that takes."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "producers.cli", "demo", "--json", "--folder", str(Path(name) / "demo")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    summary = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": summary["seconds"], "bytes": sum(summary["bytes_by_stage"].values())}
