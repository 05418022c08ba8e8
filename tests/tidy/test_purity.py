"""Kernels and machines are functions of their arguments: a replayed record gives the same bytes again."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.tidy.sources import parse, place, python_files

PURE = python_files("streams/kernels", "streams/machines")

#: Clocks, entropy, environment, files, network, threads, logs, and everything that is made of them.
BANNED_MODULES = {
    "aiohttp", "aiokafka", "asyncio", "boto3", "botocore", "click", "concurrent", "confluent_kafka", "datetime",
    "faust", "getpass", "glob", "infra", "jgo", "locale", "logging", "multiprocessing", "os", "pathlib", "pickle",
    "platform", "psutil", "random", "requests", "rich", "secrets", "select", "shelve", "shutil", "signal", "socket",
    "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid", "warnings",
}  # fmt: skip
#: `hash` of text and `id` of anything differ from process to process.
BANNED_CALLS = {"open", "input", "print", "exec", "eval", "hash", "id", "breakpoint", "globals", "vars", "__import__"}
#: Dotted names, as written or by their last two parts.
BANNED_NAMES = {
    "np.random", "numpy.random", "np.load", "np.save", "np.fromfile", "np.memmap", "gmpy2.random_state",
    "gmpy2.mpz_random", "gmpy2.mpz_urandomb", "io.open", "io.FileIO", "os.urandom",
}  # fmt: skip
#: What a module may do all the same, and why.
EXCEPTIONS = {
    ("streams/kernels/link_tables/__init__.py", "np.load"): "reads the tables that are part of the package",
    ("streams/kernels/link_table.py", "np.load"): "reads the tables that are part of the package",
    (
        "streams/kernels/common_powers.py",
        "concurrent.futures.ThreadPoolExecutor",
    ): "the same powers in the same order, however many threads raise them",
}


def findings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, what) of every impurity."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in BANNED_MODULES or alias.name in BANNED_NAMES:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                if module.split(".")[0] in BANNED_MODULES or f"{module}.{alias.name}" in BANNED_NAMES:
                    yield node.lineno, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
            yield node.lineno, f"{node.func.id}()"
        elif isinstance(node, ast.Attribute) and _dotted(node) in BANNED_NAMES:
            yield node.lineno, _dotted(node)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield node.lineno, f"assigns to {', '.join(node.names)} outside the function"


def _dotted(node: ast.Attribute) -> str:
    return f"{node.value.id}.{node.attr}" if isinstance(node.value, ast.Name) else ""


def test_kernels_and_machines_touch_nothing_but_their_arguments() -> None:
    found = []
    for path in PURE:
        for line, what in findings(parse(path)):
            where = place(path, line)
            if (where.split(":")[0], what) not in EXCEPTIONS:
                found.append(f"{where}: {what}")
    assert PURE
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "import os.path as p",
        "from os import urandom",
        "from datetime import datetime",
        "import time",
        "from numpy import random",
        "import numpy as np\nnp.random.default_rng(3)",
        "def f():\n    import secrets",
        "open('x')",
        "def f(x): return hash(x)",
        "print(1)",
        "import gmpy2\ngmpy2.random_state(1)",
        "def f():\n    global g\n    g = 1",
        "from infra.settings import load_settings",
    ],
)
def test_the_rule_finds_what_it_is_for(source: str) -> None:
    assert list(findings(ast.parse(source)))


@pytest.mark.parametrize("source", ["import hashlib, hmac", "import numpy as np\nnp.zeros(3)", "x = [id for id in y]"])
def test_the_rule_lets_arithmetic_pass(source: str) -> None:
    assert not list(findings(ast.parse(source)))
