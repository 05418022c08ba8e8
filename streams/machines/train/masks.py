"""Where a party's pads and encryption randomness come from, and what they are bound to.

A mask that two different runs share gives their difference away. So each key is a PRF value of the job's seed and of
everything that the masked value depends on: the purpose, the place in the protocol, all input so far, and the private
inputs (columns, label, key, weights). An identical replay draws the same; a diverging one draws something else.
"""

from __future__ import annotations

import hashlib

from schemas.training_states import PassState, TrainingMemory, TrainSetup
from streams.kernels.entropy import Field, prf

_START = bytes(32)


def extend_digest(chain: bytes, label: str, *fields: Field) -> bytes:
    """The chain after one more input; an empty chain stands for the beginning."""
    return prf(chain or _START, label, *fields)


def private_digest(features: bytes, label: bytes, key: bytes) -> bytes:
    """H of the private inputs that stay the same during the task, each given by its own digest or in full."""
    return prf(_START, "train private inputs", features, label, key)


def mask_key(
    seed: bytes, purpose: str, setup: TrainSetup, memory: TrainingMemory, current: PassState, *inputs: Field
) -> bytes:
    """The key of one purpose in one pass. `inputs` name the chunk and the digests of what came in during the pass."""
    weights = hashlib.sha256(b"".join(weight.to_bytes(16, "big", signed=True) for weight in memory.weights)).digest()
    return prf(
        seed,
        f"train {purpose}",
        setup.job_id,
        setup.peer,
        setup.spec_digest,
        setup.private_digest,
        setup.peer_modulus,
        memory.transcript,
        weights,
        current.pass_index,
        current.rank,
        *inputs,
    )
