"""A whole alignment of two tables without Kafka, beside other libraries: processor time, bytes, the longest step.

ISTHMUS_PSI_ROWS is the number of rows of each table, 100,000 without it; half of them are common. With 1,000,000 the
result has `seconds_1m`, the time of both parties one after the other, and `peak_mb`, the memory of the one process that
plays both and holds both tables.
"""

from __future__ import annotations

import hashlib
import os
import resource
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._psi_rivals import compare
from schemas.alignment import AlignmentReady
from schemas.codec import decode, encode
from schemas.jobs import DataProfile, JobSpec, PartySpec, Role, Stage
from schemas.record import Record
from schemas.tasks import StartTask
from streams.dataset import Dataset
from streams.identifiers import Identifiers
from streams.machine import Event, ToPeer, ToStage
from streams.machines.align import AlignMachine

ROWS = int(os.environ.get("ISTHMUS_PSI_ROWS", "100000"))
COMMON_SHARE = 0.5
JOB_ID = "benchmark"


@dataclass
class Account:
    """What one party spent."""

    seconds: float = 0.0
    longest_step_seconds: float = 0.0
    steps: int = 0
    bytes_sent: int = 0
    records_sent: int = 0
    largest_record_bytes: int = 0
    largest_state_bytes: int = 0


def run() -> dict[str, Any]:
    """Both parties in one process, one after the other: the sum is what one core takes for both."""
    seconds, accounts = align_tables()
    spent = sum(account.seconds for account in accounts.values())
    megabytes = sum(account.bytes_sent for account in accounts.values()) / 1e6
    return {
        **compare(ROWS, round(ROWS * COMMON_SHARE), seconds, spent, megabytes),
        **{party: describe(account) for party, account in accounts.items()},
        **({"seconds_1m": seconds, "peak_mb": _peak_megabytes()} if ROWS == 1_000_000 else {}),
    }


def align_tables() -> tuple[float, dict[str, Account]]:
    """Seconds on the clock, and each party's account, of two made-up tables. The result is checked."""
    common = round(ROWS * COMMON_SHARE)
    tables = {
        "guest": [f"customer-{n:09}" for n in range(ROWS)],
        "host": [f"customer-{n:09}" for n in range(ROWS - common, 2 * ROWS - common)],
    }
    began = time.perf_counter()
    accounts, found = align(tables)
    seconds = time.perf_counter() - began
    if found["guest"] != found["host"] or set(found["guest"]) != set(tables["guest"]) & set(tables["host"]):
        raise ArithmeticError("the joint rows are not the intersection: the figures would be worthless")
    return seconds, accounts


def _peak_megabytes() -> float:
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def describe(account: Account) -> dict[str, Any]:
    """An account's figures with their units."""
    return {
        "processor seconds": account.seconds,
        "microseconds an own row": 1e6 * account.seconds / ROWS,
        "longest step in seconds": account.longest_step_seconds,
        "steps": account.steps,
        "megabytes sent": account.bytes_sent / 1e6,
        "records sent": account.records_sent,
        "largest record in kilobytes": account.largest_record_bytes / 1e3,
        "largest state in kilobytes": account.largest_state_bytes / 1e3,
    }


def align(tables: dict[str, list[str]]) -> tuple[dict[str, Account], dict[str, list[str]]]:
    """Run both machines to their ends; the accounts and the joint identifiers of each party."""
    spec = JobSpec("benchmark", PartySpec("guest", "table"), "y", (PartySpec("host", "table"),))
    machines = {party: AlignMachine(party, hashlib.sha256(party.encode()).digest()) for party in tables}
    states = {party: machine.initial(JOB_ID) for party, machine in machines.items()}
    accounts = {party: Account() for party in tables}
    found: dict[str, list[str]] = {}
    queue: deque[tuple[str, Event]] = deque()
    for party, ids in tables.items():
        profile = DataProfile(len(ids), (), hashlib.sha256(repr(ids).encode()).digest())
        dataset = Dataset(Identifiers.of(ids), (), np.zeros((len(ids), 0)), None, profile)
        role = Role.GUEST if party == "guest" else Role.HOST
        start = StartTask(JOB_ID, Stage.ALIGN, role, spec, profile, ())
        queue.append((party, Event(start, party, dataset)))
    while queue:
        party, event = queue.popleft()
        account = accounts[party]
        began = time.process_time()
        step = machines[party].step(states[party], event)
        spent = time.process_time() - began
        states[party] = step.state
        account.seconds += spent
        account.longest_step_seconds = max(account.longest_step_seconds, spent)
        account.steps += 1
        account.largest_state_bytes = max(account.largest_state_bytes, len(encode(step.state)))
        for output in step.outputs:
            match output:
                case ToPeer(peer, record):
                    queue.append((peer, Event(_travel(record, account), party)))
                case ToStage(Stage.ALIGN, record):
                    queue.append((party, Event(record, party)))
                case ToStage(_, AlignmentReady() as ready):
                    rows = np.frombuffer(ready.rows.content, "<u4").tolist()
                    found[party] = [tables[party][row] for row in rows]
    return accounts, found


def _travel(record: Record, account: Account) -> Record:
    data = encode(record)
    account.bytes_sent += len(data)
    account.records_sent += 1
    account.largest_record_bytes = max(account.largest_record_bytes, len(data))
    return decode(data)
