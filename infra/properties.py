"""Files of client or server properties, one `name=value` a line: what Kafka's tools and librdkafka's programs take."""

from __future__ import annotations

from pathlib import Path


def render_properties(properties: dict[str, str]) -> str:
    """Java properties text. Backslashes in values, as in a folder's name, are escaped."""
    lines = [f"{name}={value}".replace("\\", "\\\\") for name, value in properties.items()]
    return "\n".join(lines) + "\n"


def read_properties(path: Path) -> dict[str, str]:
    """What `render_properties` wrote, or somebody else. Raises `OSError`, and `ValueError` that names the line."""
    properties = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith(("#", "!")):
            continue
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"{path}, line {number}: expected name=value")
        properties[name.strip()] = value.strip().replace("\\\\", "\\")
    return properties
