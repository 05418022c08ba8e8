"""Parties with homes and topics on a real broker, and the processes that keep their books."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from sqlalchemy import func, select

from consumers.exits import PARENT_PIPE
from consumers.party import Party, open_party
from infra.federation_local import found_together
from infra.history_store import HistoryStore, HistoryUnavailableError, open_history
from infra.secrets import create_secrets
from infra.settings import save_settings
from infra.topics import results_topic, score_audit_topic
from schemas.codec import encode
from schemas.record import Record
from schemas.scoring import ScoreJoined

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 120.0


def make_homes(folder: Path, bootstrap: str, parties: Sequence[str], score: dict[str, Any], **more: Any) -> list[Path]:
    """Homes of parties that know each other."""
    homes = [folder / party for party in parties]
    for party, home in zip(parties, homes, strict=True):
        peers = [peer for peer in parties if peer != party]
        common = {
            "party": party,
            "access": {"kind": "custom"},
            "bootstrap_servers": bootstrap,
            "peers": peers,
            "score": score,
        }
        save_settings(home, {**common, **more})
        create_secrets(home, party)
    found_together(homes, "books")
    return homes


class Books:
    """One party's books: the topics that are written to, the processes, and the history."""

    def __init__(self, home: Path, bootstrap: str) -> None:
        self.home = home
        self.party: Party = open_party(home)
        self.name = self.party.name
        #: A time that is over, in seconds since 1970.
        self.begin_s = int(time.time()) - 10
        self.history: HistoryStore = open_history(self.party.settings)
        base = {"bootstrap.servers": bootstrap, "linger.ms": 5, "enable.idempotence": True}
        self._producer = Producer(base)
        self._base = base

    def write(self, *records: Record | bytes, key: bytes = b"") -> None:
        """To audit or results, by their kind, keyed by request id."""
        for record in records:
            topic = results_topic(self.name) if isinstance(record, ScoreJoined) else score_audit_topic(self.name)
            value = record if isinstance(record, bytes) else encode(record)
            own_key = key if isinstance(record, bytes) else record.request_id.encode()  # type: ignore[attr-defined]
            self._producer.produce(topic, value, own_key)
        assert self._producer.flush(60) == 0

    def write_in_transaction(self, *records: Record, abort: bool = False) -> None:
        """As a joiner does."""
        producer = Producer({**self._base, "transactional.id": f"test.{self.name}"})
        producer.init_transactions(60)
        producer.begin_transaction()
        for record in records:
            topic = results_topic(self.name) if isinstance(record, ScoreJoined) else score_audit_topic(self.name)
            producer.produce(topic, encode(record), record.request_id.encode())  # type: ignore[attr-defined]
        assert producer.flush(60) == 0
        if abort:
            producer.abort_transaction(60)
        else:
            producer.commit_transaction(60)

    @contextlib.contextmanager
    def running(self, module: str, slot: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """A process of the party, `score_history` or `score_reconciler`; killed at the end."""
        with (self.home / f"{module}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"consumers.{module}", "--home", str(self.home), "--slot", str(slot)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, PARENT_PIPE: "1"},
            )
            try:
                yield process
            finally:
                process.kill()
                process.communicate()

    def log(self, module: str) -> str:
        """What the process said so far."""
        return (self.home / f"{module}.log").read_text("utf-8", "replace")

    def count(self, table: Any) -> int:
        """Rows of a table of the history."""
        with self.history.transaction(writes=False) as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def await_true(condition: Callable[[], bool], why: Callable[[], str] = str) -> None:
    """Look again and again until it is so, also while the database is away."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        with contextlib.suppress(HistoryUnavailableError):
            if condition():
                return
        assert time.monotonic() < deadline, why()
        threading.Event().wait(0.01)


__all__ = ["Books", "await_true", "make_homes"]
