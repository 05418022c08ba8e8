"""How every process of a party begins and ends: opened once, stopped by a signal or with its parent.

| it ends because | code | and |
|---|---|---|
| it was told to | 0 | |
| settings, keys, or state need a person | 78 | the last line of its log says what |
| of the world around it | 1 | the supervisor starts it again |
"""

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
from infra.object_store import ObjectStoreError
from infra.secrets import SecretsError
from infra.settings import SettingsError
from streams.engine.errors import EngineError, TornTransactionError, UnreadableStateError
from streams.features import FeatureSourceError

_log = logging.getLogger("isthmus")

#: Exit code of a process that ended because of the world around it: started again, it may work.
WORLD_FAILED = 1


class Process(Protocol):
    """Something that runs until it is told to stop."""

    def run(self) -> None:
        """Raises `EngineError`: started again, it may work."""
        ...

    def stop(self) -> None:
        """Fit for a signal handler and for another thread."""
        ...


def run_process(
    home: Path, name: str, make: Callable[[Party], Process], refusals: tuple[type[Exception], ...] = ()
) -> None:
    """Run what `make` makes of the party in `home` until SIGTERM. Ends the interpreter with a code and a text.

    `refusals` are further errors of `make` for which a person has to act.
    """
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    remove_unpacked_library()
    for_a_person: tuple[type[Exception], ...] = (SettingsError, SecretsError, ObjectStoreError, *refusals)
    try:
        party = open_party(home)
        process = make(party)
    except for_a_person as error:
        refuse(f"{name}: {error}")
        return
    except (EngineError, FeatureSourceError) as error:
        _log.error("%s cannot begin: %s", name, error)
        sys.exit(WORLD_FAILED)

    def stop(number: int = 0, frame: FrameType | None = None) -> None:
        process.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    end_with_parent(stop)
    try:
        process.run()
    except (TornTransactionError, UnreadableStateError) as error:
        refuse(f"{name} at {party.name} does not trust its state and stops: {error}")
    except EngineError as error:
        _log.error("%s at %s ends: %s", name, party.name, error)
        sys.exit(WORLD_FAILED)
