"""A party's tables: small ones are read here, a large one by a process that takes all it needed along when it ends.

Reading takes some ten times the memory of what it gives, and pandas forty megabytes that are never given back: four of
a party's processes read the table of a job, and each of them lives for months.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import subprocess
import sys
from enum import Enum

import numpy as np

from infra.settings import PartySettings
from schemas.jobs import JobSpec, PartySpec, Role
from streams.dataset import Dataset, DatasetProblem
from streams.identifiers import Identifiers
from streams.kernels.ristretto import normalise_id

#: A file of so many bytes is read by another process, which takes half a second to start.
LARGE_BYTES = 8_000_000
#: One that was killed is started again: whoever kills at random does not hit it thrice, the system without memory does.
ATTEMPTS = 3


class TableReaderError(Exception):
    """The process that was to read the table ended without an answer."""


class Part(Enum):
    """What of a table somebody needs. All of it is read and checked in any case."""

    PROFILE = "profile"
    IDENTIFIERS = "identifiers"
    ROWS = "rows"


def load_table(
    settings: PartySettings, fingerprint_key: bytes, spec: JobSpec, part: Part = Part.ROWS
) -> Dataset | DatasetProblem | None:
    """The party's table as the spec wants it, or what is wrong with it. `None` if the spec does not name the party.

    What is not in `part` is empty. Raises `TableReaderError`.
    """
    share = find_share(settings.party, spec)
    if share is None:
        return None
    if _size(settings, share[1]) >= LARGE_BYTES:
        return read_apart(settings, fingerprint_key, spec, part)
    return read_here(settings, fingerprint_key, spec, part)


def find_share(party: str, spec: JobSpec) -> tuple[str, PartySpec, Role] | None:
    """(place in the spec, what the spec says of this party, role)."""
    if spec.guest.party == party:
        return "guest", spec.guest, Role.GUEST
    places = ((f"hosts[{index}]", host, Role.HOST) for index, host in enumerate(spec.hosts) if host.party == party)
    return next(places, None)


def read_here(
    settings: PartySettings, fingerprint_key: bytes, spec: JobSpec, part: Part
) -> Dataset | DatasetProblem | None:
    """As `load_table`, in this process."""
    # pandas takes most of a process's start, and most starts need no table.
    from infra.datasets import load_dataset

    found = find_share(settings.party, spec)
    if found is None:
        return None
    place, share, role = found
    table = load_dataset(
        settings,
        share,
        role=role,
        label=spec.label,
        path_prefix=place,
        normalise=functools.partial(normalise_id, id_type=spec.align.id_type),
        fingerprint_key=fingerprint_key,
    )
    return _cut(table, part) if isinstance(table, Dataset) else table


def _cut(table: Dataset, part: Part) -> Dataset:
    if part is Part.ROWS:
        return table
    ids = table.ids if part is Part.IDENTIFIERS else Identifiers.of(())
    return Dataset(ids, (), np.empty((len(ids), 0)), None, table.profile)


def read_apart(
    settings: PartySettings, fingerprint_key: bytes, spec: JobSpec, part: Part
) -> Dataset | DatasetProblem | None:
    """As `load_table`, in a process of its own. Rows travel through a pipe between the two only."""
    code = 0
    for _ in range(ATTEMPTS):
        code, answer = _ask_reader(settings, fingerprint_key, spec, part)
        if code == 0:
            return answer
        if code > 0:
            break
    raise TableReaderError(f"the process that reads the table ended with {code}: see the log")


def _ask_reader(
    settings: PartySettings, fingerprint_key: bytes, spec: JobSpec, part: Part
) -> tuple[int, Dataset | DatasetProblem | None]:
    """The exit code of another process, and its answer if that is 0."""
    answer: Dataset | DatasetProblem | None = None
    command = [sys.executable, "-m", "consumers.table_reader"]
    # glibc would raise its threshold when the first large array is freed, and keep all pieces that are smaller.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    # One that was killed neither reads nor answers.
    with contextlib.suppress(BrokenPipeError, EOFError, pickle.UnpicklingError), process:
        assert process.stdin is not None
        assert process.stdout is not None
        pickle.dump((settings, fingerprint_key, spec, part), process.stdin)
        process.stdin.close()
        # Our own child's, to whose end of the pipe nobody else writes. Arrays come without a copy in between.
        answer = pickle.load(process.stdout)  # noqa: S301
    return process.wait(), answer


def _size(settings: PartySettings, share: PartySpec) -> int:
    """Bytes of the file; 0 where there is none, of which reading will tell."""
    dataset = settings.datasets.get(share.dataset)
    try:
        return 0 if dataset is None else settings.resolve(dataset.path).stat().st_size
    except OSError:
        return 0
