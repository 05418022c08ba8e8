"""What `isthmus doctor` says is what runs here."""

from __future__ import annotations

import importlib.util
import json

import pytest
from click.testing import CliRunner

from producers.cli import main
from streams import native


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISTHMUS_KERNEL", raising=False)
    native.forget_choice()


def test_it_measures_every_path_that_can_run_here() -> None:
    done = CliRunner().invoke(main, ["doctor", "--json"], catch_exceptions=False)
    found = json.loads(done.output)
    is_installed = importlib.util.find_spec("isthmus_native") is not None
    assert found["native"] == is_installed
    backends = importlib.import_module("isthmus_native").modulus_backends() if is_installed else []
    assert list(found["a second on one core"]) == ["gmpy2", *backends]
    assert all(value > 0 for speeds in found["a second on one core"].values() for value in speeds.values())
    assert found["products"].startswith("native" if native.native_products() else "gmpy2")
    assert "a second on one core" in CliRunner().invoke(main, ["doctor"], catch_exceptions=False).output


def test_a_kernel_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_KERNEL", "abacus")
    native.forget_choice()
    done = CliRunner().invoke(main, ["doctor"])
    monkeypatch.undo()
    native.forget_choice()
    assert done.exit_code == 1
    assert "ISTHMUS_KERNEL is 'abacus'; use auto, native, gmpy2, avx512ifma, avx2, portable" in done.output
