"""Two parties by hand, as the README tells it: only the command line, two homes, a decision by the host's operator."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from infra.broker import EmbeddedBroker
from producers.demo_data import breast_cancer
from producers.demo_parties import DemoOptions, make_spec
from producers.spec import mapping_of

DEADLINE_SECONDS = 300
SECRET_FILES = ("master.secret", "storage.secret", "party.key", "kem.key", "signing.key")
COUNTS = ("signed", "countersigned_by_peer", "countersigned_by_us")

pytestmark = pytest.mark.timeout(900)


def _isthmus(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "producers.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@contextmanager
def _processes(home: str) -> Iterator[None]:
    """`isthmus party run` in a terminal of its own, ended as by Ctrl-C."""
    process = subprocess.Popen([sys.executable, "-m", "producers.cli", "party", "run", "--home", home])
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0


@pytest.fixture
def homes(guarded_broker: EmbeddedBroker, new_party: Callable[[str], str], tmp_path: Path) -> tuple[str, str]:
    """Guest and host, set up step by step. Returns their homes; a home's folder has the name of its party."""
    tables = breast_cancer(3, rows=160)
    names = new_party("clinic"), new_party("laboratory")
    folders = tuple(tmp_path / name for name in names)
    for folder, peer, table in zip(folders, reversed(names), (tables.guest, tables.host), strict=True):
        home = str(folder)
        at = ("--bootstrap", guarded_broker.bootstrap, "--ca", str(guarded_broker.ca_file))
        _isthmus("party", "init", folder.name, *at, "--peer", peer, "--home", home)
        settings = yaml.safe_load((folder / "party.yaml").read_text(encoding="utf-8"))
        settings["datasets"]["people"] = {"path": "people.csv", "id": "id"}
        if tables.label in table.columns:
            settings["datasets"]["people"]["label"] = tables.label
        (folder / "party.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        table.to_csv(folder / "people.csv", index=False)
        admin = ("--admin", str(guarded_broker.admin_file))
        _isthmus("topics", "create", *admin, "--home", home)
        _isthmus("topics", "acls", "--apply", *admin, "--home", home)
    guest, host = (str(folder) for folder in folders)
    _isthmus("federation", "init", "health", "--home", guest)
    _isthmus("federation", "join", f"{guest}/federation/draft.json", "--home", host)
    _isthmus("federation", "sign", f"{host}/federation/draft.json", "--home", guest)
    _isthmus("federation", "sign", f"{guest}/federation/manifest-1.json", "--home", host)
    return str(folders[0]), str(folders[1])


@pytest.fixture
def spec(homes: tuple[str, str], tmp_path: Path) -> Path:
    """The job, small, without names of columns: each party brings what it has."""
    options = DemoOptions(max_passes=2)
    written = dict(mapping_of(make_spec(options, breast_cancer(3, rows=160))))
    written["guest"] = {"party": Path(homes[0]).name, "dataset": "people"}
    written["hosts"] = [{"party": Path(homes[1]).name, "dataset": "people"}]
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    return path


def test_two_parties_decide_train_and_keep_their_halves(homes: tuple[str, str], spec: Path, tmp_path: Path) -> None:
    """One story: a job is declined, its repetition cancelled, another one approved by name, trained and exported."""
    guest, host = homes
    with ExitStack() as stack:
        for home in homes:
            stack.enter_context(_processes(home))

        declined = json.loads(_isthmus("job", "submit", str(spec), "--json", "--home", guest))["job_id"]
        _await_proposal(declined, host)
        assert "declined" in _isthmus("party", "decline", declined, "--reason", "not on Sundays", "--home", host)
        told = _isthmus("job", "watch", declined, "--home", guest, code=1)
        assert f"declined at {Path(host).name}" in told

        again = _isthmus("job", "retry", declined, "--home", guest).split()[0]
        assert "cancelled" in _isthmus("job", "cancel", again, "--home", guest)

        job_id = json.loads(_isthmus("job", "submit", str(spec), "--json", "--home", guest))["job_id"]
        _await_proposal(job_id, host)
        refusal = _isthmus("party", "approve", job_id, "--home", host, code=1)
        assert "--accept-leak small_table" in refusal
        _isthmus("party", "approve", job_id, "--accept-leak", "small_table", "--home", host)
        for home in homes:
            assert "succeeded" in _isthmus("job", "watch", job_id, "--home", home)

        digests = set()
        for home in homes:
            shown = json.loads(_isthmus("model", "show", job_id, "--json", "--home", home))
            digests.add(shown["model_sha256"])
            half = json.loads(_isthmus("model", "export", job_id, "--home", home))
            header = (Path(home) / "people.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
            assert set(half["columns"]) == set(header) - {"id", "malignant"}, "its own columns and no other"
            assert (half["intercept"] is not None) == (home == guest)
            assert "up to date" in _isthmus("lag", "--home", home)
        assert len(digests) == 1, "both registries name the same model"

        _compare_what_crossed(job_id, guest, host, tmp_path)

        page = tmp_path / "report.html"
        for home, charts in ((guest, 7), (host, 2)):
            _isthmus("job", "report", job_id, "-o", str(page), "--home", home)
            assert page.read_text(encoding="utf-8").count("<svg") == charts

        _isthmus("party", "rekey", "--home", guest)
        refused = _isthmus("party", "erase", "--home", guest, code=1)
        assert "states still rest under a former key" in refused and f"vfl.train.state.{Path(guest).name}.v1" in refused

        listed = _isthmus("job", "list", "--home", guest)
        assert [line.split()[0] for line in listed.splitlines()] == [declined, again, job_id]
    _await_erased(guest, 2)
    # Once more: records that the first sweep replaced may lie there still, and nothing opens them any more.
    _isthmus("party", "rekey", "--home", guest)
    _await_erased(guest, 3)


def _compare_what_crossed(job_id: str, guest: str, host: str, folder: Path) -> None:
    """Both hand each other what they wrote down; a record is proven; a list that was shortened is found out."""
    parties = {home: Path(home).name for home in (guest, host)}
    files = {home: folder / f"{party}.json" for home, party in parties.items()}
    for home, file in files.items():
        _isthmus("audit", "statement", job_id, "--out", str(file), "--home", home)
    for home, other in ((guest, host), (host, guest)):
        found = json.loads(_isthmus("audit", "reconcile", job_id, str(files[other]), "--json", "--home", home))
        stages = {each["stream"].split()[0] for each in found}
        assert stages == {"job", "align", "train", "evaluate", "register"}
        assert all(each["count"] and not each["detail"] for each in found)
    ends = ("--sender", parties[guest], "--receiver", parties[host], "--stage", "train")
    proof = folder / "proof.json"
    _isthmus("audit", "prove", job_id, "0.0", *ends, "--out", str(proof), "--home", guest)
    told = _isthmus("audit", "verify", str(proof), "--home", host)
    assert told.startswith(f"{parties[guest]} signed that record 0.0 from train of {parties[guest]}")
    document = json.loads(files[host].read_text(encoding="utf-8"))
    document["entries"][0].pop()
    files[host].write_text(json.dumps(document), encoding="utf-8")
    refused = _isthmus("audit", "reconcile", job_id, str(files[host]), "--home", guest, code=1)
    assert f"are not those that {parties[host]} signed" in refused
    assert "nothing of a job nonsense crossed" in _isthmus("audit", "show", "nonsense", "--home", guest, code=1)
    *lines, hint = _isthmus("audit", "show", job_id, "--home", guest).splitlines()
    assert len(lines) == len(document["entries"])
    assert hint.endswith(f"isthmus audit status {job_id}")
    for home in (guest, host):
        _await_signed(job_id, home)
    manifest = str(Path(guest) / "federation" / "manifest-1.json")
    _isthmus("audit", "export", job_id, "--out", str(proof), "--home", host)
    told = _isthmus("audit", "verify", str(proof), "--manifest", manifest)
    assert told.count("counter-signed the first") == 2 * len(lines), "each stream, by either side"
    for home in (guest, host):
        _execute_again(job_id, home, ("--signed", str(proof), "--manifest", manifest), folder)


def _execute_again(job_id: str, home: str, signed: tuple[str, ...], folder: Path) -> None:
    """What an auditor does with what a party reveals: no home and no broker are named."""
    party, revealed, table = Path(home).name, folder / "revealed.bin", Path(home) / "people.csv"
    assert "all that" in _isthmus("audit", "reveal", job_id, "--out", str(revealed), "--home", home)
    assert stat.S_IMODE(revealed.stat().st_mode) == 0o600
    replay = ("audit", "replay", str(revealed), "--json", "--table")
    found = json.loads(_isthmus(*replay, str(table), *signed))
    assert found["difference"] is None and len(found["signed"]) == 20, "ten streams, signed by either side"
    assert sum(found["equal"].values()) > 15
    told = _isthmus("audit", "replay", str(revealed), "--table", str(table))
    assert f"{party} sent what the protocol makes of its seed, its table and what it took" in told

    lines = table.read_text(encoding="utf-8").splitlines()
    other = folder / "other.csv"
    other.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n", encoding="utf-8")
    found = json.loads(_isthmus(*replay, str(other), code=1))
    assert found["difference"]["detail"].endswith("is not what the protocol sends"), "the fingerprint differs"
    whole = revealed.read_bytes()
    (folder / "cut.bin").write_bytes(whole[:-7])
    assert "ends within a record" in _isthmus("audit", "replay", str(folder / "cut.bin"), "--table", str(table), code=1)
    assert "no file of records" in _isthmus("audit", "replay", str(table), "--table", str(table), code=1)
    key = {name: (Path(home) / "keys" / name).read_text(encoding="ascii").split()[-1] for name in SECRET_FILES}
    for name, digits in key.items():
        assert bytes.fromhex(digits) not in whole, f"{name} was revealed"


def _await_erased(home: str, generation: int) -> None:
    """Processes that start after a new storage key was made seal their states anew; then the former key can go."""
    command = [sys.executable, "-m", "producers.cli", "party", "erase", "--home", home]
    told = ""
    with _processes(home):
        for _ in range(60):
            done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
            told = done.stdout + done.stderr
            if done.returncode == 0:
                break
    assert "deleted 1 former storage keys" in told, told
    assert sorted(path.name for path in (Path(home) / "keys").glob("storage*")) == [f"storage-{generation}.secret"]


def _await_signed(job_id: str, home: str) -> None:
    """Until auditors of both sides have signed every stream, which nobody asked them to. Each look takes a second."""
    command = [sys.executable, "-m", "producers.cli", "audit", "status", job_id, "--json", "--home", home]
    found: list[dict[str, object]] = []
    for _ in range(60):
        told = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
        found = json.loads(told.stdout) if told.returncode == 0 else []
        counts = [{each[name] for name in COUNTS} for each in found]
        if len(found) == 10 and all(len(each) == 1 for each in counts):
            return
    raise AssertionError(f"not signed by both: {found}")


def _await_proposal(job_id: str, host: str) -> None:
    """Until the host's operator would see it. Each look takes a second, so a bounded number of looks has an end."""
    for _ in range(60):
        if f"isthmus party approve {job_id}" in _isthmus("job", "list", "--home", host):
            return
    raise AssertionError(f"{job_id} was not proposed to {host}")
