"""Key files: made once, read by nobody else, exchanged as public key files."""

from __future__ import annotations

import contextlib
import json
import stat
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from infra.public_keys import SMALL_ORDER
from infra.secrets import (
    PublicKey,
    SecretsError,
    add_peer,
    add_signing_key,
    create_secrets,
    load_secrets,
    read_public_key,
)


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    """Homes of acme and globex, which know each other."""
    acme, globex = tmp_path / "acme", tmp_path / "globex"
    create_secrets(acme, "acme")
    create_secrets(globex, "globex")
    add_peer(acme, globex / "keys" / "party.pub")
    add_peer(globex, acme / "keys" / "party.pub")
    return acme, globex


def test_both_sides_know_each_other_by_the_same_keys(homes: tuple[Path, Path]) -> None:
    acme, globex = load_secrets(homes[0], "acme", ("globex",)), load_secrets(homes[1], "globex", ("acme",))
    assert acme.peer_keys == {"globex": globex.public_key.key}
    assert globex.peer_keys == {"acme": acme.public_key.key}
    drawn = [(one.private_key, one.signing_key, one.master_secret) for one in (acme, globex)]
    assert len({key for keys in drawn for key in keys}) == 6
    assert not acme.is_unsafe


def test_secret_files_are_for_their_owner_only(homes: tuple[Path, Path]) -> None:
    for name in ("party.key", "signing.key", "master.secret"):
        assert stat.S_IMODE((homes[0] / "keys" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((homes[0] / "keys").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["party.key", "signing.key", "master.secret"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_may_read_or_write_is_refused(homes: tuple[Path, Path], name: str, mode: int) -> None:
    path = homes[0] / "keys" / name
    path.chmod(mode)
    with pytest.raises(SecretsError, match=f"chmod 600 {path}"):
        load_secrets(homes[0], "acme")


def test_keys_are_never_replaced(homes: tuple[Path, Path]) -> None:
    before = (homes[0] / "keys" / "party.key").read_bytes()
    with pytest.raises(SecretsError, match="is not replaced"):
        create_secrets(homes[0], "acme")
    assert (homes[0] / "keys" / "party.key").read_bytes() == before


def test_no_key_shows_in_texts(homes: tuple[Path, Path]) -> None:
    secrets = load_secrets(homes[0], "acme", ("globex",))
    for key in (secrets.private_key, secrets.signing_key, secrets.master_secret):
        assert key.hex() not in repr(secrets)
        assert repr(key) not in repr(secrets)


def test_purposes_get_unrelated_secrets(homes: tuple[Path, Path]) -> None:
    secrets = load_secrets(homes[0], "acme")
    derived = {secrets.storage_secret, secrets.derive("fingerprint"), secrets.master_secret, secrets.private_key}
    assert len(derived) == 4
    assert secrets.storage_secret == load_secrets(homes[0], "acme").storage_secret


def test_a_seed_repeats_itself_and_marks_the_keys_as_unsafe(tmp_path: Path) -> None:
    keys = [create_secrets(tmp_path / str(number), "acme", unsafe_seed=b"demo") for number in range(2)]
    other = create_secrets(tmp_path / "other", "globex", unsafe_seed=b"demo")
    assert keys[0] == keys[1]
    assert other.key != keys[0].key
    assert other.signing_key != keys[0].signing_key
    first, second = (load_secrets(tmp_path / str(number), "acme") for number in range(2))
    assert first == second
    assert first.is_unsafe
    assert "UNSAFE" in (tmp_path / "0" / "keys" / "master.secret").read_text()


def test_a_public_key_file_tells_party_key_and_fingerprint(homes: tuple[Path, Path]) -> None:
    content = json.loads((homes[0] / "keys" / "party.pub").read_text())
    public_key = load_secrets(homes[0], "acme").public_key
    assert content["party"] == "acme"
    assert bytes.fromhex(content["key"]) == public_key.key
    assert content["fingerprint"] == public_key.fingerprint
    assert bytes.fromhex(content["signing_key"]) == public_key.signing_key
    others = [
        PublicKey("globex", public_key.key, public_key.signing_key),
        PublicKey("acme", public_key.signing_key, public_key.signing_key),
        PublicKey("acme", public_key.key, public_key.key),
    ]
    assert len({key.fingerprint for key in (public_key, *others)}) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "ab" * 31}, "a key of 31 bytes, X25519 keys have 32"),
        ({"key": "ab" * 33}, "a key of 33 bytes"),
        ({"key": "xy"}, "is damaged"),
        ({"key": None}, "is damaged"),
        ({"party": "initech"}, "does not match its own fingerprint"),
        ({"key": "ab" * 32}, "does not match its own fingerprint"),
        ({"signing_key": "ab" * 32}, "does not match its own fingerprint"),
        ({"signing_key": "ab" * 31}, "no usable Ed25519 key"),
        ({"signing_key": None}, "is damaged"),
        ({"signing_key": "00" * 32}, "no usable Ed25519 key"),
        ({"format": "isthmus-public-key-1"}, "'globex' has to run `isthmus keys upgrade`"),
        ({"party": "../acme"}, "cannot name a party"),
        ({"format": "other"}, "is not a public key file"),
    ],
)
def test_a_wrong_public_key_file_is_told_apart(
    homes: tuple[Path, Path], tmp_path: Path, change: dict[str, str], message: str
) -> None:
    path = tmp_path / "received.pub"
    path.write_text(json.dumps({**json.loads((homes[1] / "keys" / "party.pub").read_text()), **change}))
    with pytest.raises(SecretsError, match=message):
        read_public_key(path)


def test_a_key_of_small_order_is_refused(homes: tuple[Path, Path]) -> None:
    signing_key = read_public_key(homes[0] / "peers" / "globex.pub").signing_key
    (homes[0] / "peers" / "globex.pub").write_text(PublicKey("globex", bytes(32), signing_key).to_json())
    with pytest.raises(SecretsError, match="protects nothing"):
        load_secrets(homes[0], "acme", ("globex",))


@pytest.mark.parametrize("key", sorted(SMALL_ORDER), ids=bytes.hex)
@pytest.mark.parametrize("sign", [0, 0x80])
def test_a_signing_key_under_which_anybody_can_sign_is_refused(homes: tuple[Path, Path], key: bytes, sign: int) -> None:
    weak = bytes([*key[:31], key[31] | sign])
    forged = bytes([1, *bytes(63)])
    accepted = 0
    for number in range(200):
        with contextlib.suppress(InvalidSignature):
            Ed25519PublicKey.from_public_bytes(weak).verify(forged, b"owed: %d" % number)
            accepted += 1
    assert accepted, "the list holds keys that are weak, and only such"
    peer = read_public_key(homes[0] / "peers" / "globex.pub")
    (homes[0] / "peers" / "globex.pub").write_text(PublicKey("globex", peer.key, weak).to_json())
    with pytest.raises(SecretsError, match="no usable Ed25519 key"):
        load_secrets(homes[0], "acme", ("globex",))


def test_a_signature_is_known_by_the_peers_that_hold_the_key(homes: tuple[Path, Path]) -> None:
    acme, globex = load_secrets(homes[0], "acme", ("globex",)), load_secrets(homes[1], "globex", ("acme",))
    signature = acme.sign(b"we owe 3")
    assert globex.has_signed("acme", b"we owe 3", signature)
    assert not globex.has_signed("acme", b"we owe 2", signature)
    assert not globex.has_signed("acme", b"we owe 3", bytes(64))
    assert not globex.has_signed("acme", b"we owe 3", b"short")
    assert not globex.has_signed("initech", b"we owe 3", signature)
    assert not acme.has_signed("globex", b"we owe 3", signature)


def test_a_home_from_before_signing_keys_says_what_to_do_and_can_be_upgraded(homes: tuple[Path, Path]) -> None:
    (homes[0] / "keys" / "signing.key").unlink()
    before = (homes[0] / "keys" / "party.key").read_bytes()
    with pytest.raises(SecretsError, match="isthmus keys upgrade"):
        load_secrets(homes[0], "acme")
    upgraded = add_signing_key(homes[0], "acme")
    assert add_signing_key(homes[0], "acme") == upgraded, "once is enough, and twice does no harm"
    assert load_secrets(homes[0], "acme").public_key == upgraded
    assert (homes[0] / "keys" / "party.key").read_bytes() == before
    assert stat.S_IMODE((homes[0] / "keys" / "signing.key").stat().st_mode) == 0o600
    with pytest.raises(SecretsError, match=upgraded.fingerprint):
        add_peer(homes[1], homes[0] / "keys" / "party.pub")
    add_peer(homes[1], homes[0] / "keys" / "party.pub", replace=True)
    assert load_secrets(homes[1], "globex", ("acme",)).peer_signing_keys["acme"] == upgraded.signing_key


def test_a_peer_whose_key_changed_is_not_taken_silently(homes: tuple[Path, Path], tmp_path: Path) -> None:
    create_secrets(tmp_path / "impostor", "globex")
    received = tmp_path / "impostor" / "keys" / "party.pub"
    known = read_public_key(homes[0] / "peers" / "globex.pub")
    with pytest.raises(SecretsError, match=known.fingerprint):
        add_peer(homes[0], received)
    assert read_public_key(homes[0] / "peers" / "globex.pub") == known
    add_peer(homes[0], received, replace=True)
    assert read_public_key(homes[0] / "peers" / "globex.pub") != known


def test_the_own_key_is_nobody_elses(homes: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SecretsError, match="this party itself"):
        add_peer(homes[0], homes[0] / "keys" / "party.pub")
    own = read_public_key(homes[0] / "keys" / "party.pub")
    disguised = tmp_path / "disguised.pub"
    peer = read_public_key(homes[1] / "keys" / "party.pub")
    for stolen in (PublicKey("initech", own.key, peer.signing_key), PublicKey("initech", peer.key, own.signing_key)):
        disguised.write_text(stolen.to_json())
        with pytest.raises(SecretsError, match="this party's own key"):
            add_peer(homes[0], disguised)


def test_missing_peers_and_keys_of_another_party_are_named(homes: tuple[Path, Path]) -> None:
    with pytest.raises(SecretsError, match=r"initech\.pub is missing"):
        load_secrets(homes[0], "acme", ("initech",))
    with pytest.raises(SecretsError, match="is not the public key of party 'globex'"):
        load_secrets(homes[0], "globex")
    (homes[0] / "peers" / "globex.pub").rename(homes[0] / "peers" / "initech.pub")
    with pytest.raises(SecretsError, match="is the key of party 'globex'"):
        load_secrets(homes[0], "acme", ("initech",))


@pytest.mark.parametrize("content", ["", "ab" * 31, "zz" * 32, "ä" * 32])
def test_a_damaged_secret_is_told_without_its_content(homes: tuple[Path, Path], content: str) -> None:
    path = homes[0] / "keys" / "party.key"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SecretsError, match=r"party\.key") as caught:
        load_secrets(homes[0], "acme")
    assert not content or content not in str(caught.value)
