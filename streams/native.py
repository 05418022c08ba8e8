"""Which of two paths with equal results computes: the native kernel (`streams/kernels/native`), or gmpy2 and libsodium.

ISTHMUS_KERNEL is `auto` (native where it is installed and this processor has vectors for it), `native` (or an error),
the name of a back-end of it (the same on older processors' vectors, to measure or to compare) or `gmpy2`.
ISTHMUS_KERNEL_THREADS, 1 by default, is how many threads one call takes of the native kernel, and decryption of gmpy2.
"""

from __future__ import annotations

import functools
import importlib
import os
from enum import StrEnum
from types import ModuleType


class Choice(StrEnum):
    """Values of ISTHMUS_KERNEL."""

    AUTO = "auto"
    NATIVE = "native"
    GMPY2 = "gmpy2"
    IFMA = "avx512ifma"
    AVX2 = "avx2"
    PORTABLE = "portable"


class KernelError(Exception):
    """The kernel that was asked for is not there. The text says what to do."""


def read_choice() -> Choice:
    """What the environment asks for. Raises `KernelError`."""
    text = os.environ.get("ISTHMUS_KERNEL", Choice.AUTO)
    try:
        return Choice(text)
    except ValueError:
        raise KernelError(f"ISTHMUS_KERNEL is {text!r}; use {', '.join(Choice)}") from None


@functools.cache
def native_backend() -> str | None:
    """The back-end of the native kernel that is asked for by name. Raises `KernelError`."""
    choice = read_choice()
    return choice.value if choice in (Choice.IFMA, Choice.AVX2, Choice.PORTABLE) else None


@functools.cache
def native_points() -> ModuleType | None:
    """The native kernel for points, or None. Raises `KernelError`."""
    choice = read_choice()
    if choice is Choice.GMPY2:
        return None
    try:
        native = importlib.import_module("isthmus_native")
    except ModuleNotFoundError:
        if choice is Choice.AUTO:
            return None
        raise KernelError(
            f"ISTHMUS_KERNEL is {choice}, and isthmus_native is not installed: build it with `make native`, or unset "
            "the variable"
        ) from None
    there = [name for name in native.point_backends() if name in native.modulus_backends()]
    if native_backend() not in (None, *there):
        raise KernelError(f"ISTHMUS_KERNEL is {choice}, which this processor has not; use {', '.join(there)}")
    return native


@functools.cache
def native_products() -> ModuleType | None:
    """The native kernel for products modulo n^2, or None: gmpy2 is faster than portable code, if nobody asks for it."""
    native = native_points()
    if native is None or (read_choice() is Choice.AUTO and native.modulus_backends()[0] == Choice.PORTABLE):
        return None
    return native


@functools.cache
def kernel_threads() -> int:
    """Threads of one call; the results do not depend on them. Raises `KernelError`."""
    text = os.environ.get("ISTHMUS_KERNEL_THREADS", "1")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise KernelError(f"ISTHMUS_KERNEL_THREADS is {text!r}; use a number from 1 to 256")
    return int(text)


def forget_choice() -> None:
    """Read the environment again: for tests of both paths in one process."""
    for cached in (native_backend, native_points, native_products, kernel_threads):
        cached.cache_clear()
