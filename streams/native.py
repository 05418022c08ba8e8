"""Which of two paths with equal results computes: the native kernel (`streams/kernels/native`), or gmpy2 and libsodium.

ISTHMUS_KERNEL is `auto` (native where it is installed and this processor has the vectors it is written for), `native`
(or an error) or `gmpy2`; ISTHMUS_KERNEL_THREADS, 1 by default, is how many threads one call of the native kernel takes.
"""

from __future__ import annotations

import functools
import importlib
import os
from enum import StrEnum
from types import ModuleType

#: The back-end of products modulo n^2 that is faster than gmpy2.
FAST_PRODUCTS = "avx512ifma"


class Choice(StrEnum):
    """Values of ISTHMUS_KERNEL."""

    AUTO = "auto"
    NATIVE = "native"
    GMPY2 = "gmpy2"


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
def native_points() -> ModuleType | None:
    """The native kernel for points, or None. Raises `KernelError`."""
    choice = read_choice()
    if choice is Choice.GMPY2:
        return None
    try:
        return importlib.import_module("isthmus_native")
    except ModuleNotFoundError:
        if choice is Choice.NATIVE:
            raise KernelError(
                "ISTHMUS_KERNEL is native, and isthmus_native is not installed: build it with `make native`, or unset "
                "the variable"
            ) from None
        return None


@functools.cache
def native_products() -> ModuleType | None:
    """The native kernel for products modulo n^2, or None: without IFMA gmpy2 is faster, unless it is asked for."""
    native = native_points()
    if native is None or (read_choice() is Choice.AUTO and FAST_PRODUCTS not in native.modulus_backends()):
        return None
    return native


@functools.cache
def kernel_threads() -> int:
    """Threads of one call of the native kernel; the results do not depend on them. Raises `KernelError`."""
    text = os.environ.get("ISTHMUS_KERNEL_THREADS", "1")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise KernelError(f"ISTHMUS_KERNEL_THREADS is {text!r}; use a number from 1 to 256")
    return int(text)


def forget_choice() -> None:
    """Read the environment again: for tests of both paths in one process."""
    for cached in (native_points, native_products, kernel_threads):
        cached.cache_clear()
