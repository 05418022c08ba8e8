"""A protocol's table as pictures and rows for the docs: what is drawn is what the tests walk."""

from __future__ import annotations

from collections.abc import Sequence

from streams.machines.transition import Transition


def render(transitions: Sequence[Transition]) -> str:
    """A Mermaid state diagram with one block a role; events that lead the same way share an arrow."""
    lines = ["stateDiagram-v2"]
    for role in roles_of(transitions):
        rows = [row for row in transitions if row.role == role]
        lines.append(f"    state {role} {{")
        lines += [f"        {line}" for line in _arrows(role, rows)]
        lines.append("    }")
    return "\n".join(lines) + "\n"


def render_table(transitions: Sequence[Transition], role: str) -> str:
    """The rows of one role as a Markdown table."""
    lines = ["| phase | event | goes to | may send |", "|---|---|---|---|"]
    for row in transitions:
        if row.role == role:
            goes_to = ", ".join(str(phase.value) for phase in row.to)
            sends = ", ".join(dict.fromkeys(f"`{record.__name__}`" for record in row.sends)) or "-"
            lines.append(f"| {row.phase.value} | `{row.event.__name__}` | {goes_to} | {sends} |")
    return "\n".join(lines) + "\n"


def roles_of(transitions: Sequence[Transition]) -> tuple[str, ...]:
    """The roles of a table in the order in which it names them."""
    return tuple(dict.fromkeys(str(row.role) for row in transitions))


def _arrows(role: str, rows: Sequence[Transition]) -> list[str]:
    phases = list(dict.fromkeys(str(phase.value) for row in rows for phase in (row.phase, *row.to)))
    events: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for to in row.to:
            events.setdefault((str(row.phase.value), str(to.value)), []).append(row.event.__name__)
    # Mermaid's names of states are global: the same phase of two roles needs two.
    lines = [f'state "{phase}" as {role}_{phase}' for phase in phases]
    lines.append(f"[*] --> {role}_{phases[0]}")
    for (before, after), names in events.items():
        lines.append(f"{role}_{before} --> {role}_{after}: {', '.join(dict.fromkeys(names))}")
    left = {before for before, after in events if before != after}
    lines += [f"{role}_{phase} --> [*]" for phase in phases if phase not in left]
    return lines
