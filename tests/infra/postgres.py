"""A real PostgreSQL with empty databases, that tests may kill and start again."""

from __future__ import annotations

import signal

from tests.infra.feature_database import FeatureDatabase


class Postgres(FeatureDatabase):
    """One server; ready when it is made."""

    def __init__(self) -> None:
        super().__init__()
        self._databases = 0
        self.start()

    def new_database(self) -> str:
        """The SQLAlchemy URL of an empty database, with its password."""
        self._databases += 1
        name = f"history{self._databases}"
        self.run(f"CREATE DATABASE {name}")
        return f"{self.url.rpartition('/')[0]}/{name}"

    def kill(self) -> None:
        """All its processes end at once; nothing is flushed or said, so that it has to recover."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)
        self.stop()
