"""Paillier at 2048 and 3072 bits, beside python-paillier, HEU, fate_utils and IPCL, each on one core in the same run.

A ratio is the rival's processor seconds over ours: above 1, Isthmus is faster. `ratios` is of the path that a party
runs here, native if there is one; `ratios_gmpy2` is of the path that needs no more than wheels.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.rivals.environments import NotInstalledError, measure, run_program
from benchmarks.rivals.workload import UNITS

SIZES: Final = (2048, 3072)
PATHS: Final = ("gmpy2", "native")

#: Column of a row, the rival whose environment runs it, its program and the arguments after the key size.
RIVALS: Final = (
    ("heu_zpaillier", "heu", "heu", ("ZPaillier",)),
    ("heu_ou", "heu", "heu", ("OU",)),
    ("fate_utils", "fate", "fate", ()),
    ("ipcl", "ipcl", "ipcl", ()),
)

#: Operations that rivals have under another name: HEU draws randomisers as `djn` does, whoever encrypts.
SAME_AS: Final = {"encrypt_owner_djn": "encrypt_owner", "encrypt_owner_djn448": "encrypt_owner"}

#: Ratio, operation, rival; None stands for the fastest one.
RATIOS: Final = (
    ("encrypt_owner_vs_heu_zpaillier", "encrypt_owner", "heu_zpaillier"),
    ("encrypt_owner_djn_vs_heu_zpaillier", "encrypt_owner_djn", "heu_zpaillier"),
    ("encrypt_owner_djn448_vs_heu_zpaillier", "encrypt_owner_djn448", "heu_zpaillier"),
    ("decrypt_vs_heu_zpaillier", "decrypt", "heu_zpaillier"),
    ("decrypt_vs_ipcl", "decrypt", "ipcl"),
    ("add_vs_heu_zpaillier", "add", "heu_zpaillier"),
    ("matmul_vs_best_rival", "matmul", None),
    ("histogram_vs_heu_zpaillier", "histogram", "heu_zpaillier"),
    ("histogram_vs_heu_ou", "histogram", "heu_ou"),
)

#: Processor seconds by column and operation.
Figures = dict[str, dict[str, float]]


def run() -> dict[str, Any]:
    """Rows of processor seconds, ratios, and what could not be measured."""
    missing: dict[str, str] = {}
    paths = [path for path in PATHS if path != "native" or importlib.util.find_spec("isthmus_native")]
    if "native" not in paths:
        missing["isthmus native"] = "isthmus_native is not installed: figures are of the gmpy2 path"
    rows: list[dict[str, Any]] = []
    notes: dict[str, str] = {}
    libraries: dict[str, str] = {}
    result: dict[str, Any] = {}
    for bits in SIZES:
        figures = measure_all(bits, paths, missing, notes, libraries)
        operations = {name: None for column in figures.values() for name in column}
        rows += [
            {"operation": name, "of": UNITS.get(name, "one ciphertext"), "bits": bits, "unit": "processor seconds"}
            | {column: seconds.get(name) for column, seconds in figures.items()}
            for name in operations
        ]
        suffix = "" if bits == SIZES[0] else f"_{bits}"
        workers = {path: two_workers(bits, path) for path in paths}
        for key, path in (("ratios", paths[-1]), ("ratios_gmpy2", "gmpy2")):
            result[key + suffix] = ratios(figures, f"isthmus_{path}") | {"two_workers": workers[path]}
    texts = {"libraries": libraries, "notes": notes, "not_installed": missing}
    return {"rows": rows, "ratios_path": paths[-1], **result, **texts}


def measure_all(
    bits: int, paths: list[str], missing: dict[str, str], notes: dict[str, str], libraries: dict[str, str]
) -> Figures:
    """Every library's processor seconds at one key size; adds to `missing`, `notes` and `libraries`."""
    reports: dict[str, dict[str, Any] | None] = {}
    here = Path(sys.executable)
    for path in paths:
        reports[f"isthmus_{path}"] = run_program(here, "isthmus", str(bits), ISTHMUS_KERNEL=path)
    try:
        reports["phe"] = run_program(here, "python_paillier", str(bits))
    except NotInstalledError as error:
        missing[f"python_paillier {bits}"] = str(error)
    for column, rival, program, arguments in RIVALS:
        reports[column] = measure(rival, program, (str(bits), *arguments), missing)
    found = {column: report for column, report in reports.items() if report is not None}
    for column, report in found.items():
        libraries[column] = report["library"]
        notes |= {f"{column} {name}": note for name, note in report["notes"].items()}
    return {column: report["cpu_seconds"] for column, report in found.items()}


def ratios(figures: Figures, own: str) -> dict[str, float | None]:
    """Each rival's seconds over those of the column `own`; None where the rival was not measured."""
    found: dict[str, float | None] = {}
    for name, operation, rival in RATIOS:
        rivals = [rival] if rival else [column for column in figures if not column.startswith("isthmus_")]
        same = SAME_AS.get(operation, operation)
        seconds = [figures[column][same] for column in rivals if same in figures.get(column, {})]
        found[name] = round(min(seconds) / figures[own][operation], 3) if seconds else None
    return found


def two_workers(bits: int, path: str) -> float:
    """How many times as many ciphertexts a second two processes encrypt as one alone, on the clock."""
    best = {workers: max(_throughput(bits, path, workers) for _ in range(3)) for workers in (1, 2)}
    return round(best[2] / best[1], 3)


def _throughput(bits: int, path: str, workers: int) -> float:
    command = [sys.executable, "-m", "benchmarks.rivals.isthmus", str(bits), "worker"]
    variables = {**os.environ, "ISTHMUS_KERNEL": path}
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)
        for _ in range(workers)
    ]
    for process in processes:
        if process.stdout is None or process.stdout.readline().strip() != "ready":
            raise RuntimeError("a worker ended before it began")
    reports = []
    # All wait for the line; only then is anything read, so that none starts later than it has to.
    for process in processes:
        if process.stdin is not None:
            process.stdin.write("\n")
            process.stdin.flush()
    for process in processes:
        output, _ = process.communicate()
        reports.append(json.loads(output))
    made: int = sum(report["ciphertexts"] for report in reports)
    seconds: float = max(report["seconds"] for report in reports)
    return made / seconds
