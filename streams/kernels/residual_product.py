"""A party's own columns times a vector that only the peer can open: X^T [v], masked, opened in one slot, shared.

The peer encrypts v under its own key, several values in a plaintext (convolution packing). This party raises to its own
columns, adds a pad that is uniform modulo n over all slots and refreshes: what the peer opens is uniform. The peer
returns the one slot that holds the scalar product, modulo 2^s and without its low `drop_bits` bits; this party takes
its pad's slot away:

    X^T v = (returned - own) * 2^drop_bits + an error below 2^(drop_bits + 1), unbiased over the pad.

Both flows of the train stage end in this. Where the peer knows the residuals, v is the residuals. Where they are
shared (d = e - rho modulo 2^s), each party multiplies its own columns with its own share in the clear and with the
peer's share here; `own_half` joins the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.kernels.entropy import Draws, prf
from streams.kernels.packing import ConvolutionLayout, Shares, centre, convolve
from streams.kernels.paillier import (
    Ciphertext,
    FreshCiphertext,
    OwnerEncryptor,
    PrivateKey,
    PublicKey,
    Refresher,
    add,
    add_plain,
    decrypt_many,
)


@dataclass(frozen=True)
class ProductLayout:
    """How vectors are packed, what shares are modulo, and what is cut from them before they are sent."""

    convolution: ConvolutionLayout
    #: Shares of a product are modulo 2^share_bits.
    share_bits: int
    #: Low bits that both halves of a product lose, so that it tells `SCALAR_BITS` bits and no more.
    drop_bits: int

    @property
    def share_bytes(self) -> int:
        """Bytes of one cut share on the wire."""
        return (self.share_bits - self.drop_bits + 7) // 8


def encrypt_values(
    encryptor: OwnerEncryptor, values: Sequence[int] | NDArray[Any], layout: ProductLayout, draws: Draws
) -> list[FreshCiphertext]:
    """Pack and encrypt a vector under the party's own key."""
    return encryptor.encrypt_many(layout.convolution.pack(values), draws)


def add_products(
    products: Sequence[Ciphertext],
    received: Sequence[Ciphertext],
    features: NDArray[np.int32],
    layout: ProductLayout,
    public: PublicKey,
) -> list[Ciphertext]:
    """Add X^T [v] of one chunk of rows to the products so far, column by column; empty `products` stand for zeros.

    Raises:
        ValueError: the number of ciphertexts does not fit the rows.
    """
    needed = layout.convolution.plaintext_count(features.shape[0])
    if len(received) != needed:
        raise ValueError(f"{features.shape[0]} rows need {needed} ciphertexts, {len(received)} came")
    new = convolve(received, features, layout.convolution, public)
    if not products:
        return new
    return [add(public, a, b) for a, b in zip(products, new, strict=True)]


def mask_products(
    products: Sequence[Ciphertext], refresher: Refresher, layout: ProductLayout, key: bytes
) -> tuple[list[FreshCiphertext], list[int]]:
    """Pad and refresh: (what may be sent, the pads' shares of the target slot).

    `key` is a PRF value bound to all that the products depend on; it must serve this purpose once.
    """
    padded, pads = pad_plaintexts(products, refresher.public, prf(key, "pad"))
    fresh = refresher.refresh_many(padded, Draws(prf(key, "refresh")))
    modulus = 1 << layout.share_bits
    return fresh, [layout.convolution.share(pad) % modulus for pad in pads]


def pad_plaintexts(
    ciphertexts: Sequence[Ciphertext], public: PublicKey, key: bytes
) -> tuple[list[Ciphertext], list[int]]:
    """Add to each plaintext a number that is uniform modulo n: (padded, still to be refreshed; the pads)."""
    draws = Draws(key)
    pads = [draws.below(public.n) for _ in ciphertexts]
    padded = [add_plain(public, item, pad) for item, pad in zip(ciphertexts, pads, strict=True)]
    return padded, pads


def open_products(private: PrivateKey, received: Sequence[Ciphertext], layout: ProductLayout) -> list[int]:
    """What the key owner returns: of each padded product the target slot only, modulo 2^share_bits, cut."""
    n, modulus = private.public.n, 1 << layout.share_bits
    opened = decrypt_many(private, received)
    return [layout.convolution.share(value % n) % modulus >> layout.drop_bits for value in opened]


def own_half(pad_shares: Sequence[int], share_sums: Sequence[int] | Shares, layout: ProductLayout) -> list[int]:
    """The masking party's half: its pads' shares plus the products with its own share of v, cut like the other half.

    `share_sums` is empty where v is not shared.
    """
    modulus = 1 << layout.share_bits
    sums = [int(value) for value in share_sums] or [0] * len(pad_shares)
    return [(pad + own) % modulus >> layout.drop_bits for pad, own in zip(pad_shares, sums, strict=True)]


def join_halves(returned: Sequence[int], own: Sequence[int], layout: ProductLayout) -> list[int]:
    """The products in units of 2^drop_bits: returned - own, the representative nearest to zero."""
    bits = layout.share_bits - layout.drop_bits
    return [centre(theirs - ours, bits) for theirs, ours in zip(returned, own, strict=True)]


def encode_shares(shares: Sequence[int], layout: ProductLayout) -> bytes:
    """Cut shares as fixed-width big-endian integers."""
    return b"".join(share.to_bytes(layout.share_bytes, "big") for share in shares)


def decode_shares(data: bytes, count: int, layout: ProductLayout) -> list[int]:
    """Read cut shares; ValueError when there are not `count`, or one has more bits than the protocol returns."""
    width = layout.share_bytes
    if len(data) != width * count:
        raise ValueError(f"{count} shares take {width * count} bytes, {len(data)} came")
    shares = [int.from_bytes(data[width * i : width * (i + 1)], "big") for i in range(count)]
    if any(share >> (layout.share_bits - layout.drop_bits) for share in shares):
        raise ValueError(f"a share has more than {layout.share_bits - layout.drop_bits} bits")
    return shares
