"""Alignment beside OpenMined's PSI and SecretFlow's SPU, on tables of the same size and overlap in the same run."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.rivals.environments import measure
from benchmarks.rivals.tables import peak_megabytes

#: Column of a ratio, the rival whose environment runs it, its program and the arguments after the number of rows.
RIVALS: Final = (
    ("openmined_psi", "openmined_psi", "openmined_psi", ()),
    ("spu_ecdh", "spu", "spu", ("ecdh",)),
    ("spu_rr22", "spu", "spu", ("rr22",)),
)


def compare(rows: int, joint_rows: int, seconds: float, cpu_seconds: float, megabytes: float) -> dict[str, Any]:
    """Rows of figures, ours (of both parties in this process) first, and ratios: above 1, Isthmus takes less.

    RR22 rests on oblivious transfer, does not bind a party to its set, and takes far less time than any Diffie-Hellman.
    """
    own = {"joint_rows": joint_rows, "seconds": seconds, "cpu_seconds": cpu_seconds, "megabytes": megabytes}
    figures: dict[str, dict[str, Any]] = {"isthmus": own | {"peak_megabytes": peak_megabytes()}}
    missing: dict[str, str] = {}
    for column, rival, program, arguments in RIVALS:
        report = measure(rival, program, (str(rows), *arguments), missing)
        if report is None:
            continue
        if report["joint_rows"] != joint_rows:
            raise ArithmeticError(f"{column} found {report['joint_rows']} joint rows, and there are {joint_rows}")
        figures[column] = report
    ratios = {
        f"cpu_vs_{column}": round(figures[column]["cpu_seconds"] / cpu_seconds, 3) if column in figures else None
        for column, *_ in RIVALS
    }
    return {
        "rows": [{"library": column, "table_rows": rows, **report} for column, report in figures.items()],
        "ratios": ratios,
        "not_installed": missing,
    }
