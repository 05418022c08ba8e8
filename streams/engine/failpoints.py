"""Places where a test can have this process killed, as by a power cut: SIGKILL, no handler runs.

`ISTHMUS_FAILPOINT=after_produce:3` kills at the third time that place is reached, if the file that
`ISTHMUS_FAILPOINT_MARKER` names exists. The file is removed just before, so that it happens once.
`ISTHMUS_FAILPOINT_SIGNAL=SIGSTOP` pauses it there instead, as a machine that is suspended.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

POINT_VARIABLE = "ISTHMUS_FAILPOINT"
MARKER_VARIABLE = "ISTHMUS_FAILPOINT_MARKER"
SIGNAL_VARIABLE = "ISTHMUS_FAILPOINT_SIGNAL"

#: The transactional id is ours, a predecessor's transaction is settled.
AFTER_INIT = "after_init"
#: The group's positions are known, the state is not read yet.
DURING_RESTORE = "during_restore"
#: Records are in memory, nothing was computed.
AFTER_POLL = "after_poll"
#: A step was computed, its blobs are not stored.
AFTER_STEP = "after_step"
#: Blobs are stored, no transaction has begun.
AFTER_BLOBS = "after_blobs"
AFTER_BEGIN = "after_begin"
#: Outputs and states are handed to the client; the broker may have some of them.
AFTER_PRODUCE = "after_produce"
#: Only the commit is missing.
AFTER_OFFSETS = "after_offsets"
#: The transaction is committed, the process does not yet act on it.
AFTER_COMMIT = "after_commit"
#: Timers are due, their records are not written.
BEFORE_TIMERS = "before_timers"

ALL = (
    AFTER_INIT,
    DURING_RESTORE,
    AFTER_POLL,
    AFTER_STEP,
    AFTER_BLOBS,
    AFTER_BEGIN,
    AFTER_PRODUCE,
    AFTER_OFFSETS,
    AFTER_COMMIT,
    BEFORE_TIMERS,
)


class FailpointError(ValueError):
    """The variable names no failpoint."""


class Failpoint:
    """The failpoint that is armed for this process, if any."""

    def __init__(self, setting: str, marker: str, signal_name: str = "SIGKILL") -> None:
        """Raises `FailpointError`."""
        self.name, _, times = setting.partition(":")
        if self.name and self.name not in ALL:
            raise FailpointError(f"{POINT_VARIABLE}={setting}: no such failpoint, there are {', '.join(ALL)}")
        if times and not times.isdigit():
            raise FailpointError(f"{POINT_VARIABLE}={setting}: after the colon comes a number, such as 3")
        if self.name and not marker:
            raise FailpointError(f"{POINT_VARIABLE} needs {MARKER_VARIABLE}, the name of a file")
        self.remaining = int(times or 1)
        self.marker = marker
        if signal_name not in signal.Signals.__members__:
            raise FailpointError(f"{SIGNAL_VARIABLE}={signal_name}: no such signal")
        self.signal = signal.Signals[signal_name]

    def reach(self, name: str) -> None:
        """Die if this is the place and the time."""
        if name != self.name or not Path(self.marker).exists():
            return
        self.remaining -= 1
        if self.remaining == 0:
            Path(self.marker).unlink()
            os.kill(os.getpid(), self.signal)


_armed: Failpoint | None = None
if os.environ.get(POINT_VARIABLE):
    _armed = Failpoint(
        os.environ[POINT_VARIABLE], os.environ.get(MARKER_VARIABLE, ""), os.environ.get(SIGNAL_VARIABLE, "SIGKILL")
    )


def reach(name: str) -> None:
    """Called by the engine at each place. Costs one comparison when nothing is armed."""
    if _armed is not None:
        _armed.reach(name)
