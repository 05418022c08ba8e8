"""What feature sources outside Kafka share: values as numbers, rows by person, and a limit on every wait."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

import numpy as np

from streams.features import FeatureSourceError, PersonFeatures

Result = TypeVar("Result")
#: Brings an identifier into its canonical form; raises `ValueError` for one that has none.
Normalise = Callable[[str], str]


@dataclass(frozen=True)
class Contradiction:
    """In the place of a value: the source has several for this person. No number, hence a mistyped feature."""

    rows: int

    def __str__(self) -> str:
        return f"{self.rows} rows that differ"


def as_number(value: object) -> object:
    """Numbers of all kinds as float64, NaN as None (missing, as in training); everything else as it is."""
    if type(value) is float:
        # Nearly all values are; and only NaN is not equal to itself.
        return value if value == value else None
    if value is None or type(value) is str:
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int | Decimal):
        try:
            value = float(value)
        except (OverflowError, ValueError):
            return value
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def collect_persons(
    rows: Iterable[tuple[str, Mapping[str, object]]], normalise: Normalise
) -> dict[str, PersonFeatures]:
    """Rows by normalised identifier. Where rows of one person differ, the columns in question hold `Contradiction`."""
    found: dict[str, dict[str, object]] = {}
    counts: dict[str, int] = {}
    for text, row in rows:
        try:
            person = normalise(text)
        except ValueError:
            continue
        values = {name: as_number(value) for name, value in row.items()}
        counts[person] = counts.get(person, 0) + 1
        first = found.setdefault(person, values)
        if first is not values:
            for name in first.keys() | values.keys():
                if name not in first or name not in values or first[name] != values[name]:
                    first[name] = Contradiction(counts[person])
    return {person: PersonFeatures(values) for person, values in found.items()}


@dataclass
class _Call:
    work: Callable[[], object]
    done: threading.Event = field(default_factory=threading.Event)
    result: object = None
    error: BaseException | None = None


class Helper:
    """A thread that asks a source, so that nobody waits longer than agreed, whatever the driver or the network does.

    There is one question at a time. While a late one is still under way, further ones fail at once: a source that hangs
    costs one thread, and its first answer makes it usable again.
    """

    def __init__(self, name: str) -> None:
        """`name` is the source in texts."""
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._late: _Call | None = None
        self._thread: threading.Thread | None = None

    def ask(self, work: Callable[[], Result], seconds: float) -> Result:
        """What `work` returns or raises. Raises `FeatureSourceError` if that takes longer."""
        with self._lock:
            if self._late is not None and not self._late.done.is_set():
                raise FeatureSourceError(f"{self._name} has still not answered an earlier question")
            self._late = None
            if self._thread is None:
                # A daemon: a hanging driver must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name=f"ask {self._name}", daemon=True)
                self._thread.start()
            call = _Call(work)
            self._calls.put(call)
            if not call.done.wait(seconds):
                self._late = call
                raise FeatureSourceError(f"{self._name} gave no answer within {seconds:g} s")
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    def close(self, last: Callable[[], None]) -> None:
        """Let the thread do `last` and end, after what it is doing now. Does not wait for it."""
        if self._thread is not None:
            self._calls.put(_Call(last))
            self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call.result = call.work()
            except BaseException as error:  # noqa: BLE001  whoever asked gets it
                call.error = error
            call.done.set()
