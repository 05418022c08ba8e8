"""How the processes that keep the books of scoring begin and end."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Protocol

from consumers.exits import end_with_parent, refuse
from consumers.native import remove_unpacked_library
from consumers.party import Party, open_party
from consumers.wiring import WORLD_FAILED
from infra.history_store import HistoryError, HistoryStore, open_history
from infra.object_store import ObjectStoreError
from infra.secrets import SecretsError
from infra.settings import SettingsError
from streams.engine.errors import EngineError

_log = logging.getLogger("isthmus")


class Process(Protocol):
    """Something that runs until it is told to stop."""

    def run(self) -> None:
        """Raises `EngineError`: started again, it may work."""
        ...

    def stop(self) -> None:
        """Fit for a signal handler and for another thread."""
        ...


def run_books(home: Path, name: str, make: Callable[[Party, HistoryStore], Process]) -> None:
    """Run the process of the party in `home` until SIGTERM. Ends the interpreter with a code and a text."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    remove_unpacked_library()
    try:
        party = open_party(home)
        process = make(party, open_history(party.settings))
    except (SettingsError, SecretsError, ObjectStoreError, HistoryError) as error:
        refuse(f"{name}: {error}")
        return

    def stop(number: int = 0, frame: FrameType | None = None) -> None:
        process.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    end_with_parent(stop)
    try:
        process.run()
    except EngineError as error:
        _log.error("%s at %s ends: %s", name, party.name, error)
        sys.exit(WORLD_FAILED)
