"""`isthmus doctor`: which arithmetic runs on this machine, and what the other paths would give."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys

import click
import gmpy2

from producers.commands.errors import CommandError
from producers.commands.options import json_option, print_json
from streams.native import Choice, KernelError, native_backend, native_points, native_products

DEADLINE_SECONDS = 60


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say which kernels compute here, how fast they are, and what the other paths would give."""
    try:
        points, products, backend = native_points(), native_products(), native_backend()
    except KernelError as error:
        raise CommandError(str(error)) from error
    others = _native_backends()
    found = {
        "python": platform.python_version(),
        "gmpy2": gmpy2.version(),
        "gmp": gmpy2.mp_version(),
        "native": bool(others),
        "points": "libsodium" if points is None else f"native, {backend or points.point_backends()[0]}",
        "products": "gmpy2" if products is None else f"native, {backend or products.modulus_backends()[0]}",
        "a second on one core": {path: _measure(path) for path in (Choice.GMPY2.value, *others)},
    }
    if as_json:
        print_json(found)
        return
    click.echo(f"Python {found['python']}, gmpy2 {found['gmpy2']} with {found['gmp']}")
    click.echo(f"alignment's points: {found['points']}; Paillier's products: {found['products']}")
    for path, speeds in found["a second on one core"].items():
        texts = ", ".join(f"{value:,.0f} {name}" for name, value in speeds.items())
        click.echo(f"  {path:<10}  a second on one core: {texts}")
    if not others:
        click.echo("the native kernels are not installed: `make native` builds them where there is a Rust compiler")


def _native_backends() -> list[str]:
    """What the native kernels could run on, whatever the environment asks for."""
    try:
        names: list[str] = importlib.import_module("isthmus_native").modulus_backends()
    except ModuleNotFoundError:
        return []
    return names


def _measure(path: str) -> dict[str, float]:
    environment = {**os.environ, "ISTHMUS_KERNEL": path, "ISTHMUS_KERNEL_THREADS": "1"}
    command = [sys.executable, "-m", "producers.kernel_speed"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=DEADLINE_SECONDS, check=False
    )
    if done.returncode:
        raise CommandError(f"the path {path} could not be measured: {done.stderr.strip().splitlines()[-1]}")
    speeds: dict[str, float] = json.loads(done.stdout)
    return speeds
