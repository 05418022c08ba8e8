"""Key files: made once, read by nobody else, exchanged as public key files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.secrets import SecretsError, add_pair, add_storage, create_secrets, erase_storage, load_keys


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of acme that has keys and nothing else."""
    create_secrets(tmp_path / "acme", "acme")
    return tmp_path / "acme"


def test_all_keys_are_drawn(home: Path, tmp_path: Path) -> None:
    acme, globex = load_keys(home, "acme"), create_secrets(tmp_path / "globex", "globex")
    drawn = [(one.newest.private_key, one.newest.signing_key, one.master_secret) for one in (acme, globex)]
    assert len({key for keys in drawn for key in keys}) == 6
    assert not acme.is_unsafe


def test_secret_files_are_for_their_owner_only(home: Path) -> None:
    for name in ("party.key", "kem.key", "signing.key", "storage.secret", "master.secret"):
        assert stat.S_IMODE((home / "keys" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "keys").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["party.key", "kem.key", "signing.key", "storage.secret", "master.secret"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_may_read_or_write_is_refused(home: Path, name: str, mode: int) -> None:
    path = home / "keys" / name
    path.chmod(mode)
    with pytest.raises(SecretsError, match=f"chmod 600 {path}"):
        load_keys(home, "acme")


def test_keys_are_never_replaced(home: Path) -> None:
    before = (home / "keys" / "party.key").read_bytes()
    with pytest.raises(SecretsError, match="is not replaced"):
        create_secrets(home, "acme")
    assert (home / "keys" / "party.key").read_bytes() == before


def test_no_key_shows_in_texts(home: Path) -> None:
    secrets = load_keys(home, "acme")
    for key in (secrets.newest.private_key, secrets.newest.signing_key, secrets.master_secret):
        assert key.hex() not in repr(secrets)
        assert repr(key) not in repr(secrets)


def test_purposes_get_unrelated_secrets(home: Path) -> None:
    secrets = load_keys(home, "acme")
    derived = {
        secrets.storage[1],
        secrets.storage_secret,
        secrets.derive("fingerprint"),
        secrets.master_secret,
        secrets.naming_key,
    }
    assert len({*derived, secrets.newest.private_key}) == 6
    assert secrets.storage_secret == load_keys(home, "acme").storage_secret


def test_a_seed_repeats_itself_and_marks_the_keys_as_unsafe(tmp_path: Path) -> None:
    keys = [create_secrets(tmp_path / str(number), "acme", unsafe_seed=b"demo") for number in range(2)]
    other = create_secrets(tmp_path / "other", "globex", unsafe_seed=b"demo")
    assert keys[0] == keys[1]
    assert other.newest.private_key != keys[0].newest.private_key
    assert other.newest.signing_key != keys[0].newest.signing_key
    first, second = (load_keys(tmp_path / str(number), "acme") for number in range(2))
    assert first == second
    assert first.is_unsafe
    assert "UNSAFE" in (tmp_path / "0" / "keys" / "master.secret").read_text()


@pytest.mark.parametrize("content", ["", "ab" * 31, "zz" * 32, "ä" * 32])
def test_a_damaged_secret_is_told_without_its_content(home: Path, content: str) -> None:
    path = home / "keys" / "party.key"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SecretsError, match=r"party\.key") as caught:
        load_keys(home, "acme")
    assert not content or content not in str(caught.value)


def test_new_keys_come_beside_the_old_ones(home: Path) -> None:
    before = load_keys(home, "acme")
    after = add_pair(home, "acme")
    assert after.pairs[:-1] == before.pairs
    assert after.newest not in before.pairs
    assert (after.storage_secret, after.naming_key) == (before.storage_secret, before.naming_key)
    assert after.pair_with(before.newest.public_key) == before.newest
    assert after.pair_with(bytes(32)) is None
    for name in ("party-2.key", "signing-2.key"):
        assert stat.S_IMODE((home / "keys" / name).stat().st_mode) == 0o600


def test_a_new_storage_key_comes_beside_the_former_ones_until_they_are_erased(home: Path) -> None:
    before = load_keys(home, "acme")
    assert list(before.storage) == [1]
    (home / "keys" / "storage-2.secret.4711").write_text("half a k")
    after = add_storage(home, "acme")
    assert after.storage[1] == before.storage[1] != after.storage[2]
    assert (after.master_secret, after.storage_secret) == (before.master_secret, before.storage_secret)
    assert stat.S_IMODE((home / "keys" / "storage-2.secret").stat().st_mode) == 0o600
    third = add_storage(home, "acme")
    assert erase_storage(home, third) == 2
    assert load_keys(home, "acme").storage == {3: third.storage[3]}
    assert list(add_storage(home, "acme").storage) == [3, 4]


def test_a_storage_key_that_is_missing_or_open_to_others_is_told(home: Path) -> None:
    path = home / "keys" / "storage.secret"
    path.chmod(0o640)
    with pytest.raises(SecretsError, match=r"storage\.secret can be read or changed by other users"):
        load_keys(home, "acme")
    path.unlink()
    with pytest.raises(SecretsError, match=r"storage\.secret is missing"):
        load_keys(home, "acme")


def test_new_keys_that_a_crash_cut_short_do_not_count_and_are_made_again(home: Path) -> None:
    before = load_keys(home, "acme")
    (home / "keys" / "signing-2.key").write_text("ab" * 32)
    assert load_keys(home, "acme") == before
    assert len(add_pair(home, "acme").pairs) == 2


def test_a_generation_that_is_missing_is_told(home: Path) -> None:
    add_pair(home, "acme")
    add_pair(home, "acme")
    (home / "keys" / "signing-2.key").unlink()
    with pytest.raises(SecretsError, match=r"signing-2\.key is missing"):
        load_keys(home, "acme")
