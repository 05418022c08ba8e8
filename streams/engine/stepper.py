"""One step of a machine, with everything that can fail on the way turned into data.

load the resource -> step -> store blobs -> make the output records
    |                 |          |              |
    +-----------------+----------+--------------+--> the step is thrown away, the machine is told of a LocalFault
                                                         |  that fails as well
                                                         +--> a dead letter; the job stays as it was
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import replace

from schemas.alignment_states import AlignEnded
from schemas.codec import DecodeError, blobs_of, decode, encode
from schemas.evaluation_states import EvaluateEnded
from schemas.job_states import EndedJob
from schemas.jobs import Reason
from schemas.record import Blob, Record
from schemas.registration_states import RegisterEnded
from schemas.tasks import LocalFault
from schemas.training_states import TrainEnded
from streams.engine import failpoints
from streams.engine.blobs import SealedBlobs
from streams.engine.dead_letter import UndeliverableError
from streams.engine.errors import EngineError, UnreadableStateError
from streams.engine.jobs import Job
from streams.engine.memory import return_memory
from streams.engine.outbox import Outbox, UnreachableError
from streams.engine.ports import OutputRecord, StorageError
from streams.engine.state_log import INLINE_BYTES
from streams.machine import Event, Machine, RefusedError, Step, ToEvents, ToPeer, ToRegistry, ToStage

_log = logging.getLogger(__name__)

#: States after which nothing that peers say changes anything: the keys of what they sealed are erased.
ENDED = (AlignEnded, EndedJob, EvaluateEnded, RegisterEnded, TrainEnded)

Prepare = Callable[[Record], object | None]


class Stepper:
    """Takes steps of one stage's machine."""

    def __init__(
        self, machine: Machine, party: str, blobs: SealedBlobs, outbox: Outbox, prepare: Prepare | None = None
    ) -> None:
        """`prepare` loads what a record needs before its step, such as a table; None when none does."""
        self._machine = machine
        self._party = party
        self._blobs = blobs
        self._outbox = outbox
        self._prepare = prepare
        #: A job has ended since the last `tidy`: what its state took is free, or soon will be.
        self._has_freed = False

    def tidy(self) -> None:
        """Give memory back to the system if there is something to give; for a moment without work."""
        if self._has_freed:
            self._has_freed = False
            return_memory()

    def step(self, job: Job, record: Record, sender: str) -> tuple[Job, list[OutputRecord]]:
        """The job after the step, and what it sends.

        Raises `UndeliverableError` when the machine can take neither the record nor the fault, and
        `UnreadableStateError` when its state is of a newer release.
        """
        state = self._load_state(job)
        try:
            return self._take(job, state, record, sender, skip_unreachable=False)
        except EngineError:
            raise
        except RefusedError as error:
            raise UndeliverableError(str(error)) from error
        except Exception as error:  # noqa: BLE001 - whatever a machine or a loader raises becomes an event
            fault = self._describe(job, record, error)
        try:
            return self._take(job, state, fault, self._party, skip_unreachable=True)
        except EngineError:
            raise
        except Exception as error:
            self._describe(job, fault, error)
            raise UndeliverableError(
                f"the machine of stage {self._machine.stage} takes neither {type(record).__name__} ({fault.detail})"
                f" nor the fault ({type(error).__name__})"
            ) from error

    def _take(
        self, job: Job, state: Record, record: Record, sender: str, *, skip_unreachable: bool
    ) -> tuple[Job, list[OutputRecord]]:
        resource = None
        if self._prepare is not None and not isinstance(record, LocalFault):
            resource = self._prepare(record)
        step = self._machine.step(state, Event(record, sender, resource, job.traffic))
        if resource is not None:
            # A table is the largest thing that a stage ever holds, and what follows may take hours.
            del resource
            return_memory()
        failpoints.reach(failpoints.AFTER_STEP)
        after = self._keep(job, state, step)
        failpoints.reach(failpoints.AFTER_BLOBS)
        if isinstance(step.state, ENDED):
            after = after.without_keys()
            self._has_freed = True
        if isinstance(record, LocalFault):
            after = replace(after, fault=record)
        return self._outbox.send(after, step.outputs, skip_unreachable=skip_unreachable)

    def _load_state(self, job: Job) -> Record:
        if job.state is not None:
            return job.state
        if not job.machine and job.machine_blob is None:
            return self._machine.initial(job.job_id)
        try:
            encoding = job.machine or self._blobs.load(job.machine_blob or Blob.of(b""))
            return decode(encoding, self._blobs.load)
        except (DecodeError, StorageError) as error:
            # Without its state a job can neither go on nor fail in an orderly way: wait for the store, or the release.
            raise UnreadableStateError(f"the state of job {job.job_id!r}, {self._machine.stage}: {error}") from error

    def _keep(self, job: Job, before: Record, step: Step) -> Job:
        """Store the step's blobs, and its state if it is large."""
        self._blobs.put_all(blobs_of(step.state))
        for output in step.outputs:
            if isinstance(output, ToPeer | ToStage | ToEvents | ToRegistry):
                self._blobs.put_all(blobs_of(output.record))
        # A job whose first record changes nothing is not kept: otherwise any id that a peer makes up would be.
        if step.state is before and (job.state is not None or not (job.machine or job.machine_blob)):
            return job
        encoding = encode(step.state)
        blob = None
        if len(encoding) > INLINE_BYTES:
            blob = Blob.of(encoding)
            self._blobs.put_all((blob,))
            encoding, blob = b"", Blob(blob.sha256, blob.size)
        return replace(job, machine=encoding, machine_blob=blob, state=step.state)

    def _describe(self, job: Job, record: Record, error: Exception) -> LocalFault:
        """What the machine is told of an exception. The log has more, but no text that could hold somebody's data."""
        place = f"stage {self._machine.stage}, job {job.job_id}, {type(record).__name__}"
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-6:]))
        if isinstance(error, StorageError):
            _log.error("%s: %s", place, error)
            return LocalFault(job.job_id, Reason.STORAGE_FAILED, str(error))
        if isinstance(error, UnreachableError):
            _log.error("%s: %s", place, error)
            return LocalFault(job.job_id, Reason.INVALID_SPEC, str(error))
        _log.error("%s: %s in %s", place, type(error).__name__, where)
        return LocalFault(job.job_id, Reason.INTERNAL_ERROR, f"{type(error).__name__} in stage {self._machine.stage}")
