"""Live progress of a job: a bar a party and stage on a terminal, a line a change anywhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from producers.job_view import JobView, TaskStatus, TaskView, describe
from schemas.jobs import PIPELINE, Stage

#: What of a job's time a stage takes, roughly; for the one number that says how far a job is.
STAGE_WEIGHTS: Mapping[Stage, float] = {Stage.ALIGN: 0.1, Stage.TRAIN: 0.8, Stage.EVALUATE: 0.06, Stage.REGISTER: 0.04}
_MARKS = {
    None: Text("·", "dim"),
    TaskStatus.RUNNING: Text("▸", "cyan"),
    TaskStatus.SUSPENDED: Text("⏸", "yellow"),
    TaskStatus.SUCCEEDED: Text("✓", "green"),
    TaskStatus.FAILED: Text("✗", "red"),
    TaskStatus.STOPPED: Text("■", "yellow"),
}
BAR_CHARACTERS = 24


def job_fraction(views: Sequence[JobView]) -> float:
    """How far a job is, 0 to 1, as told by one or more parties' views of it."""
    done = [
        STAGE_WEIGHTS[stage] * task.fraction
        for view in views
        for (stage, _), task in view.tasks.items()
        if stage in STAGE_WEIGHTS
    ]
    return sum(done) / max(1, len(views))


class ProgressBoard:
    """Shows views as they change. Use it as a context manager."""

    def __init__(self, console: Console, parties: Sequence[str]) -> None:
        self._console = console
        self._parties = tuple(parties)
        self._views: dict[str, JobView] = {}
        self._said: dict[tuple[str, str], str] = {}
        self._live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, view: JobView) -> None:
        """Take in a party's view of the job."""
        self._views[view.party] = view
        if self._live is not None:
            self._live.update(self._board())
        else:
            self._say_changes(view)

    def note(self, text: str) -> None:
        """A line above the board."""
        self._console.print(Text(text, "dim"))

    def _board(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        for _ in range(5):
            table.add_column()
        for stage in PIPELINE:
            for party in self._parties:
                view = self._views.get(party)
                task = view.tasks.get((stage, party)) if view else None
                bar = ProgressBar(total=1.0, completed=task.fraction if task else 0.0, width=BAR_CHARACTERS)
                table.add_row(_MARKS[task.status if task else None], str(stage), party, bar, Text(_words(task), "dim"))
        lines = [Text(f"{view.party}: {describe(view)}") for view in self._views.values()]
        return Group(table, *lines)

    def _say_changes(self, view: JobView) -> None:
        self._say(view.party, "job", describe(view))
        for (stage, party), task in view.tasks.items():
            self._say(party, str(stage), f"{task.status}" + (f", {_words(task)}" if _words(task) else ""))

    def _say(self, party: str, what: str, text: str) -> None:
        if self._said.get((party, what)) != text:
            self._said[party, what] = text
            self._console.print(f"{party:<12} {what:<9} {text}", highlight=False, soft_wrap=True)


def _words(task: TaskView | None) -> str:
    if task is None:
        return ""
    parts = []
    if task.total and task.status is not TaskStatus.SUCCEEDED:
        parts.append(f"{task.done} of {task.total} {task.unit}".rstrip())
    if task.detail and task.status is not TaskStatus.SUCCEEDED:
        parts.append(task.detail)
    if task.status is TaskStatus.SUCCEEDED:
        parts.append(f"{task.seconds:.1f} s")
    return ", ".join(parts)
