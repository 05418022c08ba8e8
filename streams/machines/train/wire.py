"""Reading what a peer sent: everything that does not fit ends the task with blame, nothing else of theirs can."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from schemas.record import Record
from schemas.training_states import TrainSetup
from streams.kernels.fixed_point import LOGIT_BITS
from streams.kernels.paillier import Ciphertext, PublicKey, decode_ciphertexts
from streams.kernels.residual_product import ProductLayout, decode_shares
from streams.machines.task import RefusalError, violation

#: No logit is larger: weights are below 2^10 and standardised features at most 8, for 2^7 columns at their bounds.
MOST_LOGIT = 1 << 20


def refuse(setup: TrainSetup, record: Record, detail: str) -> RefusalError:
    """The error that blames the peer for this record."""
    return violation(setup.peer, f"{type(record).__name__}: {detail}")


def read_ciphertexts(setup: TrainSetup, record: Record, public: PublicKey, data: bytes, count: int) -> list[Ciphertext]:
    """Exactly `count` units modulo n^2. Raises RefusalError."""
    if len(data) != count * public.ciphertext_bytes:
        raise refuse(
            setup, record, f"{count} ciphertexts take {count * public.ciphertext_bytes} bytes, {len(data)} came"
        )
    try:
        return decode_ciphertexts(public, data)
    except ValueError as error:
        raise refuse(setup, record, str(error)) from error


def read_shares(setup: TrainSetup, record: Record, data: bytes, count: int, layout: ProductLayout) -> list[int]:
    """Exactly `count` cut shares. Raises RefusalError."""
    try:
        return decode_shares(data, count, layout)
    except ValueError as error:
        raise refuse(setup, record, str(error)) from error


def read_logits(setup: TrainSetup, record: Record, data: bytes, count: int) -> NDArray[np.int64]:
    """Exactly `count` logits with 20 fractional bits. Raises RefusalError."""
    if len(data) != 8 * count:
        raise refuse(setup, record, f"{count} logits take {8 * count} bytes, {len(data)} came")
    logits = np.frombuffer(data, dtype="<i8").astype(np.int64)
    limit = MOST_LOGIT << LOGIT_BITS
    if np.any((logits > limit) | (logits < -limit)):
        raise refuse(setup, record, f"a logit is beyond {MOST_LOGIT}")
    return logits


def check_numbers(setup: TrainSetup, record: Record, numbers: Iterable[float], count: int, name: str) -> None:
    """Exactly `count` finite numbers. Raises RefusalError."""
    values = tuple(numbers)
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise refuse(setup, record, f"{name} must be {count} finite numbers")
