"""Timers: absolute due times in the job's own state, and `TimerFired` records in the log when they are due.

       set -----> waiting --due--> sent --read back from the log--> the machine is told, the timer is gone
                     |               |
                     +-- cancel, or set again --> what is in the log is of an older generation and is passed over

Being a record of the own command topic, a timer that fired has its place among the other inputs, and keeps it after a
crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from schemas.tasks import TimerFired
from streams.engine.jobs import Job, Timer


def set_timer(job: Job, name: str, due_at_ms: int) -> Job:
    """Set or replace the timer."""
    timers = {**job.timers, name: Timer(due_at_ms, job.next_generation)}
    return replace(job, timers=timers, next_generation=job.next_generation + 1)


def cancel_timer(job: Job, name: str) -> Job:
    """Forget the timer, if there is one."""
    if name not in job.timers:
        return job
    return replace(job, timers={key: timer for key, timer in job.timers.items() if key != name})


def next_due_ms(job: Job) -> int | None:
    """When the job's next timer has to be sent."""
    return min((timer.due_at_ms for timer in job.timers.values() if not timer.is_sent), default=None)


def send_due(job: Job, now_ms: int) -> tuple[Job, tuple[TimerFired, ...]]:
    """Mark the due timers as sent. Gives their records, earliest first."""
    waiting = ((timer.due_at_ms, timer.generation, name) for name, timer in job.timers.items() if not timer.is_sent)
    return send_timers(job, [name for due_at_ms, _, name in sorted(waiting) if due_at_ms <= now_ms])


def send_timers(job: Job, names: Sequence[str]) -> tuple[Job, tuple[TimerFired, ...]]:
    """Mark these timers as sent, whether they are due or not. Gives their records, in this order."""
    if not names:
        return job, ()
    timers = {**job.timers, **{name: replace(job.timers[name], is_sent=True) for name in names}}
    fired = tuple(TimerFired(job.job_id, name, job.timers[name].generation) for name in names)
    return replace(job, timers=timers), fired


def accept_fired(job: Job, fired: TimerFired) -> Job | None:
    """The job without the timer; None when the timer was set again or cancelled since."""
    timer = job.timers.get(fired.name)
    if timer is None or timer.generation != fired.generation:
        return None
    return cancel_timer(job, fired.name)
