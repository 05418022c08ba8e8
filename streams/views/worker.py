"""Runs a view's app in this process, until a signal."""

from __future__ import annotations

import faust


def run_app(app: faust.App) -> None:
    """Run until SIGTERM or SIGINT, then raise `SystemExit`. Logging stays as the caller has set it up."""
    worker = faust.Worker(app, override_logging=False, redirect_stdouts=False, quiet=True, loglevel="WARN")
    # It writes to the terminal what is no log.
    worker.spinner = None
    worker.execute_from_commandline()
