"""These tests compare the native kernel with the reference, so they are collected where it is built."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("isthmus_native") else ["test_*.py"]
