"""Several numbers in one plaintext: slots of s bits, B = 2^s.

Row slots (split-link). The key owner encrypts, for row i, its R basis values as Psi_i = sum_k psi_ik B^k,
shifted by R (i mod L) slots. The peer raises to Phi_i = sum_k phi_ik B^(R-1-k); slot R-1 of the product is
sum_k phi_ik psi_ik, the other 2R-2 slots hold cross terms. Results of L rows with different shifts multiply
together into one ciphertext with R (L+1) - 1 slots.

Convolution slots. K numbers d_k as sum_k d_k B^k, raised to sum_k x_k B^(K-1-k): slot K-1 is sum_k d_k x_k,
with 2K-1 slots in all.

Either way the peer that computes adds a pad P that is uniform modulo n, over *all* slots, so the decryptor sees
a uniform number: as long as slots * s + 64 <= |n| - 2, the sum D + P wraps around n with probability below
2^-64, and where it does not, the two parties hold additive shares of every slot modulo 2^s:

    slot_j(D + P) - slot_j(P) = d_j + {-1, 0, 1}   modulo 2^s,   slot_j(Y) = floor(Y / B^j) mod B

(-1 when the lower slots of D are negative, +1 when adding P's lower slots carries). Values are signed; a slot
holds |value| < 2^(s-1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.ciphertexts import Ciphertext
from streams.kernels.multiexp import slotted_products
from streams.kernels.paillier_keys import PublicKey

#: Bits of head room above all slots: the probability that a padded plaintext wraps is below 2^-64.
PAD_BITS: Final = 64

#: Slots up to this size are computed in numpy's uint64, which wraps modulo 2^64.
_WORD_BITS: Final = 64

#: Shares of one slot modulo 2^s: uint64 up to 64 bits, Python integers (dtype object) above.
Shares = NDArray[Any]


def slot_bits_for(bound: int) -> int:
    """Bits of a slot for signed values of absolute value up to `bound`, with one unit to spare for carries."""
    return (bound + 1).bit_length() + 1


def usable_bits(modulus_bits: int) -> int:
    """Bits that slots may take together."""
    return modulus_bits - 2 - PAD_BITS


def slot_shares(values: Sequence[int], slots: Sequence[int], slot_bits: int) -> Shares:
    """floor(value / 2^(s slot)) mod 2^s for each pair: a share, of a pad or of a decrypted padded plaintext.

    Values are taken modulo n in [0, n): pass `value % n` of signed decryptions.
    """
    mask = (1 << slot_bits) - 1
    shares = [(value >> (slot_bits * slot)) & mask for value, slot in zip(values, slots, strict=True)]
    return np.array(shares, dtype=np.uint64 if slot_bits <= _WORD_BITS else object)


def weighted_shares(weights: NDArray[np.integer[Any]], shares: Shares, slot_bits: int) -> Shares:
    """weights^T @ shares modulo 2^s: `weights` (rows, features) signed, `shares` (rows,); gives (features,)."""
    if slot_bits <= _WORD_BITS:
        # Two's complement makes uint64 arithmetic modulo 2^64 right for negative weights; 2^s divides 2^64.
        unsigned = weights.astype(np.int64).view(np.uint64)
        total = (unsigned * shares.astype(np.uint64)[:, None]).sum(axis=0, dtype=np.uint64)
        return np.asarray(total & np.uint64((1 << slot_bits) - 1))
    total = (weights.astype(object) * shares.astype(object)[:, None]).sum(axis=0)
    return np.asarray(total % (1 << slot_bits), dtype=object)


def centre(share: int, slot_bits: int) -> int:
    """The representative of a residue modulo 2^s in [-2^(s-1), 2^(s-1))."""
    half = 1 << (slot_bits - 1)
    return (int(share) + half) % (1 << slot_bits) - half


@dataclass(frozen=True)
class SlotLayout:
    """Row slots: `rank` values a row, `rows_per_plaintext` rows a plaintext, `slot_bits` bits a slot."""

    rank: int
    rows_per_plaintext: int
    slot_bits: int

    @staticmethod
    def choose(modulus_bits: int, rank: int, bound: int) -> SlotLayout:
        """As many rows as fit when every slot, summed over all rows, stays in +-`bound`. ValueError if none fits."""
        slot_bits = slot_bits_for(bound)
        rows = usable_bits(modulus_bits) // slot_bits // rank - 1
        while (rank * (rows + 2) - 1) * slot_bits <= usable_bits(modulus_bits):
            rows += 1
        if rows < 1:
            raise ValueError(
                f"rank {rank} with slots of {slot_bits} bits needs {(2 * rank - 1) * slot_bits + PAD_BITS + 2} bits; "
                f"the modulus has {modulus_bits}: use a longer key, a lower rank or fewer fractional bits"
            )
        return SlotLayout(rank, rows, slot_bits)

    @property
    def slots(self) -> int:
        """Slots of a combined plaintext."""
        return self.rank * (self.rows_per_plaintext + 1) - 1

    def target_slot(self, row: int) -> int:
        """The slot of row `row` that holds its value."""
        return self.rank * (row % self.rows_per_plaintext) + self.rank - 1

    def target_slots(self) -> list[int]:
        """The target slots of one full plaintext."""
        return [self.target_slot(row) for row in range(self.rows_per_plaintext)]

    def basis_plaintexts(self, psi: NDArray[np.integer[Any]], first_row: int) -> list[int]:
        """Psi of each row, shifted by its row's place: `psi` (rows, rank); rows are numbered from `first_row`."""
        stride = self.slot_bits * self.rank
        rows = self.rows_per_plaintext
        packed = _polynomials(psi[:, ::-1], self.slot_bits)
        return [value << (stride * ((first_row + i) % rows)) for i, value in enumerate(packed)]

    def exponents(self, phi: NDArray[np.integer[Any]]) -> list[int]:
        """Phi of each row as one signed integer: `phi` (rows, rank)."""
        return _polynomials(phi, self.slot_bits)

    def at_target(self, value: int, row: int) -> int:
        """The plaintext that holds `value` in the row's target slot and nothing else."""
        return value << (self.slot_bits * self.target_slot(row))

    def row_shares(self, padded: Sequence[int], rows: int) -> Shares:
        """Shares of `rows` consecutive rows, the first at place 0, from one number per group of rows."""
        per = self.rows_per_plaintext
        if len(padded) != -(-rows // per):
            raise ValueError(
                f"{rows} rows at {per} rows a plaintext need {-(-rows // per)} plaintexts, not {len(padded)}"
            )
        return slot_shares(
            [padded[row // per] for row in range(rows)], [self.target_slot(row) for row in range(rows)], self.slot_bits
        )

    def summed_share(self, padded: int) -> int:
        """The share of the sum over all target slots, modulo 2^s (a gradient sums rows of every place)."""
        shares = (padded >> (self.slot_bits * slot) for slot in self.target_slots())
        return sum(shares) % (1 << self.slot_bits)


def row_slot_bound(phi_max: Sequence[int], psi_max: Sequence[int], offset_max: int, weight_max: int, rows: int) -> int:
    """The largest absolute value a row slot can take when `rows` rows with weights up to `weight_max` are summed.

    `phi_max`, `psi_max`: per k, the largest absolute integer of the tables; `offset_max`: of what is added in
    the target slot.
    """
    rank = len(phi_max)
    if len(psi_max) != rank:
        raise ValueError(f"{rank} phi functions came with {len(psi_max)} psi functions")
    slots = [0] * (2 * rank - 1)
    for k, psi in enumerate(psi_max):
        for m, phi in enumerate(phi_max):
            slots[k + rank - 1 - m] += psi * phi
    slots[rank - 1] += offset_max
    return max(slots) * weight_max * rows


@dataclass(frozen=True)
class ConvolutionLayout:
    """Convolution slots: `values_per_plaintext` numbers (K) a plaintext, `slot_bits` bits a slot."""

    values_per_plaintext: int
    slot_bits: int

    @staticmethod
    def choose(modulus_bits: int, bound: int) -> ConvolutionLayout:
        """As many values as fit when every slot stays within +-`bound` after all sums. ValueError if none fits."""
        slot_bits = slot_bits_for(bound)
        slots = usable_bits(modulus_bits) // slot_bits
        if slots < 1:
            raise ValueError(
                f"a slot of {slot_bits} bits with {PAD_BITS + 2} bits of head room does not fit a modulus of "
                f"{modulus_bits} bits: use a longer key or smaller values"
            )
        return ConvolutionLayout((slots + 1) // 2, slot_bits)

    @property
    def slots(self) -> int:
        """Slots of a product."""
        return 2 * self.values_per_plaintext - 1

    @property
    def target_slot(self) -> int:
        """The slot that holds the scalar product: the middle one."""
        return self.values_per_plaintext - 1

    def plaintext_count(self, values: int) -> int:
        """Plaintexts for that many values."""
        return -(-values // self.values_per_plaintext)

    def pack(self, values: Sequence[int] | NDArray[Any]) -> list[int]:
        """Pack signed or unsigned integers, K at a time; the last plaintext may be partly empty."""
        per = self.values_per_plaintext
        numbers = [int(value) for value in values]
        return [_polynomial(numbers[i : i + per][::-1], self.slot_bits) for i in range(0, len(numbers), per)]

    def share(self, padded: int) -> int:
        """The share of the scalar product."""
        return (padded >> (self.slot_bits * self.target_slot)) % (1 << self.slot_bits)


def convolve(
    ciphertexts: Sequence[Ciphertext],
    weights: NDArray[np.integer[Any]],
    layout: ConvolutionLayout,
    public: PublicKey,
) -> list[Ciphertext]:
    """For each column j of `weights` (rows, features) a ciphertext whose middle slot is sum_i weights[i, j] * value_i.

    The other slots hold cross terms: pad all of them, refresh, and let the decryptor return the middle slot only.
    Longer inputs are cheaper a row: one call for a whole pass beats many for its chunks.
    """
    rows, features = weights.shape
    per = layout.values_per_plaintext
    groups = layout.plaintext_count(rows)
    if layout.slots * layout.slot_bits > usable_bits(public.bits):
        raise ValueError(f"{layout} does not leave {PAD_BITS} bits of head room in a modulus of {public.bits} bits")
    padded = np.zeros((groups * per, features), dtype=np.int64)
    padded[:rows] = weights
    shifts = [layout.slot_bits * (per - 1 - k) for k in range(per)]
    return slotted_products(ciphertexts, padded.reshape(groups, per, features), shifts, public)


def _polynomial(coefficients: Sequence[int], slot_bits: int) -> int:
    """Coefficients, the highest power first, evaluated at 2^slot_bits."""
    value = 0
    for coefficient in coefficients:
        value = (value << slot_bits) + coefficient
    return value


def _polynomials(coefficients: NDArray[np.integer[Any]], slot_bits: int) -> list[int]:
    return [_polynomial(row, slot_bits) for row in coefficients.tolist()]
