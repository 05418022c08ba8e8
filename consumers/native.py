"""Files that libraries leave behind in the temporary folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import rbcl


def remove_unpacked_library() -> None:
    """rbcl unpacks libsodium into a new temporary file at every import and never removes it: 3 MB for each process.

    The loaded library stays usable without its name. Does nothing where the library lies elsewhere.
    """
    path = Path(str(rbcl._sodium._name))
    if path.parent == Path(tempfile.gettempdir()):
        path.unlink(missing_ok=True)
