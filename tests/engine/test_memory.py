"""What Python lets go of between blocks that it keeps stays with the process, until it is given back."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import psutil
from streams.engine.memory import return_memory

resident = lambda: psutil.Process().memory_info().rss // 10**6
blocks = [bytearray(100_000) for _ in range(2_000)]
kept, blocks = blocks[::20], None
before = resident()
return_memory()
print(before, resident(), len(kept))
"""


def test_free_memory_between_blocks_that_are_kept_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before, after, kept = map(int, done.stdout.split())
    assert kept == 100
    assert before > 200, "the blocks were given back already: the test shows nothing"
    assert after < before / 2
