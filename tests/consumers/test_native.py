"""Processes that come and go leave no files behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from consumers.native import remove_unpacked_library
from streams.kernels.ristretto import hash_ids
remove_unpacked_library()
assert len(hash_ids(["a"], b"context")) == 32
"""


def test_a_process_leaves_no_library_behind_and_can_use_it(tmp_path: Path) -> None:
    """The file is there without the call, so that the claim would fail if the call did nothing."""
    for program, left in (("import rbcl", 1), (PROGRAM, 0)):
        folder = tmp_path / str(left)
        folder.mkdir()
        subprocess.run([sys.executable, "-c", program], env={"TMPDIR": str(folder)}, check=True, timeout=60)
        assert len(list(folder.iterdir())) == left
