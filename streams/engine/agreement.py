"""What parties have agreed on: each other's keys, under one version of their federation's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

KEY_BYTES = 32
#: Of a manifest's digest, in each record that was sealed under it.
MARK_BYTES = 8


@dataclass(frozen=True)
class Agreement:
    """The raw keys under one version of the federation's manifest (X25519), and the manifest's digest."""

    private_key: bytes = field(repr=False)
    peer_keys: Mapping[str, bytes] = field(repr=False)
    manifest: bytes = b""
    #: For keys of epochs, see `streams/kem.py`: the own seed, and the peers' public keys. Without them nothing can be
    #: sealed in epochs.
    kem_seed: bytes = field(default=b"", repr=False)
    peer_kem_keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def mark(self) -> bytes:
        """What a record says of the manifest that it was sealed under."""
        return self.manifest[:MARK_BYTES]

    def share(self, party: str) -> dict[str, bytes]:
        """Peer -> what only both know. Raises `ValueError`; the text names the party whose keyring it is."""
        for name, key in (("private key", self.private_key), *self.peer_keys.items()):
            check_length(party, name, key)
        private = X25519PrivateKey.from_private_bytes(self.private_key)
        shared = {}
        for peer, public in self.peer_keys.items():
            try:
                shared[peer] = private.exchange(X25519PublicKey.from_public_bytes(public))
            except ValueError as error:
                raise ValueError(f"{party}'s keyring: the public key of {peer!r} is of low order") from error
        return shared


def check_length(party: str, name: str, key: bytes) -> None:
    """Raises `ValueError`; the text names the party whose keyring it is."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"{party}'s keyring: the key of {name!r} has {len(key)} bytes, expected {KEY_BYTES}")


def describe_unknown(party: str, mark: bytes, agreements: Mapping[bytes, Agreement]) -> str:
    """Why a record with this mark does not open at `party`."""
    known = ", ".join(sorted(each.hex() for each in agreements)) or "none"
    return (
        f"sealed under the manifest {mark.hex() or '(none)'}, and {party} works under {known}: the parties have "
        "different versions, or one was restored from an old backup; compare `isthmus federation show`"
    )
