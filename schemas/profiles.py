"""How a party draws the randomisers of what it encrypts: jobs ask for one way, a federation says which it allows."""

from __future__ import annotations

from enum import StrEnum


class KeyProfile(StrEnum):
    """What each is, and what it assumes, is told in `streams.kernels.key_profiles`; from the least to the most."""

    EXACT = "exact"
    DJN = "djn"
    DJN448 = "djn448"

    @property
    def allowed(self) -> tuple[KeyProfile, ...]:
        """What jobs may ask for where this one is the furthest that is agreed on."""
        every = tuple(KeyProfile)
        return every[: every.index(self) + 1]
