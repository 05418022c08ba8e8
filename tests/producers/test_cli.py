"""The command line: errors say what, where and what to do, with an exit code; nothing half-done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra.public_keys import PUBLIC_FORMAT
from infra.settings import load_settings
from producers import topic_reader
from producers.cli import main

#: Port 1 of loopback: nobody listens there, and connections are refused at once.
NOWHERE = "127.0.0.1:1"


def _run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def home(tmp_path: Path) -> str:
    """A party whose broker does not exist."""
    folder = str(tmp_path / "bank")
    assert _run("party", "init", "bank", "--bootstrap", NOWHERE, "--peer", "shop", "--home", folder).exit_code == 0
    return folder


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_reader, "ANSWER_SECONDS", 0.5)


def test_a_new_home_has_settings_and_private_keys(home: str) -> None:
    assert load_settings(Path(home)).peers == ("shop",)
    for name in ("party.key", "signing.key", "master.secret"):
        assert (Path(home) / "keys" / name).stat().st_mode & 0o077 == 0


def test_a_home_is_not_made_twice(home: str) -> None:
    before = (Path(home) / "keys" / "party.key").read_bytes()
    result = _run("party", "init", "bank", "--home", home)
    assert result.exit_code == 78
    assert "exists already" in result.output
    assert (Path(home) / "keys" / "party.key").read_bytes() == before


def test_a_home_without_settings_says_how_to_make_one(tmp_path: Path) -> None:
    result = _run("job", "list", "--home", str(tmp_path))
    assert result.exit_code == 78
    assert "isthmus party init" in result.output


@pytest.mark.parametrize(
    "command", [("job", "list"), ("lag",), ("model", "list"), ("topics", "create"), ("topics", "list")]
)
def test_no_broker_is_said_with_its_address_and_what_to_do(command: tuple[str, ...], home: str) -> None:
    result = _run(*command, "--home", home)
    assert result.exit_code == 3
    assert f"no Kafka broker answers at {NOWHERE}" in result.output
    assert "isthmus broker run" in result.output


def test_a_spec_with_mistakes_reports_all_of_them_and_needs_no_broker(home: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: credit\nlabel: y\ntrain: {rank: -1}\nbosting: {}\n", encoding="utf-8")
    result = _run("job", "submit", str(spec), "--home", home)
    assert result.exit_code == 2
    assert "4 mistakes, and nothing was submitted" in result.output
    for path in ("guest: ", "hosts: ", "train.rank: ", "bosting: "):
        assert f"\n  {path}" in result.output


def test_keys_show_fingerprints_and_what_is_missing_but_no_secret(home: str) -> None:
    result = _run("keys", "show", "--home", home)
    assert result.exit_code == 0
    assert "shop" in result.output
    assert "missing" in result.output
    for name in ("party.key", "signing.key", "master.secret"):
        assert (Path(home) / "keys" / name).read_text(encoding="ascii").strip() not in result.output


def test_parties_exchange_public_keys(home: str, tmp_path: Path) -> None:
    shop = str(tmp_path / "shop")
    assert _run("party", "init", "shop", "--peer", "bank", "--home", shop).exit_code == 0
    result = _run("keys", "trust", f"{shop}/keys/party.pub", "--home", home)
    assert result.exit_code == 0
    assert result.output.split()[1].rstrip(";") in _run("keys", "show", "--home", shop).output


def test_a_truncated_key_of_a_peer_is_refused(home: str, tmp_path: Path) -> None:
    path = tmp_path / "shop.pub"
    key = {"format": PUBLIC_FORMAT, "party": "shop", "key": "ab" * 31, "signing_key": "ab" * 32, "fingerprint": ""}
    path.write_text(json.dumps(key), encoding="utf-8")
    result = _run("keys", "trust", str(path), "--home", home)
    assert result.exit_code == 78
    assert "31 bytes" in result.output
    assert not (Path(home) / "peers" / "shop.pub").exists()


def test_a_home_from_before_signing_keys_is_upgraded_by_a_command(home: str) -> None:
    signing_key = Path(home) / "keys" / "signing.key"
    signing_key.unlink()
    assert "isthmus keys upgrade" in _run("keys", "show", "--home", home).output
    result = _run("keys", "upgrade", "--home", home)
    assert result.exit_code == 0
    assert signing_key.read_text(encoding="ascii").strip() not in result.output
    assert result.output.split()[1].rstrip(";") in _run("keys", "show", "--home", home).output


def test_processes_do_not_start_without_the_keys_of_every_peer(home: str) -> None:
    result = _run("party", "run", "--home", home)
    assert result.exit_code == 78
    assert "shop.pub" in result.output


def test_no_command_takes_a_secret_as_an_argument() -> None:
    words = ("secret", "password", "private")
    for command in main.commands.values():
        for inner in getattr(command, "commands", {"": command}).values():
            names = [option for parameter in inner.params for option in parameter.opts]
            assert not [name for name in names if any(word in name for word in words)]


def test_the_demo_refuses_files_that_are_not_there(tmp_path: Path) -> None:
    result = _run("demo", "--json", "--data", str(tmp_path / "nothing"), "--folder", str(tmp_path / "demo"))
    assert result.exit_code == 2
    line = json.loads(result.stdout.splitlines()[-1])
    assert line["status"] == "failed"
    assert "nothing_guest.csv" in line["error"]


def test_the_demo_empties_no_folder_that_it_did_not_make(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work", encoding="utf-8")
    result = _run("demo", "--json", "--folder", str(folder))
    assert result.exit_code == 1
    assert "choose another --folder" in json.loads(result.stdout.splitlines()[-1])["error"]
    assert (folder / "thesis.txt").exists()
