"""`python -m docs.generate`: write `docs/protocols/<stage>.md` from `streams/machines/<stage>/protocol.py`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import streams.machines
from streams.machines.diagram import render, render_table, roles_of

FOLDER = Path(__file__).parent / "protocols"


def protocol_stages() -> tuple[str, ...]:
    """The stages that have a protocol."""
    stages = [module.name for module in pkgutil.iter_modules(streams.machines.__path__) if module.ispkg]
    root = Path(streams.machines.__path__[0])
    return tuple(stage for stage in sorted(stages) if (root / stage / "protocol.py").exists())


def page_of(stage: str) -> str:
    """The page of one protocol: what its module says about it, the diagram, the table of each role."""
    module = importlib.import_module(f"streams.machines.{stage}.protocol")
    transitions = module.TRANSITIONS
    parts = [
        f"# Stage `{stage}`",
        f"Written by `python -m docs.generate` from `streams/machines/{stage}/protocol.py`; change it there.",
        f"```text\n{inspect.cleandoc(module.__doc__ or '')}\n```",
        f"## Phases\n\n```mermaid\n{render(transitions)}```",
        "What no row lists is a duplicate, which changes nothing, or a violation, which ends the task with blame.",
    ]
    parts += [f"## The {role}\n\n{render_table(transitions, role).rstrip()}" for role in roles_of(transitions)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for stage in protocol_stages():
        (FOLDER / f"{stage}.md").write_text(page_of(stage), encoding="utf-8")


if __name__ == "__main__":
    main()
