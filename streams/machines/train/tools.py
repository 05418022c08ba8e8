"""What a state's bytes stand for, built once a process: arrays, keys with their tables, preconditioners.

Every function here is pure; the caches only spare the work of building the same thing at every step.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.jobs import Role
from schemas.record import Blob
from schemas.training_states import GuestTraining, HostTraining, TrainSetup
from streams.kernels.entropy import prf
from streams.kernels.fixed_point import linear_predictor
from streams.kernels.guest_fit import penalties
from streams.kernels.paillier import OwnerEncryptor, PrivateKey, PublicKey, Refresher
from streams.kernels.residual_product import ProductLayout
from streams.kernels.step_rule import Preconditioner, fit_preconditioner
from streams.machines.train.plan import TrainPlan, make_plan

Training = GuestTraining | HostTraining


@functools.lru_cache(maxsize=8)
def _features(blob: Blob, columns: int) -> NDArray[np.int32]:
    return np.frombuffer(blob.content, dtype="<i4").reshape(-1, columns)


def role_of(setup: TrainSetup) -> Role:
    """Whose setup this is: only the guest has a label."""
    return Role.HOST if setup.label is None else Role.GUEST


def own_width(setup: TrainSetup) -> int:
    """Columns of the own features, the guest's intercept included."""
    return len(setup.columns) + (0 if setup.label is None else 1)


def features_of(setup: TrainSetup) -> NDArray[np.int32]:
    """The own features, shape (rows, `own_width`)."""
    return _features(setup.features, own_width(setup))


def label_of(setup: TrainSetup) -> NDArray[np.int8]:
    """The guest's label, shape (rows,)."""
    assert setup.label is not None
    return np.frombuffer(setup.label.content, dtype=np.int8)


def own_logits(setup: TrainSetup, weights: Sequence[int], rows: slice) -> NDArray[np.int64]:
    """The own part of the logits of some rows, 20 fractional bits."""
    return linear_predictor(features_of(setup)[rows], weights)


def penalty_of(setup: TrainSetup) -> tuple[float, ...]:
    """l2 a column, 0 for the intercept."""
    return penalties(own_width(setup), setup.spec.train.l2, intercept=setup.label is not None)


@functools.lru_cache(maxsize=8)
def _preconditioner(blob: Blob, columns: int, penalty: tuple[float, ...]) -> Preconditioner:
    return fit_preconditioner(_features(blob, columns), penalty)


def preconditioner_of(setup: TrainSetup) -> Preconditioner:
    """The own block of the step rule."""
    return _preconditioner(setup.features, own_width(setup), penalty_of(setup))


def plan_of(setup: TrainSetup, most_chunk_rows: int) -> TrainPlan:
    """The schedule, once the peer's Ready is known."""
    own, peer = len(setup.columns), setup.peer_columns
    guest, host = (own, peer) if role_of(setup) is Role.GUEST else (peer, own)
    return make_plan(setup.spec.train, setup.rows, guest, host, most_chunk_rows)


@functools.lru_cache(maxsize=8)
def _private_key(prime_p: bytes, prime_q: bytes) -> PrivateKey:
    return PrivateKey(int.from_bytes(prime_p, "big"), int.from_bytes(prime_q, "big"))


def private_key(setup: TrainSetup) -> PrivateKey:
    """The own key of the job."""
    return _private_key(setup.prime_p, setup.prime_q)


def own_encryptor(setup: TrainSetup) -> OwnerEncryptor:
    """Encrypts under the own key."""
    return OwnerEncryptor(private_key(setup), setup.spec.train.key_profile)


@functools.lru_cache(maxsize=8)
def _public_key(modulus: bytes) -> PublicKey:
    return PublicKey(int.from_bytes(modulus, "big"))


def peer_key(setup: TrainSetup) -> PublicKey:
    """The peer's key, which was checked when its Ready came."""
    return _public_key(setup.peer_modulus)


def refresher_of(seed: bytes, setup: TrainSetup) -> Refresher:
    """Refreshes ciphertexts toward the peer, from bases that only this party knows."""
    return Refresher(peer_key(setup), prf(seed, "train refresh bases", setup.job_id, setup.peer, setup.peer_modulus))


def join_integers(values: Sequence[int], layout: ProductLayout) -> bytes:
    """Integers modulo 2^share_bits, fixed width, for the own state."""
    width = (layout.share_bits + 7) // 8
    return b"".join(int(value).to_bytes(width, "big") for value in values)


def split_integers(data: bytes, layout: ProductLayout) -> list[int]:
    """Read what `join_integers` wrote."""
    width = (layout.share_bits + 7) // 8
    return [int.from_bytes(data[i : i + width], "big") for i in range(0, len(data), width)]


def key_digest(prime_p: bytes, prime_q: bytes) -> bytes:
    """A digest that binds masks to the own key."""
    return hashlib.sha256(len(prime_p).to_bytes(4, "big") + prime_p + prime_q).digest()
