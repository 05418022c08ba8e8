"""The code fingerprint names the code that made a model."""

from __future__ import annotations

from pathlib import Path

import pytest

import streams
from consumers import code


def test_the_fingerprint_changes_with_one_byte_of_one_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read twice it is the same; a changed module gives another one."""
    before = code.fingerprint_code()
    assert code.fingerprint_code() == before
    changed = Path(str(streams.__file__))
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path == changed else b""))
    assert code.fingerprint_code() != before
