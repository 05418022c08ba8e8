"""A strict reader of Prometheus' text format 0.0.4, as its documentation ("Exposition formats") has it."""

from __future__ import annotations

import re

Labels = frozenset[tuple[str, str]]

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_VALUE = r'"(?:[^"\\\n]|\\["\\n])*"'
_LABEL = rf"[a-zA-Z_][a-zA-Z0-9_]*={_VALUE}"
_SAMPLE = re.compile(rf"({_NAME})\{{({_LABEL}(?:,{_LABEL})*)\}} (\S+)")
_HELP = re.compile(rf"# HELP ({_NAME}) (?:[^\\\n]|\\[\\n])*")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge)")
_ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def read_back(content: bytes) -> dict[str, dict[Labels, float]]:
    """Metric -> labels -> value. Every metric has its help and type once, then all its samples, none twice."""
    text = content.decode()
    assert text.endswith("\n")
    found: dict[str, dict[Labels, float]] = {}
    helped = current = ""
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP"):
            match = _HELP.fullmatch(line)
            assert match, line
            helped = match[1]
        elif line.startswith("# TYPE"):
            match = _TYPE.fullmatch(line)
            assert match and match[1] == helped and match[1] not in found, line
            assert match[1].endswith("_total") == (match[2] == "counter"), line
            current = match[1]
            found[current] = {}
        else:
            match = _SAMPLE.fullmatch(line)
            assert match and match[1] == current, line
            labels = _read_labels(match[2])
            assert labels not in found[current], line
            found[current][labels] = float(match[3])
    return found


def _read_labels(text: str) -> Labels:
    pairs = [(name, value[1:-1]) for name, value in re.findall(rf"([a-zA-Z0-9_]+)=({_VALUE})", text)]
    assert len(dict(pairs)) == len(pairs), text
    return frozenset((name, re.sub(r"\\[\\\"n]", lambda found: _ESCAPED[found[0]], value)) for name, value in pairs)
