"""A slice is partition p of every input topic together with partition p of the state topic: the unit of ownership.

What a batch changes is collected in a draft over the slice, and becomes the slice when its transaction is committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from streams.engine.jobs import Job
from streams.engine.ports import OutputRecord, TopicPartition
from streams.engine.timers import next_due_ms


class Slice:
    """Committed jobs and positions of one partition number."""

    def __init__(
        self, partition: int, positions: Mapping[TopicPartition, int | None], jobs: Iterable[Job] = ()
    ) -> None:
        self.partition = partition
        #: Next input position for every input partition; None where nothing was ever committed.
        self.positions = dict(positions)
        #: Keys and contents of the state topic that rest under a former generation of the storage key.
        self.stale: dict[bytes, bytes] = {}
        self.jobs: dict[str, Job] = {}
        #: The jobs with timers that are yet to be sent, and when the first of each is due.
        self._due_at_ms: dict[str, int] = {}
        for job in jobs:
            self._put(job)

    @property
    def places(self) -> frozenset[TopicPartition]:
        """The input partitions."""
        return frozenset(self.positions)

    def apply(self, draft: Draft) -> None:
        """The draft's transaction was committed."""
        for job in draft.jobs.values():
            self._put(job)
        self.positions.update(draft.positions)
        if draft.is_resealing:
            self.stale = {}

    def next_due_ms(self) -> int | None:
        """When the next timer of the slice is due."""
        return min(self._due_at_ms.values(), default=None)

    def due_jobs(self, now_ms: int) -> Iterator[Job]:
        """The jobs with a timer that is due, in a fixed order."""
        for job_id in sorted(key for key, due_at_ms in self._due_at_ms.items() if due_at_ms <= now_ms):
            yield self.jobs[job_id]

    def _put(self, job: Job) -> None:
        self.jobs[job.job_id] = job
        due_at_ms = next_due_ms(job)
        if due_at_ms is None:
            self._due_at_ms.pop(job.job_id, None)
        else:
            self._due_at_ms[job.job_id] = due_at_ms


class Draft:
    """What a transaction will change in one slice."""

    def __init__(self, base: Slice) -> None:
        self.base = base
        self.jobs: dict[str, Job] = {}
        self.positions: dict[TopicPartition, int] = {}
        self.outputs: list[OutputRecord] = []
        #: Whether it writes again what was stale, and nothing else.
        self.is_resealing = False

    def job(self, job_id: str) -> Job:
        """The job as it is after the steps of this draft."""
        return self.jobs.get(job_id) or self.base.jobs.get(job_id) or Job(job_id)

    def put(self, job: Job, outputs: Iterable[OutputRecord] = ()) -> None:
        """A step's result."""
        if job != self.base.jobs.get(job.job_id, Job(job.job_id)) or job.job_id in self.jobs:
            self.jobs[job.job_id] = job
        self.outputs.extend(outputs)

    def group_positions(self) -> dict[TopicPartition, int]:
        """What to commit for the group: every known position of the slice, moved or not.

        A transaction that moves none, of timers, repeats them: committing positions is what gets a process refused
        whose partitions belong to another one by now (KIP-447).
        """
        merged = {**self.base.positions, **self.positions}
        return {place: position for place, position in merged.items() if position is not None}
