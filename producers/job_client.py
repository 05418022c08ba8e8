"""How anything enters: commands go to a party's command topic; what became of them is read from its event topic."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, Message, Producer

from infra.connection import Connection
from infra.topics import commands_topic, events_topic
from producers.job_view import JobStatus, JobView, apply
from producers.topic_reader import (
    ANSWER_SECONDS,
    POLL_SECONDS,
    QUIET,
    BrokerUnavailableError,
    Entry,
    TopicReader,
    check_topics,
)
from schemas.codec import encode
from schemas.jobs import ApproveJob, CancelJob, DeclineJob, JobSpec, Leak, Stage, SubmitJob

#: A coordinator that runs answers within a second; one that is just being started needs some.
EFFECT_SECONDS = 30.0


class JobError(Exception):
    """The command cannot be carried out; the text says why and what to do."""


def new_job_id(name: str, token: str | None = None) -> str:
    """`<name>-<12 hex digits>`: readable in tools, and unique without asking anybody."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "job"
    return f"{readable}-{token or secrets.token_hex(6)}"


class JobClient:
    """Commands and views of one party. Use it as a context manager."""

    def __init__(self, party: str, connection: Connection) -> None:
        """Raises `BrokerUnavailableError`."""
        self.party = party
        self._commands = commands_topic(Stage.JOB, party)
        check_topics(connection, (self._commands,))
        self._reader = TopicReader(connection, events_topic(party))
        self._producer = Producer(
            {
                **connection,
                "enable.idempotence": True,
                "message.timeout.ms": int(ANSWER_SECONDS * 1000),
            },
            logger=QUIET,
        )
        self._views: dict[str, JobView] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._reader.close()

    # --- commands ---------------------------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, job_id: str | None = None, retry_of: str | None = None) -> str:
        """Ask the guest's coordinator to run the job; returns its id. Raises `JobError` at any party but the guest."""
        if spec.guest.party != self.party:
            raise JobError(
                f"a job is submitted at its guest: this is {self.party}, the spec's guest is {spec.guest.party}"
            )
        job_id = job_id or new_job_id(spec.name)
        self._send(SubmitJob(job_id, spec, retry_of))
        return job_id

    def cancel(self, job_id: str, reason: str) -> JobView:
        """End the job wherever it stands. Raises `JobError` when there is no such job or it has ended."""
        before = self._open_job(job_id)
        self._send(CancelJob(job_id, reason))
        return self._await_effect(before)

    def approve(self, job_id: str, accept_leaks: tuple[Leak, ...]) -> JobView:
        """Let a proposed job run. Raises `JobError` when a leak that it needs is not accepted by name."""
        view = self._open_job(job_id)
        missing = [leak for leak in view.leaks_to_accept if leak not in accept_leaks]
        if missing:
            options = " ".join(f"--accept-leak {leak}" for leak in missing)
            raise JobError(
                f"approving {job_id} means accepting {', '.join(missing)}: repeat with {options} if that is meant"
            )
        self._send(ApproveJob(job_id, accept_leaks))
        return self._await_effect(view)

    def decline(self, job_id: str, reason: str) -> JobView:
        """Refuse a proposed job. Raises `JobError` when it does not wait for approval."""
        before = self._open_job(job_id)
        self._send(DeclineJob(job_id, reason))
        return self._await_effect(before)

    def retry(self, job_id: str) -> str:
        """Submit the spec of an ended job again under a new id, which is returned."""
        view = self.job(job_id)
        if not view.ended:
            raise JobError(f"{job_id} has not ended ({view.status}): cancel it first, or wait")
        if view.spec is None:
            raise JobError(f"{job_id} was rejected before its spec was recorded: correct the spec and submit it")
        return self.submit(view.spec, retry_of=job_id)

    # --- views ------------------------------------------------------------------------------------------------------

    def views(self) -> dict[str, JobView]:
        """All jobs of this party, as of now."""
        self._take(self._reader.read_to_end())
        return {job_id: view for job_id, view in self._views.items() if view.status is not JobStatus.UNKNOWN}

    def job(self, job_id: str) -> JobView:
        """The job as of now. Raises `JobError` when there is none of this id."""
        views = self.views()
        if job_id not in views:
            close = [other for other in views if other.startswith(job_id)]
            hint = f"; is it {close[0]}?" if len(close) == 1 else "; `isthmus job list` shows the jobs there are"
            raise JobError(f"{self.party} knows no job {job_id}{hint}")
        return views[job_id]

    def view(self, job_id: str) -> JobView | None:
        """What was heard of the job so far, without asking the broker again."""
        return self._views.get(job_id)

    def poll(self, seconds: float = POLL_SECONDS) -> bool:
        """Take in what arrives within `seconds`; whether there was anything."""
        return self._take(self._reader.poll(seconds))

    def wait_for(self, job_id: str, condition: Callable[[JobView], bool], seconds: float) -> JobView:
        """Follow the events until `condition` holds. Raises `JobError` when it does not within `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            view = self._views.get(job_id)
            if view is not None and condition(view):
                return view
            if time.monotonic() > deadline:
                heard = f"the last that was heard is: {view.status}" if view else "nothing was heard of it"
                raise JobError(
                    f"waited {seconds:.0f} s for {job_id} at {self.party}, {heard}. "
                    "Do the party's processes run? See `isthmus party run` and `isthmus lag`"
                )
            self.poll()

    def await_answer(self, job_id: str) -> JobView:
        """What the coordinator says to a submission. Raises `JobError` when it says nothing."""
        try:
            return self.wait_for(
                job_id, lambda view: view.status is not JobStatus.UNKNOWN or bool(view.refusals), EFFECT_SECONDS
            )
        except JobError as error:
            raise JobError(f"{job_id} is submitted, but nobody has taken it up: {error}") from error

    def watch(self, job_id: str) -> Iterator[JobView]:
        """The view whenever it changes, until the job has ended. Raises `JobError` when there is no such job."""
        view = self.job(job_id)
        yield view
        while not view.ended:
            if self.poll():
                changed = self._views[job_id]
                if changed is not view:
                    view = changed
                    yield view

    # --- inside -----------------------------------------------------------------------------------------------------

    def _await_effect(self, before: JobView) -> JobView:
        """The view after a command took effect. Raises `JobError` when the coordinator refused it or is silent."""
        known = len(before.refusals)
        view = self.wait_for(
            before.job_id,
            lambda now: now.ended or now.status is not before.status or len(now.refusals) > known,
            EFFECT_SECONDS,
        )
        if len(view.refusals) > known:
            raise JobError("; ".join(f"{m.path}: {m.message}" for m in view.refusals[-1].mistakes))
        return view

    def _open_job(self, job_id: str) -> JobView:
        view = self.job(job_id)
        if view.ended:
            raise JobError(f"{job_id} has ended already ({view.status})")
        return view

    def _take(self, entries: Iterable[Entry]) -> bool:
        changed = False
        for entry in entries:
            job_id = getattr(entry.record, "job_id", None)
            if entry.record is not None and isinstance(job_id, str):
                self._views[job_id] = apply(self._views.get(job_id), entry.record, entry.timestamp_ms)
                changed = True
        return changed

    def _send(self, command: SubmitJob | CancelJob | ApproveJob | DeclineJob) -> None:
        problems: list[KafkaError] = []

        def note(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                problems.append(error)

        self._producer.produce(self._commands, encode(command), key=command.job_id.encode(), on_delivery=note)
        unsent = self._producer.flush(ANSWER_SECONDS + 1)
        if unsent or problems:
            raise BrokerUnavailableError(
                f"the command did not reach the broker: {problems[0].str() if problems else 'no answer'}"
            )
