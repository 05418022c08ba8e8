"""Run a benchmark: `python -m benchmarks NAME [--json]`. A benchmark is a module here with `run() -> dict`.

Every benchmark measures what it compares with in the same run, because the machine's speed today is nobody's business.
With `--json` the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import pkgutil
import platform
import sys
from collections.abc import Mapping
from typing import Any

import benchmarks
from benchmarks._machine import describe


def names() -> list[str]:
    """Modules that can be run."""
    found = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")]
    return sorted(name for name in found if hasattr(importlib.import_module(f"benchmarks.{name}"), "run"))


def table_lines(result: Mapping[str, Any], indent: str = "") -> list[str]:
    """Nested results as aligned lines."""
    width = max((len(str(key)) for key in result), default=0)
    lines: list[str] = []
    for key, value in result.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}", *table_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(f"{indent}{key}")
            lines += [indent + "  " + "  ".join(f"{name} {_text(cell)}" for name, cell in row.items()) for row in value]
        else:
            lines.append(f"{indent}{key:<{width}}  {_text(value)}")
    return lines


def _text(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def main(arguments: list[str]) -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", help="without a name: list the benchmarks")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument(
        "--data", metavar="PREFIX", help="for whole jobs: PREFIX_guest.csv[.gz] and PREFIX_host.csv[.gz]"
    )
    options = parser.parse_args(arguments)
    known = names()
    if options.name is None:
        print("\n".join(known))
        return 0
    if options.name not in known:
        print(f"no benchmark is named {options.name!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    run = importlib.import_module(f"benchmarks.{options.name}").run
    if options.data is not None and "data" not in inspect.signature(run).parameters:
        print(f"benchmark {options.name} takes no --data", file=sys.stderr)
        return 2
    result = run(options.data) if options.data is not None else run()
    result = {"benchmark": options.name, "python": platform.python_version(), "machine": describe(), **result}
    print(json.dumps(result) if options.json else "\n".join(table_lines(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
