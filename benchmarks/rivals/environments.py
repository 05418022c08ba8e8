"""A virtual environment for each rival, made on demand below `.isthmus/rivals`; what cannot be made says why."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
ENVIRONMENTS: Final = REPOSITORY / ".isthmus" / "rivals"
REQUIREMENTS: Final = Path(__file__).with_name("requirements")

#: Seconds that installing one rival, and one of its programs, may take.
INSTALL_SECONDS: Final = 600.0
PROGRAM_SECONDS: Final = 1800.0


class NotInstalledError(Exception):
    """A rival cannot be measured here. The message says why."""


@dataclass(frozen=True)
class Release:
    """One release of a rival: the Python that it is made for, and the file of pins in `requirements/`."""

    python: str
    pins: str


#: Releases of each rival, the preferred one first.
RIVALS: Final = {
    "heu": (Release("3.10", "heu-3.10.txt"), Release("3.11", "heu-3.11.txt")),
    "fate": (Release("3.8", "fate.txt"),),
    "ipcl": (Release("3.8", "ipcl.txt"),),
    "openmined_psi": (Release("3.11", "openmined_psi.txt"),),
    "spu": (Release("3.11", "spu.txt"),),
    "secretflow": (Release("3.10", "secretflow.txt"),),
}


def interpreter(name: str) -> Path:
    """The Python of the rival's environment, which is made if it is not there. NotInstalledError with the reason."""
    reasons = []
    for release in RIVALS[name]:
        try:
            return _make(name, release)
        except NotInstalledError as error:
            reasons.append(f"{release.pins}: {error}")
    raise NotInstalledError("; ".join(reasons))


def find_python(version: str) -> Path | None:
    """An installed Python of that version: this one, one on the path, one of pyenv; None if there is none."""
    candidates = [Path(sys.executable)] if version == f"{sys.version_info.major}.{sys.version_info.minor}" else []
    on_path = shutil.which(f"python{version}")
    candidates += [Path(on_path)] if on_path else []
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)
    for candidate in candidates:
        # A name on the path may be pyenv's stand-in for a version that is not selected.
        answer = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return candidate
    return None


def _make(name: str, release: Release) -> Path:
    folder = ENVIRONMENTS / f"{name}-{release.python}"
    python, mark = folder / "bin" / "python", folder / "installed"
    pins = REQUIREMENTS / release.pins
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == digest:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv")
    # Only wheels, only these, only with these digests: what is measured is what was measured elsewhere.
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(pins)]
    if uv:
        _run([uv, "venv", "--quiet", "--python", release.python, str(folder)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *options])
    else:
        base = find_python(release.python)
        if base is None:
            raise NotInstalledError(f"there is no Python {release.python}, and no uv, which would fetch it")
        _run([str(base), "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options])
    mark.write_text(digest)
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalledError(f"installing took more than {INSTALL_SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise NotInstalledError(_last_line(done.stderr))


def run_program(python: Path, module: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """The JSON object that a program of this package prints last. NotInstalledError with the end of what it says."""
    command = [str(python), "-m", f"benchmarks.rivals.{module}", *arguments]
    # Threads would wait for each other on the one core that a program has.
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), **environment}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False, env=variables
        )
    except subprocess.TimeoutExpired:
        raise NotInstalledError(f"it took more than {PROGRAM_SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise NotInstalledError(_last_line(done.stderr))
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def measure(name: str, module: str, arguments: Sequence[str], missing: dict[str, str]) -> dict[str, Any] | None:
    """What the rival's program reports; None if that is not to be had, and then `missing` says why."""
    try:
        return run_program(interpreter(name), module, *arguments)
    except NotInstalledError as error:
        missing[" ".join((module, *arguments))] = str(error)
        return None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:500] if lines else "it ended without a word"
