"""How the train stage tells what it does; the rest is `streams.machines.task`."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.jobs import Stage
from schemas.training_states import TrainingMemory, TrainSetup
from streams.kernels.entropy import Secret
from streams.machine import ToEvents
from streams.machines.task import Task
from streams.machines.train.plan import TrainPlan


@dataclass(frozen=True)
class OwnParty:
    """Who runs this machine. `least_key_bits` and `most_chunk_rows` are lowered by tests and simulations only."""

    name: str
    secret: Secret
    least_key_bits: int
    most_chunk_rows: int

    def task(self, job_id: str) -> Task:
        """This party's train task of a job."""
        return Task(job_id, Stage.TRAIN, self.name)


def tell_progress(own: OwnParty, setup: TrainSetup, memory: TrainingMemory, plan: TrainPlan, detail: str) -> ToEvents:
    """How many rows of all passes that may come are done."""
    total = plan.rows * plan.train.max_passes
    return own.task(setup.job_id).progressed(memory.rows_done, total, "rows", detail)


def describe_pass(pass_index: int, rank: int) -> str:
    """A pass, for people."""
    return f"pass {pass_index}, rank {rank}" if rank else f"pass {pass_index}, exact residuals"
