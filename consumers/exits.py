"""How processes end: exit codes that the supervisor understands, and ending together with a parent that is gone."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

#: As `EX_CONFIG` of sysexits.h: settings or keys are wrong, starting again would not help.
NEEDS_A_PERSON = 78

#: Set by a parent that holds the other end of our standard input: when it closes, the parent is gone.
PARENT_PIPE = "ISTHMUS_PARENT_PIPE"

#: After the parent is gone, this long for a clean end; then an end by force, with this code, which nobody sees.
ORPHAN_SECONDS = 15.0
ORPHANED = 1


def end_with_parent(stop: Callable[[], None]) -> None:
    """Call `stop` when the parent is gone, and end for certain a little later. Does nothing without a pipe."""
    if not os.environ.get(PARENT_PIPE):
        return

    def watch() -> None:
        # Raw reads: a thread inside the buffered reader's lock would break the interpreter's shutdown.
        while os.read(0, 64):
            pass
        stop()
        time.sleep(ORPHAN_SECONDS)
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def refuse(text: str) -> None:
    """End because a person has to act; `text` becomes the last line of the log."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
    sys.exit(NEEDS_A_PERSON)
