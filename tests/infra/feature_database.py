"""A real PostgreSQL with a password, on loopback, that a test may stop, pause and start again."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg

from infra.broker.ports import free_ports
from infra.watchdog import Watchdog
from tests.infra.pausing import pausing

PASSWORD = "correct-horse-battery-staple"
START_DEADLINE_SECONDS = 60.0
#: PostgreSQL refuses to run as root: there it runs as whoever owns nothing.
NOBODY = 65534


class FeatureDatabase:
    """One server with its files in a folder of its own, which `close` removes."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="isthmus-postgres-"))
        self._owner: dict[str, Any] = {"user": NOBODY, "group": NOBODY} if os.geteuid() == 0 else {}
        spec = importlib.util.find_spec("pgserver")
        assert spec is not None and spec.submodule_search_locations
        installed = Path(spec.submodule_search_locations[0])
        # Where they are installed, nobody may be allowed to look.
        for folder in ("pginstall", "../pgserver.libs"):
            if (installed / folder).exists():
                target = self._folder / ("wheel/pgserver" if folder == "pginstall" else "wheel") / Path(folder).name
                shutil.copytree(installed / folder, target, symlinks=True)
        self._bin = self._folder / "wheel" / "pgserver" / "pginstall" / "bin"
        self._data = self._folder / "data"
        self.port = free_ports(str(self._folder), 1)[0]
        (self._folder / "password").write_text(PASSWORD)
        if self._owner:
            for path in (self._folder, *self._folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        command: list[str | Path] = [
            self._bin / "initdb",
            "-D",
            self._data,
            "-U",
            "reader",
            f"--pwfile={self._folder / 'password'}",
        ]
        subprocess.run(
            [*command, "--auth=scram-sha-256", "--encoding=utf8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self._folder,
            **self._owner,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://reader:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> Self:
        command: list[str | Path] = [self._bin / "postgres", "-D", self._data, "-p", str(self.port), "-F"]
        command += ["-h", "127.0.0.1", "-k", self._folder]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._owner)
        self._watchdog = Watchdog(self._process.pid)
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while True:
            try:
                self.run("SELECT 1")
                return self
            except psycopg.OperationalError as error:
                try:
                    code = self._process.wait(0.1)
                except subprocess.TimeoutExpired:
                    code = None
                if code is not None or time.monotonic() > deadline:
                    log_tail = (self._folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"PostgreSQL does not serve ({error}):\n{log_tail}") from error

    def run(self, *statements: str) -> None:
        """Execute statements, each committed by itself."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="reader", password=PASSWORD, dbname="postgres", autocommit=True
        ) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def stop(self) -> None:
        """End it with all its connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None
        if self._watchdog is not None:
            self._watchdog.dismiss()
            self._watchdog = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, connections stay open and nobody answers."""
        assert self._process is not None
        with pausing([self._process.pid, *_children(self._process.pid)]):
            yield

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
