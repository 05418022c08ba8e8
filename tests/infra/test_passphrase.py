"""Key files that a passphrase seals: where it comes from, and everything that can be wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infra.passphrase import KeySettings, read_passphrase
from infra.secrets import SecretsError, add_pair, create_secrets, load_keys, protect_keys
from infra.settings import SettingsError, load_settings, save_settings

WORDS = b"correct horse battery staple"
NAMES = ("party.key", "signing.key", "master.secret", "storage.secret")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose keys are sealed."""
    create_secrets(tmp_path / "acme", "acme", passphrase=WORDS)
    return tmp_path / "acme"


def test_sealed_files_give_the_keys_to_whoever_has_the_passphrase_and_hold_none_in_clear(home: Path) -> None:
    keys = load_keys(home, "acme", WORDS)
    secrets = (keys.newest.private_key, keys.newest.signing_key, keys.master_secret, keys.storage[1])
    for name, secret in zip(NAMES, secrets, strict=True):
        content = (home / "keys" / name).read_bytes()
        assert secret.hex().encode() not in content
        assert secret not in content
        assert WORDS not in content
    assert add_pair(home, "acme", WORDS).pairs[0] == keys.newest
    assert (home / "keys" / "party-2.key").read_text().startswith("scrypt ")


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_passphrase_is_told_and_so_is_a_changed_file(home: Path, name: str) -> None:
    with pytest.raises(SecretsError, match=r"does not open: the passphrase is wrong") as caught:
        load_keys(home, "acme", b"wrong words")
    assert "wrong words" not in str(caught.value)
    path = home / "keys" / name
    line = path.read_text().rstrip("\n")
    path.write_text(line[:-1] + ("0" if line[-1] != "0" else "1"))
    with pytest.raises(SecretsError, match=f"{name} does not open"):
        load_keys(home, "acme", WORDS)


def test_a_key_file_in_anothers_place_does_not_open(home: Path) -> None:
    (home / "keys" / "signing.key").write_text((home / "keys" / "party.key").read_text())
    with pytest.raises(SecretsError, match=r"signing\.key does not open"):
        load_keys(home, "acme", WORDS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("scrypt 65536 8 2 00", "is damaged"),
        ("scrypt 65536 8 2 zz zz zz", "is damaged"),
        ("scrypt 1073741824 8 2 00 000000000000000000000000 00", "not sealed by this release"),
        ("scrypt 65536 8 2 00 000000000000000000000000 00", "does not open"),
    ],
)
def test_a_damaged_line_neither_hangs_nor_eats_memory(home: Path, line: str, words: str) -> None:
    (home / "keys" / "party.key").write_text(line)
    with pytest.raises(SecretsError, match=words):
        load_keys(home, "acme", WORDS)


def test_sealed_files_without_a_passphrase_and_plain_ones_with_one_say_what_to_do(home: Path, tmp_path: Path) -> None:
    with pytest.raises(SecretsError, match=r"is sealed with a passphrase: say where it comes from under `keys:`"):
        load_keys(home, "acme")
    create_secrets(tmp_path / "plain", "acme")
    with pytest.raises(SecretsError, match=r"is not sealed, though .*: seal it with `isthmus party protect`"):
        load_keys(tmp_path / "plain", "acme", WORDS)


def test_keys_are_sealed_sealed_anew_and_opened_without_being_changed(tmp_path: Path) -> None:
    home = tmp_path / "acme"
    keys = create_secrets(home, "acme")
    add_pair(home, "acme")
    keys = load_keys(home, "acme")
    assert protect_keys(home, "acme", None, WORDS) == keys
    assert protect_keys(home, "acme", WORDS, b"other") == keys
    with pytest.raises(SecretsError, match="does not open"):
        load_keys(home, "acme", WORDS)
    assert protect_keys(home, "acme", b"other", None) == keys
    assert load_keys(home, "acme") == keys
    with pytest.raises(SecretsError, match="does not open"):
        protect_keys(protect_home(home), "acme", b"no", b"never")


def protect_home(home: Path) -> Path:
    protect_keys(home, "acme", None, WORDS)
    return home


def test_a_change_of_passphrase_that_a_crash_cut_short_is_ended_by_doing_it_again(home: Path) -> None:
    keys = load_keys(home, "acme", WORDS)
    before = (home / "keys" / "master.secret").read_text()
    protect_keys(home, "acme", WORDS, b"other")
    (home / "keys" / "master.secret").write_text(before)
    with pytest.raises(SecretsError, match=r"master\.secret does not open"):
        load_keys(home, "acme", b"other")
    assert protect_keys(home, "acme", WORDS, b"other") == keys


def test_the_passphrase_comes_from_the_environment_or_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_passphrase(KeySettings()) is None
    monkeypatch.setenv("ACME_WORDS", "from outside")
    assert read_passphrase(KeySettings(passphrase_env="ACME_WORDS")) == b"from outside"
    for value in ("", None):
        if value is None:
            monkeypatch.delenv("ACME_WORDS")
        else:
            monkeypatch.setenv("ACME_WORDS", value)
        with pytest.raises(SecretsError, match="the environment variable ACME_WORDS is not set"):
            read_passphrase(KeySettings(passphrase_env="ACME_WORDS"))
    command = (sys.executable, "-c", "print('from a program')")
    assert read_passphrase(KeySettings(passphrase_command=command)) == b"from a program"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/nowhere/at-all",), "'/nowhere/at-all' cannot be used: .*No such file"),
        ((sys.executable, "-c", "print('leak'); raise SystemExit(3)"), "ended with code 3 and some output"),
        ((sys.executable, "-c", ""), "ended with code 0 and no output"),
    ],
)
def test_a_program_that_fails_is_told_without_what_it_printed(command: tuple[str, ...], words: str) -> None:
    with pytest.raises(SecretsError, match=words) as caught:
        read_passphrase(KeySettings(passphrase_command=command))
    assert "leak" not in str(caught.value)


def test_settings_name_one_source(tmp_path: Path) -> None:
    settings = {
        "party": "acme",
        "access": {"kind": "custom"},
        "bootstrap_servers": "127.0.0.1:1",
        "keys": {"passphrase_env": "A"},
    }
    save_settings(tmp_path / "acme", settings)
    assert load_settings(tmp_path / "acme").keys.passphrase_env == "A"
    both = {**settings, "keys": {"passphrase_env": "A", "passphrase_command": ["b"]}}
    with pytest.raises(SettingsError, match="keys: name passphrase_env or passphrase_command, not both"):
        save_settings(tmp_path / "both", both)
