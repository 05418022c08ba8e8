"""Paillier encryption: the names that protocols use. See the modules they come from for the arguments.

private = generate_keys(prf(seed, "paillier"), 2048)
sent = encode_ciphertexts(private.public, OwnerEncryptor(private).encrypt_many([1, -2], Draws(prf(seed, "m1", 0))))
received = decode_ciphertexts(public, sent)
answer = Refresher(public, prf(seed, "refresh")).refresh_many([add(public, *received)], Draws(prf(seed, "m2", 0)))
decrypt_many(private, answer) == [-1]
"""

from __future__ import annotations

from streams.kernels.ciphertexts import (
    Ciphertext,
    FreshCiphertext,
    add,
    add_plain,
    decode_ciphertexts,
    encode_ciphertexts,
    join_ciphertexts,
    product,
    scale,
)
from streams.kernels.owner import OwnerEncryptor, decrypt, decrypt_many
from streams.kernels.paillier_keys import PrivateKey, PublicKey, generate_keys, sanity_check_modulus
from streams.kernels.refresh import Refresher, textbook_residues

__all__ = [
    "Ciphertext",
    "FreshCiphertext",
    "OwnerEncryptor",
    "PrivateKey",
    "PublicKey",
    "Refresher",
    "add",
    "add_plain",
    "decode_ciphertexts",
    "decrypt",
    "decrypt_many",
    "encode_ciphertexts",
    "generate_keys",
    "join_ciphertexts",
    "product",
    "sanity_check_modulus",
    "scale",
    "textbook_residues",
]
