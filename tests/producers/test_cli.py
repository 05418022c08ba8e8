"""The command line: errors say what, where and what to do, with an exit code; nothing half-done."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from infra.broker.certificates import CA, prepare_certificates
from infra.code_digest import code_digest
from infra.connection import connect_as
from infra.secrets import SecretsError
from infra.settings import load_settings
from producers import topic_reader
from producers.cli import CommandGroup, main

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
    for name in ("party.key", "kem.key", "signing.key", "storage.secret", "master.secret"):
        assert (Path(home) / "keys" / name).stat().st_mode & 0o077 == 0


def test_a_home_is_not_made_twice(home: str) -> None:
    before = (Path(home) / "keys" / "party.key").read_bytes()
    result = _run("party", "init", "bank", "--home", home)
    assert result.exit_code == 78
    assert "exists already" in result.output
    assert (Path(home) / "keys" / "party.key").read_bytes() == before


def test_a_home_takes_the_brokers_authority_along_or_is_not_made(tmp_path: Path) -> None:
    rubbish, home = tmp_path / "rubbish.pem", tmp_path / "bank"
    rubbish.write_text("no certificate")
    for path in (rubbish, tmp_path / "absent.pem"):
        result = _run("party", "init", "bank", "--ca", str(path), "--home", str(home))
        assert result.exit_code == 78
        assert f"{path}, which is to vouch for the broker, holds no certificates in PEM" in result.output
        assert not home.exists()
    prepare_certificates(tmp_path / "old", now=datetime(2000, 1, 1, tzinfo=UTC))
    result = _run("party", "init", "bank", "--ca", str(tmp_path / "old" / CA), "--home", str(home))
    assert "its certificates expired on 2009-12-29" in result.output
    prepare_certificates(tmp_path / "tls")
    assert _run("party", "init", "bank", "--ca", str(tmp_path / "tls" / CA), "--home", str(home)).exit_code == 0
    assert load_settings(home).resolve("broker-ca.pem").read_bytes() == (tmp_path / "tls" / CA).read_bytes()
    connection = connect_as(load_settings(home), "train")
    assert connection["ssl.ca.location"] == str(home / "broker-ca.pem")
    assert (connection["security.protocol"], connection["sasl.username"]) == ("SASL_SSL", "bank.train")


def test_passwords_that_were_handed_out_take_the_place_of_derived_ones(home: str) -> None:
    settings, file = Path(home) / "party.yaml", Path(home) / "passwords.json"
    derived = connect_as(load_settings(Path(home)), "train")["sasl.password"]
    assert derived != connect_as(load_settings(Path(home)), "align")["sasl.password"]
    settings.write_text(settings.read_text().replace("kind: scram", "kind: scram\n  passwords: passwords.json"))
    with pytest.raises(SecretsError, match="is missing"):
        connect_as(load_settings(Path(home)), "train")
    file.write_text('{"train": "handed-out"}')
    file.chmod(0o644)
    with pytest.raises(SecretsError, match="can be read or changed by other users: chmod 600"):
        connect_as(load_settings(Path(home)), "train")
    file.chmod(0o600)
    assert connect_as(load_settings(Path(home)), "train")["sasl.password"] == "handed-out"
    with pytest.raises(SecretsError, match="has no password for 'align'"):
        connect_as(load_settings(Path(home)), "align")
    for rubbish in ("[]", '{"train": 5}', "{"):
        file.write_text(rubbish)
        with pytest.raises(SecretsError, match=r"expected JSON such as \{\"client\""):
            connect_as(load_settings(Path(home)), "train")


def test_what_access_decides_is_not_set_twice(home: str) -> None:
    settings = Path(home) / "party.yaml"
    settings.write_text(settings.read_text() + "kafka: {security.protocol: PLAINTEXT}\n")
    result = _run("topics", "list", "--home", home)
    assert result.exit_code == 78
    assert "kafka: security.protocol cannot be set where `access` says how to connect" in result.output


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


def _federate(home: str, tmp_path: Path) -> str:
    """bank founds, shop joins, both sign. Returns the home of shop."""
    shop = str(tmp_path / "shop")
    assert _run("party", "init", "shop", "--peer", "bank", "--home", shop).exit_code == 0
    for command in (
        ("init", "north", "--home", home),
        ("join", f"{home}/federation/draft.json", "--home", shop),
        ("sign", f"{shop}/federation/draft.json", "--home", home),
        ("sign", f"{home}/federation/manifest-1.json", "--home", shop),
    ):
        result = _run("federation", *command)
        assert result.exit_code == 0, result.output
    return shop


def test_a_federation_comes_about_by_four_commands_that_each_say_what_is_next(home: str, tmp_path: Path) -> None:
    assert "bank is in no federation yet" in _run("federation", "show", "--home", home).output
    result = _run("federation", "init", "north", "--home", home)
    draft = f"{home}/federation/draft.json"
    assert f"next: give {draft} to shop, to be taken with `isthmus federation join FILE`" in result.output
    shown = _run("federation", "show", "--home", home).output
    assert "waits for bank, shop" in shown
    shutil.rmtree(f"{home}/federation")
    shop = _federate(home, tmp_path)
    texts = [_run("federation", "show", "--home", each).output for each in (home, shop)]
    fingerprints = [re.findall(r"[0-9a-f]{4}(?:-[0-9a-f]{4}){7}", text) for text in texts]
    assert len(fingerprints[0]) == 2
    assert fingerprints[0] == fingerprints[1]
    for each in (home, shop):
        for name in ("party.key", "kem.key", "signing.key", "storage.secret", "master.secret"):
            secret = (Path(each) / "keys" / name).read_text(encoding="ascii").strip()
            assert secret not in "".join(texts)


def test_a_party_that_rotates_says_who_has_to_sign(home: str, tmp_path: Path) -> None:
    shop = _federate(home, tmp_path)
    options = ("--grace-hours", "0", "--allow-trusted-guest", "--randomisers", "djn")
    result = _run("federation", "rotate", *options, "--home", home)
    assert "waits for shop" in result.output
    assert "Paillier 2048 bits (exact, djn), split_link, trusted_guest" in result.output
    offered = _run("federation", "show", f"{home}/federation/draft.json", "--home", shop).output
    shown = _run("federation", "show", "--home", home).output
    assert "bank has a new key" not in _run("federation", "show", "--home", shop).output, "nothing is taken"
    for change in ("bank has a new key, kem_key, signing_key", "profile changes"):
        assert change in offered
        assert f"change: {change}" in shown
    assert _run("federation", "sign", f"{home}/federation/draft.json", "--home", shop).exit_code == 0
    assert _run("federation", "sign", f"{shop}/federation/manifest-2.json", "--home", home).exit_code == 0
    manifests = [json.loads(_run("federation", "show", "--json", "--home", each).output) for each in (home, shop)]
    assert manifests[0] == manifests[1]
    assert manifests[0]["manifest"]["profile"]["privacy"] == ["split_link", "trusted_guest"]
    assert manifests[0]["manifest"]["profile"]["randomisers"] == "djn"


def test_a_file_that_is_no_manifest_is_refused_with_its_name(home: str, tmp_path: Path) -> None:
    path = tmp_path / "received.json"
    path.write_text('{"manifest": {"format": "isthmus-federation-0"}}')
    result = _run("federation", "join", str(path), "--home", home)
    assert result.exit_code == 78
    assert f"{path} is no manifest that can be used" in result.output
    assert "manifest.members: Field required" in result.output
    assert not (Path(home) / "federation").exists()


def test_a_manifest_binds_to_the_code_that_runs(home: str, tmp_path: Path) -> None:
    _federate(home, tmp_path)
    found = json.loads(_run("federation", "show", "--json", "--home", home).output)["manifest"]
    assert found["code"] == [code_digest()]


def test_processes_do_not_start_without_a_manifest_that_all_have_signed(home: str) -> None:
    result = _run("party", "run", "--home", home)
    assert result.exit_code == 78
    assert "holds no signed manifest" in result.output
    assert _run("federation", "init", "north", "--home", home).exit_code == 0
    result = _run("party", "run", "--home", home)
    assert result.exit_code == 78
    assert "not signed by bank, shop yet" in result.output


def test_no_command_takes_a_secret_as_an_argument() -> None:
    words = ("secret", "password", "private")
    assert isinstance(main, CommandGroup)
    context = click.Context(main)
    commands = [main.get_command(context, name) for name in main.list_commands(context)]
    assert len(commands) > 10
    for command in commands:
        assert command is not None
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


def test_a_home_whose_keys_a_passphrase_seals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = str(tmp_path / "bank")
    refused = _run("party", "init", "bank", "--passphrase-env", "BANK_WORDS", "--home", home)
    assert refused.exit_code == 78
    assert "BANK_WORDS is not set" in refused.output
    assert not Path(home).exists(), "nothing half-done stays"
    monkeypatch.setenv("BANK_WORDS", "open sesame")
    assert _run("party", "init", "bank", "--passphrase-env", "BANK_WORDS", "--home", home).exit_code == 0
    assert _run("federation", "init", "north", "--home", home).exit_code == 0
    monkeypatch.setenv("BANK_WORDS", "open barley")
    assert "the passphrase is wrong" in _run("federation", "show", "--home", home).output
    monkeypatch.setenv("BANK_FORMER", "open sesame")
    result = _run("party", "protect", "--former-env", "BANK_FORMER", "--home", home)
    assert result.exit_code == 0, result.output
    assert _run("federation", "show", "--home", home).exit_code == 0
