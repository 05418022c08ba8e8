"""How a task tells that it goes on, waits, ends well or ends badly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.jobs import Reason, Stage
from schemas.tasks import Measure, TaskFailed, TaskProgressed, TaskSucceeded
from schemas.training_states import TrainEnded, TrainingMemory
from streams.machine import CancelTimer, Output, SetTimer, Step, ToEvents, Traffic
from streams.machines.train.plan import TrainPlan

PATIENCE: Final = "patience"


@dataclass(frozen=True)
class OwnParty:
    """Who runs this machine. `least_key_bits` and `most_chunk_rows` are lowered by tests and simulations only."""

    name: str
    secret: bytes
    least_key_bits: int
    most_chunk_rows: int


class TaskEndError(Exception):
    """The task cannot go on: the machine turns this into `TaskFailed` at its edge. Nothing else is raised."""

    def __init__(self, reason: Reason, blame: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.blame, self.detail = reason, blame, detail


def fail(own: str, job_id: str, reason: Reason, blame: str, detail: str) -> Step:
    """The task is over."""
    failed = TaskFailed(job_id, Stage.TRAIN, own, reason, blame, detail)
    return Step(TrainEnded(job_id), (CancelTimer(PATIENCE), ToEvents(failed)))


def succeed(
    own: str, job_id: str, traffic: Traffic, measures: tuple[Measure, ...], outputs: tuple[Output, ...]
) -> Step:
    """The task is over, and well."""
    event = TaskSucceeded(
        job_id,
        Stage.TRAIN,
        own,
        traffic.bytes_sent,
        traffic.bytes_received,
        traffic.records_sent,
        traffic.records_received,
        measures,
    )
    return Step(TrainEnded(job_id), (*outputs, CancelTimer(PATIENCE), ToEvents(event)))


def tell_progress(own: str, job_id: str, memory: TrainingMemory, plan: TrainPlan, detail: str) -> ToEvents:
    """How many rows of all passes that may come are done."""
    total = plan.rows * plan.train.max_passes
    return ToEvents(TaskProgressed(job_id, Stage.TRAIN, own, memory.rows_done, total, "rows", detail))


def describe_pass(pass_index: int, rank: int) -> str:
    """A pass, for people."""
    return f"pass {pass_index}, rank {rank}" if rank else f"pass {pass_index}, exact residuals"


def start_timer(patience_seconds: int) -> SetTimer:
    """Wait for the peer for so long before telling."""
    return SetTimer(PATIENCE, patience_seconds * 1000)
