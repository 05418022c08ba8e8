"""A real PostgreSQL from a wheel, that tests may kill and start again."""

from __future__ import annotations

import signal
import warnings
from pathlib import Path

import psutil

with warnings.catch_warnings():
    # It looks for a folder of the user's session, which a machine without sessions does not have.
    warnings.simplefilter("ignore")
    from pgserver.postgres_server import get_server


class Postgres:
    """One server with its files in a folder; reached by a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self._server = get_server(folder / "pg", cleanup_mode="stop")
        self._databases = 0

    def new_database(self) -> str:
        """The SQLAlchemy URL of an empty database."""
        self._databases += 1
        name = f"history{self._databases}"
        self._server.psql(f"create database {name};")
        return str(self._server.get_uri(name)).replace("postgresql://", "postgresql+psycopg://", 1)

    def kill(self) -> None:
        """Every process of it ends at once; nothing is flushed, so that it has to recover."""
        process = psutil.Process(self._server.get_pid())
        process.send_signal(signal.SIGQUIT)
        psutil.wait_procs([process], timeout=30)
        assert not process.is_running()

    def restart(self) -> None:
        """Start again after `kill`."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """End it in an orderly way."""
        self._server.cleanup()
