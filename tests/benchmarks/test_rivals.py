"""Rivals: what is asked of them, where they run, and what is said of those that do not."""

from __future__ import annotations

import ast
import json
import re
import socket
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _logistic_rivals, _psi_rivals, paillier
from benchmarks.rivals import environments, tables, workload
from benchmarks.rivals.environments import RIVALS, NotInstalledError, Release
from benchmarks.rivals.relay import Relay
from benchmarks.rivals.workload import UNITS
from producers.demo_data import breast_cancer

PROGRAMS = Path(environments.__file__).parent
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"


# --- environments ---


def test_a_python_is_found_by_its_version() -> None:
    assert environments.find_python(THIS) == Path(sys.executable)


def test_a_rival_whose_python_is_not_there_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "rivals")
    monkeypatch.setitem(RIVALS, "heu", (Release("3.2", "heu-3.10.txt"), Release("3.1", "heu-3.11.txt")))
    missing: dict[str, str] = {}
    assert environments.measure("heu", "heu", ("2048", "OU"), missing) is None
    (reason,) = missing.values()
    assert list(missing) == ["heu 2048 OU"]
    assert "heu-3.10.txt: there is no Python 3.2, and no uv" in reason
    assert "heu-3.11.txt: there is no Python 3.1, and no uv" in reason


def test_a_stand_in_on_the_path_that_runs_nothing_is_no_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in = tmp_path / "python3.2"
    stand_in.write_text("#!/bin/sh\nexit 127\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert environments.find_python("3.2") is None


def test_an_environment_is_made_once_and_again_when_its_pins_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(environments, "_run", lambda command: _pretend(command, commands))
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "rivals")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr("benchmarks.rivals.environments.shutil.which", lambda name: None)
    monkeypatch.setitem(RIVALS, "other", (Release(THIS, "other.txt"),))
    (tmp_path / "other.txt").write_text("other==1")
    python = environments.interpreter("other")
    assert python == tmp_path / "rivals" / f"other-{THIS}" / "bin" / "python"
    assert len(commands) == 2
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(commands[1])
    assert environments.interpreter("other") == python
    assert len(commands) == 2
    (tmp_path / "other.txt").write_text("other==2")
    environments.interpreter("other")
    assert len(commands) == 4


def _pretend(command: list[str], commands: list[list[str]]) -> None:
    commands.append(command)
    if "venv" in command:
        Path(command[-1]).mkdir(parents=True)


def test_a_program_that_fails_is_named_with_the_last_that_it_said() -> None:
    with pytest.raises(NotInstalledError, match="No module named 'fate_utils'"):
        environments.run_program(Path(sys.executable), "fate", "2048")


@pytest.mark.parametrize("name", list(RIVALS))
def test_pins_are_complete_exact_and_with_digests(name: str) -> None:
    for release in RIVALS[name]:
        text = (PROGRAMS / "requirements" / release.pins).read_text(encoding="ascii")
        entries = re.split(r"\n(?=\w)", text.partition("\n")[2])
        assert all(re.match(r"[\w.-]+==[\w.]+ \\\n    --hash=sha256:[0-9a-f]{64}", entry) for entry in entries), entries


def test_nothing_of_the_rivals_is_in_the_projects_own_lock() -> None:
    lock = (environments.REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    for name in ("sf-heu", "fate-utils", "ipcl-python", "openmined-psi", "spu", "secretflow"):
        assert f"\n{name}==" not in lock


def test_programs_for_python_3_8_are_written_in_it() -> None:
    for name in ("__init__", "fate", "ipcl", "workload", "tables", "../_timing", "../__init__"):
        ast.parse((PROGRAMS / f"{name}.py").read_text(encoding="utf-8"), feature_version=(3, 8))


# --- what is asked ---


def test_the_same_work_is_given_to_everybody() -> None:
    assert (workload.weights() == workload.weights()).all()
    assert workload.weights().shape == (workload.ROWS, workload.FEATURES)
    largest = int(np.abs(workload.weights()).max())
    assert 0.99 < largest / (1 << workload.WEIGHT_BITS) <= 1
    places = workload.bins(100)
    assert places.dtype == np.int8
    assert set(places.ravel()) == set(range(workload.BINS))
    assert (workload.bins(100) == places).all()


def test_expected_results_are_what_plain_loops_give() -> None:
    numbers = [row % 7 for row in range(workload.ROWS)]
    table = workload.weights()
    assert workload.expected_product(numbers)[3] == sum(
        int(table[row, 3]) * numbers[row] for row in range(len(numbers))
    )
    places = workload.bins(50)
    sums = workload.expected_sums(numbers[:50], places)
    assert sums[2 * workload.BINS + 4] == sum(numbers[row] for row in range(50) if places[row, 2] == 4)


def test_a_wrong_result_has_no_figures() -> None:
    workload.check("add", [1, 2], [1, 2])
    with pytest.raises(ArithmeticError, match="add: the decrypted result"):
        workload.check("add", [1, 3], [1, 2])


def test_figures_are_the_least_of_the_tries_for_one_item(capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 8.0, 10.0, 14.0, 20.0, 26.0])
    figures = workload.Figures("phe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.rivals.workload.time.process_time", lambda: next(clock))
        assert figures.measure("encrypt_public", lambda: "made", 2) == "made"
    assert figures["encrypt_public"] == 2.0
    figures.share_encryptor()
    figures.scale("encrypt_public", 10, "a tenth")
    figures.report()
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "library": f"phe {version('phe')}, Paillier",
        "cpu_seconds": {"encrypt_public": 20.0, "encrypt_owner": 2.0},
        "notes": {
            "encrypt_owner": "the library has one encryptor, of the public key",
            "encrypt_public": "a tenth",
        },
    }


# --- what follows ---


def test_ratios_are_the_rivals_seconds_over_ours_and_none_without_the_rival() -> None:
    figures = {
        "isthmus_gmpy2": dict.fromkeys(UNITS, 1.0) | {"encrypt_owner": 2.0, "matmul": 4.0, "encrypt_owner_djn": 1.5},
        "isthmus_native": dict.fromkeys(UNITS, 0.1) | {"encrypt_owner": 0.5},
        "phe": {"matmul": 8.0},
        "heu_zpaillier": {"encrypt_owner": 3.0, "decrypt": 0.5, "matmul": 6.0, "add": 2.0, "histogram": 10.0},
    }
    found = paillier.ratios(figures, "isthmus_gmpy2")
    assert found["encrypt_owner_vs_heu_zpaillier"] == 1.5
    assert found["encrypt_owner_djn_vs_heu_zpaillier"] == 2.0  # HEU's only encryption is meant
    assert found["decrypt_vs_heu_zpaillier"] == 0.5
    assert found["matmul_vs_best_rival"] == 1.5  # not our other path, and not the slower rival
    assert found["decrypt_vs_ipcl"] is None
    assert found["histogram_vs_heu_ou"] is None
    assert paillier.ratios(figures, "isthmus_native")["encrypt_owner_vs_heu_zpaillier"] == 6.0


def test_alignments_of_other_libraries_count_only_if_they_found_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = {"openmined_psi": {"joint_rows": 5, "cpu_seconds": 3.0}, "spu": None}

    def measure(
        rival: str, program: str, arguments: tuple[str, ...], missing: dict[str, str]
    ) -> dict[str, float] | None:
        if reports[rival] is None:
            missing[" ".join((program, *arguments))] = "not here"
        return reports[rival]

    monkeypatch.setattr(_psi_rivals, "measure", measure)
    found = _psi_rivals.compare(10, 5, seconds=4.0, cpu_seconds=2.0, megabytes=1.0)
    assert found["ratios"] == {"cpu_vs_openmined_psi": 1.5, "cpu_vs_spu_ecdh": None, "cpu_vs_spu_rr22": None}
    assert found["not_installed"] == {"spu 10 ecdh": "not here", "spu 10 rr22": "not here"}
    assert [row["library"] for row in found["rows"]] == ["isthmus", "openmined_psi"]
    with pytest.raises(ArithmeticError, match="openmined_psi found 5 joint rows, and there are 4"):
        _psi_rivals.compare(10, 4, seconds=4.0, cpu_seconds=2.0, megabytes=1.0)


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
def test_half_of_the_identifiers_are_common(rows: int) -> None:
    guest, host = tables.identifiers(rows)
    assert len(set(guest)) == len(set(host)) == rows
    assert len(set(guest) & set(host)) == rows // 2


def test_the_peak_of_a_process_is_its_own(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  900000 kB\nVmHWM:\t   20480 kB\n")
    assert tables.peak_megabytes(status) == 20.0
    assert tables.peak_megabytes(tmp_path / "none") > 10


def test_a_rival_trains_on_the_standardised_joint_rows(tmp_path: Path) -> None:
    demo = breast_cancer(1, None, 0.9)
    file = tmp_path / "table.npz"
    _logistic_rivals.write_table(demo, file)
    with np.load(file) as data:
        joint = set(demo.guest["id"]) & set(demo.host["id"])
        assert len(data["label"]) == len(data["guest"]) == len(data["host"]) == len(joint)
        assert data["guest"].shape[1] == len(demo.guest_features)
        assert data["host"].shape[1] == len(demo.host_features)
        assert abs(data["host"].mean(axis=0)).max() < 1e-9
        assert int(data["training"]) == round(0.7 * len(joint))


def test_a_relay_passes_on_and_counts_both_directions() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(server.getsockname()[1])

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1000):
                    connection.sendall(data * 2)

        thread = threading.Thread(target=answer)
        thread.start()
        with socket.create_connection(("127.0.0.1", relay.port)) as client:
            client.sendall(b"x" * 100)
            client.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: client.recv(1000), b""))
        thread.join()
        relay.close()
    assert received == b"x" * 200
    assert relay.counted == 300
