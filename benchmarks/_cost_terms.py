"""How many operations and bytes a pass of training takes, and how long this machine takes for one of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks._timing import seconds_per_item
from benchmarks.train_arithmetic import GUEST, HOST
from streams.kernels.entropy import Draws, prf
from streams.kernels.fixed_point import FX
from streams.kernels.paillier import Ciphertext, OwnerEncryptor, Refresher, decrypt_many, generate_keys
from streams.kernels.residual_product import add_products
from streams.kernels.split_link import combine_rows
from streams.machines.train.plan import TrainPlan, link_table

#: One each is timed.
OPERATIONS: Final = ("encrypt", "decrypt", "refresh", "combine", "multiply")
#: Ciphertexts that are timed together, and columns of a product.
SAMPLE: Final = 192
COLUMNS: Final = 12
SEED: Final = bytes(range(32))


@dataclass(frozen=True)
class Load:
    """One pass: operations of each party, bytes that it sends, records between both.

    `combine` counts rows, `multiply` rows times columns, the others ciphertexts.
    """

    operations: dict[str, Counter[str]] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    records: int = 0


@dataclass(frozen=True)
class Units:
    """Processor seconds of one operation each."""

    each: dict[str, float]

    def seconds(self, load: Load, party: str) -> float:
        """A party's processor seconds for the load."""
        return sum(self.each[name] * count for name, count in load.operations[party].items())


def count_load(plan: TrainPlan, rank: int) -> Load:
    """One pass of this rank; 0 is the first, in which the guest knows the residuals (`docs/protocols/train.md`)."""
    width = plan.train.key_bits // 4
    chunks = [plan.chunk(rank, index) for index in range(plan.chunks(rank))]
    sizes = [chunk.stop - chunk.start for chunk in chunks]
    layout = plan.product_layout(rank)
    packed = sum(layout.convolution.plaintext_count(size) for size in sizes)
    shares = layout.share_bytes
    guest, host = plan.guest_columns, plan.host_columns
    if not rank:
        operations = {
            GUEST: Counter(encrypt=packed, decrypt=host),
            HOST: Counter(multiply=plan.rows * host, refresh=host),
        }
        # The host's weights are zero then, so that its logits need not be sent.
        sent = {GUEST: width * packed + shares * host, HOST: width * host}
        return Load(operations, sent, len(sizes) + 4)
    together = plan.split_layout(rank).slots.rows_per_plaintext
    groups = sum(-(-size // together) for size in sizes)
    operations = {
        GUEST: Counter(
            combine=plan.rows, refresh=groups + guest, encrypt=packed, multiply=plan.rows * guest, decrypt=host
        ),
        HOST: Counter(encrypt=plan.rows + packed, decrypt=groups + guest, multiply=plan.rows * host, refresh=host),
    }
    sent = {
        GUEST: width * (groups + packed + guest) + shares * host,
        HOST: width * (plan.rows + packed + host) + shares * guest,
    }
    return Load(operations, sent, 3 * len(sizes) + 4)


def measure_units(plan: TrainPlan, rank: int) -> Units:
    """Time each operation with the plan's layouts, on this machine and the path that computes here."""
    private = generate_keys(prf(SEED, "cost", plan.train.key_bits), plan.train.key_bits)
    public = private.public
    draws = np.random.default_rng(1)
    encryptor, refresher = OwnerEncryptor(private, plan.train.key_profile), Refresher(public, SEED)
    rows = min(plan.rows, plan.chunk_rows(rank))
    layout = plan.product_layout(rank)
    packed = layout.convolution.plaintext_count(rows)
    given = list(encryptor.encrypt_many(range(max(SAMPLE, packed)), Draws(SEED)))
    features = np.clip(draws.normal(size=(rows, COLUMNS)) * (1 << FX), -8 << FX, 8 << FX).astype(np.int32)
    plaintexts = [int(value) for value in draws.integers(0, 1 << 62, SAMPLE)]
    works: dict[str, tuple[Callable[[], object], int]] = {
        "encrypt": (lambda: encryptor.encrypt_many(plaintexts, Draws(SEED)), SAMPLE),
        "decrypt": (lambda: decrypt_many(private, given[:SAMPLE]), SAMPLE),
        "refresh": (lambda: refresher.refresh_many(given[:SAMPLE], Draws(SEED)), SAMPLE),
        "multiply": (lambda: add_products([], given[:packed], features, layout, public), rows * COLUMNS),
    }
    if rank:
        split = plan.split_layout(rank)
        logits = draws.normal(size=SAMPLE * split.slots.rows_per_plaintext)
        phi = link_table(plan.train).phi((logits * (1 << 20)).astype(np.int64), rank)
        received: Sequence[Ciphertext] = (given * split.slots.rows_per_plaintext)[: len(logits)]
        works["combine"] = (lambda: combine_rows(received, phi[:, 1:], phi[:, 0], split, public), len(logits))
    return Units({name: seconds_per_item(work, items) for name, (work, items) in works.items()})
