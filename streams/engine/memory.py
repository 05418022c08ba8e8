"""Memory that Python let go of goes back to the system: the C library would keep it as long as the process lives."""

from __future__ import annotations

import ctypes
import ctypes.util


def return_memory() -> None:
    """Ask glibc to return what is free (malloc_trim(3)); other C libraries do so by themselves, or cannot."""
    trim = getattr(ctypes.CDLL(ctypes.util.find_library("c")), "malloc_trim", None)
    if trim is not None:
        trim(0)
