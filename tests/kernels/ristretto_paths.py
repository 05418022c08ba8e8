"""The two paths of the group, libsodium and the native kernel, for tests that hold on both."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from streams.kernels import ristretto

#: The paths that can be taken here: the native kernel is there only where it was built.
PATHS = ("libsodium", "native") if importlib.util.find_spec("isthmus_native") else ("libsodium",)


def take_path(patch: pytest.MonkeyPatch, path: str) -> None:
    """Let `ristretto` take one path until the patch is undone."""
    native = importlib.import_module("isthmus_native") if path == "native" else None
    patch.setattr(ristretto, "native_points", lambda: native)
