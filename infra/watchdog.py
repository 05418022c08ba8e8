"""Ends a child process when this process is gone, in whatever way it went."""

from __future__ import annotations

import subprocess


class Watchdog:
    """A shell that waits for the end of our pipe, which closes when this process ends, be it by SIGKILL.

    PR_SET_PDEATHSIG would do without a process, but fires already when the thread that started the child ends.
    """

    def __init__(self, pid: int) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", 'read _; kill -9 "$1"', "watchdog", str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """The child has ended. Before the pipe closes: the process id may be someone else's by now."""
        self._shell.kill()
        self._shell.wait()
        if self._shell.stdin is not None:
            self._shell.stdin.close()
