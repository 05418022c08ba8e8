"""Reads one table for another process of the same party, and ends.

python -m consumers.table_reader < request > answer
"""

from __future__ import annotations

import os
import pickle
import sys

from consumers.tables import Part, read_here
from infra.settings import PartySettings
from schemas.jobs import JobSpec
from streams.engine.memory import return_memory


def main() -> None:
    """Answer the request on standard input, which `tables.read_apart` has written."""
    request: tuple[PartySettings, bytes, JobSpec, Part] = pickle.load(sys.stdin.buffer)  # noqa: S301
    # Whatever a library prints must not get into the answer.
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        table = read_here(*request)
        # Whoever takes the answer needs as much again.
        return_memory()
        pickle.dump(table, answer, protocol=pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    main()
