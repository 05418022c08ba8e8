"""Why the engine stops. It never goes on with state that it does not trust."""

from __future__ import annotations


class EngineError(Exception):
    """The process must end; the text says what, where, and what to do. Starting it again is safe."""


class SlotTakenError(EngineError):
    """Another process has this one's transactional id or group instance id, or the broker gave up on this process."""


class TornTransactionError(EngineError):
    """State and committed offsets do not belong to the same transaction. A person has to look before anything runs."""


class UnreadableStateError(EngineError):
    """A record on a state topic cannot be opened or decoded: wrong key, or written by a newer release."""


class LogUnavailableError(EngineError):
    """The broker refuses or does not answer for longer than the engine waits."""
