"""Federations: how a manifest comes about, which one is in force, and every way in which it must not be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from consumers.party import make_keyring
from infra.federation import DRAFT, FOLDER, Federation, load_federation, read_installed
from infra.federation_drafts import Change, change, found, join, sign
from infra.manifest import Manifest, ManifestError, Profile, parse_manifest
from infra.party_secrets import PartySecrets
from infra.public_keys import SMALL_ORDER
from infra.secrets import OwnKeys, add_pair, create_secrets, erase_pairs, load_keys
from infra.settings import PartySettings, load_settings, save_settings
from schemas.jobs import Privacy
from schemas.profiles import KeyProfile
from streams.engine.epochs import Opener, Sending, key_for_sending
from streams.engine.seal import SealError, Stream

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CODE = "c0" * 32
STREAM = Stream("acme", "globex", "job-1", "align", "align")


@dataclass
class House:
    """A party's home, and what its person does there."""

    home: Path

    @property
    def settings(self) -> PartySettings:
        return load_settings(self.home)

    @property
    def keys(self) -> OwnKeys:
        return load_keys(self.home, self.settings.party)

    @property
    def draft(self) -> Path:
        return self.home / FOLDER / DRAFT

    def installed(self, version: int = 1) -> Path:
        return self.home / FOLDER / f"manifest-{version}.json"

    def load(self, now: datetime = NOW, code: str = CODE) -> Federation:
        return load_federation(self.settings, self.keys, code, now)

    def found(self, **options: Any) -> Path:
        options = {"profile": Profile(), "code": (CODE,), **options}
        return found(self.settings, self.keys, "north", NOW, **options).path

    def join(self, path: Path) -> Path:
        return join(self.settings, self.keys, path, NOW).path

    def sign(self, path: Path | None, now: datetime = NOW) -> Path:
        return sign(self.settings, self.keys, path, now).path

    def change(self, wanted: Change, now: datetime = NOW) -> Path:
        return change(self.settings, self.keys, now, wanted).path

    def rotate(self, now: datetime = NOW, **options: Any) -> Path:
        add_pair(self.home, self.settings.party)
        return self.change(Change(with_new_keys=True, **options), now)

    def keyring(self, now: datetime = NOW) -> Any:
        return make_keyring(PartySecrets(self.keys, self.settings.peers, self.load(now)))


def make_house(folder: Path, party: str, *peers: str) -> House:
    save_settings(
        folder / party,
        {"party": party, "access": {"kind": "custom"}, "bootstrap_servers": "127.0.0.1:1", "peers": list(peers)},
    )
    create_secrets(folder / party, party)
    return House(folder / party)


@pytest.fixture
def houses(tmp_path: Path) -> tuple[House, House]:
    """Two parties in no federation."""
    return make_house(tmp_path, "acme", "globex"), make_house(tmp_path, "globex", "acme")


@pytest.fixture
def federated(houses: tuple[House, House]) -> tuple[House, House]:
    """Two parties that signed a manifest."""
    acme, globex = houses
    globex.sign(acme.sign(globex.join(acme.found())))
    return houses


def _edit(path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    return path


# --- how it comes about ---


def test_two_parties_found_join_and_sign(houses: tuple[House, House]) -> None:
    acme, globex = houses
    invitation = acme.found()
    assert invitation == acme.draft
    with pytest.raises(ManifestError, match="not signed by acme, globex yet"):
        acme.load()
    reply = globex.join(invitation)
    with pytest.raises(ManifestError, match="not signed by acme yet"):
        globex.load()
    complete = acme.sign(reply)
    assert complete == acme.installed()
    assert globex.sign(complete) == globex.installed()
    assert acme.load().manifest == globex.load().manifest
    assert not acme.draft.exists()
    assert not globex.draft.exists()
    sealed = acme.keyring().seal(STREAM, 0, b"hello")
    assert sealed.manifest == acme.load().manifest.digest[:8]
    assert globex.keyring().open(sealed) == b"hello"
    assert acme.keyring().token_key("acme", "globex") == globex.keyring().token_key("acme", "globex")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_three_parties_sign_whatever_way_the_files_travel(tmp_path: Path, order: tuple[int, int, int]) -> None:
    names = ("acme", "globex", "initech")
    houses = [make_house(tmp_path, name, *(other for other in names if other != name)) for name in names]
    acme, globex, initech = houses
    invitation = acme.found()
    # Both answer the same invitation, and only the founder sees both answers.
    replies = [globex.join(invitation), initech.join(invitation)]
    for reply in replies:
        path = acme.sign(reply)
    for index in (*order, *order):
        path = houses[index].sign(path)
    assert len({house.load().manifest.digest for house in houses}) == 1
    assert {member.party for member in acme.load().manifest.members} == set(names)


def test_a_member_is_added_and_removed_by_the_next_versions(federated: tuple[House, House], tmp_path: Path) -> None:
    acme, globex = federated
    initech = make_house(tmp_path, "initech", "acme", "globex")
    path = initech.join(acme.change(Change(invited=("initech",))))
    for house in (acme, globex, initech, acme):
        path = house.sign(path)
    assert initech.load().manifest.version == 2
    assert read_installed(acme.home)[-1] == initech.load().manifest
    path = globex.change(Change(removed=("initech",)))
    acme.sign(globex.sign(acme.sign(path)))
    assert globex.load().manifest.member("initech") is None
    with pytest.raises(ManifestError, match="has no entry of 'initech': it was removed"):
        initech.sign(acme.installed(3))
    settings = yaml.safe_load((acme.home / "party.yaml").read_text())
    (acme.home / "party.yaml").write_text(yaml.safe_dump({**settings, "peers": ["globex", "initech"]}))
    with pytest.raises(ManifestError, match=r"'initech' is not a member of version 3.*take it out of `peers`"):
        acme.load()


def test_nobody_signs_what_is_not_complete_and_nobody_signs_for_another(houses: tuple[House, House]) -> None:
    acme, globex = houses
    invitation = acme.found()
    assert json.loads(acme.sign(None).read_text())["signatures"] == {}
    reply = globex.join(invitation)
    signatures = json.loads(reply.read_text())["signatures"]
    assert set(signatures) == {"globex"}
    manifest = parse_manifest(reply.read_text(), reply).manifest
    key = Ed25519PublicKey.from_public_bytes(globex.keys.newest.verifying_key)
    key.verify(bytes.fromhex(signatures["globex"]["signature"]), manifest.signed_bytes)
    with pytest.raises(InvalidSignature):
        key.verify(bytes.fromhex(signatures["globex"]["signature"]), manifest.signed_bytes + b"!")


def test_a_proposal_that_changed_before_anybody_signed_takes_the_place_of_the_old_one(
    tmp_path: Path, houses: tuple[House, House]
) -> None:
    acme, globex = houses
    acme.found(invited=("initech",))
    globex.join(acme.draft)
    path = acme.change(Change(profile=Profile(paillier_bits=3072), removed=("initech",)))
    globex.sign(acme.sign(globex.join(path)))
    assert globex.load().manifest.profile.paillier_bits == 3072


# --- what is refused on the way ---


def test_a_stranger_does_not_join_and_a_member_does_not_found_again(
    federated: tuple[House, House], tmp_path: Path
) -> None:
    acme, globex = federated
    stranger = make_house(tmp_path, "initech", "acme")
    with pytest.raises(ManifestError, match="does not invite 'initech'"):
        stranger.join(acme.installed())
    with pytest.raises(ManifestError, match="holds a manifest already"):
        acme.found()
    with pytest.raises(ManifestError, match="is a member already"):
        globex.join(acme.installed())
    with pytest.raises(ManifestError, match="no draft to sign"):
        globex.sign(None)


def test_a_file_that_was_changed_on_the_way_is_not_signed(houses: tuple[House, House]) -> None:
    acme, globex = houses
    reply = globex.join(acme.found())
    swapped = json.loads(reply.read_text())["manifest"]["members"][0]["key"]
    for edit, words in (
        (lambda d: d["manifest"]["profile"].update(privacy=["trusted_guest"]), "signature of 'globex' is not of this"),
        (lambda d: d["manifest"]["members"][1].update(naming_key=d["manifest"]["members"][1]["key"]), "occurs twice"),
        (lambda d: d["manifest"]["members"][1].update(signing_key="ab" * 31), "has 31 bytes, Ed25519 keys have 32"),
        (lambda d: d["manifest"]["members"][1].update(key="zz" * 32), "is not hexadecimal"),
        (lambda d: d["manifest"]["members"][1].update(key="00" * 32), "protects nothing"),
        (lambda d: d["manifest"].update(suprise=1), "suprise: Extra inputs"),
        (lambda d: d["manifest"].update(members=d["manifest"]["members"][::-1]), "in the order of their names"),
        (lambda d: d["signatures"].update(initech=d["signatures"]["globex"]), "signed by 'initech', which is not"),
    ):
        changed = reply.with_name("changed.json")
        changed.write_text(reply.read_text())
        with pytest.raises(ManifestError, match=words):
            acme.sign(_edit(changed, edit))
    assert swapped
    assert not acme.installed().exists()
    acme.sign(reply)


@pytest.mark.parametrize("key", sorted(SMALL_ORDER), ids=bytes.hex)
def test_a_signing_key_under_which_anybody_can_sign_is_refused(houses: tuple[House, House], key: bytes) -> None:
    acme, _ = houses
    path = acme.found()
    with pytest.raises(ManifestError, match="anybody can sign"):
        acme.sign(_edit(path, lambda d: d["manifest"]["members"][0].update(signing_key=key.hex())))


def test_an_entry_of_this_party_that_it_did_not_make_is_refused(houses: tuple[House, House], tmp_path: Path) -> None:
    acme, globex = houses
    impostor = make_house(tmp_path / "elsewhere", "globex", "acme")
    reply = impostor.join(acme.found())
    with pytest.raises(ManifestError, match="an entry of 'globex' that this party did not make"):
        globex.sign(reply)
    # At the founder it looks like any reply: fingerprints on the phone are what tells.
    shown = parse_manifest(acme.sign(reply).read_text(), "").manifest.member("globex")
    assert shown is not None
    assert shown.key != globex.keys.newest.public_key.hex()


def test_a_party_does_not_sign_two_manifests_of_one_version(federated: tuple[House, House]) -> None:
    acme, globex = federated
    ours = acme.change(Change(valid_days=10))
    globex.change(Change(valid_days=20))
    with pytest.raises(ManifestError, match="a party does not sign two"):
        globex.sign(ours)


# --- keys that are replaced ---


def test_new_keys_are_used_when_all_have_signed_and_the_old_ones_open_for_a_while(
    federated: tuple[House, House],
) -> None:
    acme, globex = federated
    before = acme.keyring().seal(STREAM, 0, b"before")
    token = acme.keyring().token_key("acme", "globex")
    path = acme.rotate(grace_hours=2)
    assert acme.keyring().seal(STREAM, 0, b"before") == before, "nothing changes until all have signed"
    globex_path = globex.sign(path)
    assert globex_path == globex.installed(2)
    # One house has it, the other does not yet: what the former seals, the latter cannot open, and says so.
    with pytest.raises(SealError, match="the parties have different versions"):
        acme.keyring().open(globex.keyring().seal(replace(STREAM, sender="globex", receiver="acme"), 0, b"early"))
    acme.sign(globex_path)
    after = acme.keyring().seal(STREAM, 1, b"after")
    assert after.manifest != before.manifest
    assert globex.keyring().open(after) == b"after"
    assert globex.keyring(NOW + timedelta(hours=1)).open(before) == b"before"
    with pytest.raises(SealError, match="sealed under the manifest"):
        globex.keyring(NOW + timedelta(hours=3)).open(before)
    assert acme.keyring().token_key("acme", "globex") == token


def test_former_keys_are_deleted_when_nothing_needs_them_and_what_was_recorded_stays_closed(
    federated: tuple[House, House],
) -> None:
    acme, globex = federated
    sender = acme.keyring()
    _, epoch, wrapped = key_for_sending(sender, STREAM, 0, Sending())
    recorded = sender.seal(STREAM, 0, b"hello", epoch=epoch, wrapped_key=wrapped)
    former = globex.keys.newest
    path = globex.rotate(grace_hours=2)
    globex.sign(acme.sign(path))
    assert Opener(globex.keyring(NOW + timedelta(hours=1))).open(recorded) == b"hello"

    def erase(now: datetime) -> int:
        accepted = globex.load(now)
        return erase_pairs(globex.home, globex.keys, [each.pair for each in (accepted.current, *accepted.others)])

    assert erase(NOW + timedelta(hours=1)) == 0, "records under the version before are still accepted"
    assert erase(NOW + timedelta(hours=3)) == 1
    assert former not in globex.keys.pairs
    assert sorted(each.name for each in (globex.home / "keys").iterdir()) == [
        "kem-2.key", "master.secret", "party-2.key", "signing-2.key", "storage.secret",
    ]  # fmt: skip
    # A thief of all that is left, with the clock set back: the manifest is there, the keys are not.
    with pytest.raises(SealError):
        Opener(globex.keyring(NOW + timedelta(hours=3))).open(recorded)
    # What a crash left of a generation goes as well, and the party goes on: new keys, new records.
    (globex.home / "keys" / "kem.key").write_text("ab" * 32)
    (globex.home / "keys" / "kem.key").chmod(0o600)
    assert erase(NOW + timedelta(hours=3)) == 0
    assert not (globex.home / "keys" / "kem.key").exists()
    later = NOW + timedelta(hours=3)
    globex.sign(acme.sign(globex.rotate(later), later), later)
    assert len(globex.keys.pairs) == 2


def test_a_new_key_without_the_word_of_the_old_one_is_refused(federated: tuple[House, House], tmp_path: Path) -> None:
    acme, globex = federated
    path = acme.rotate()
    document = json.loads(path.read_text())
    assert document["signatures"]["acme"]["former"]
    with pytest.raises(ManifestError, match="'acme' has a new signing key; the signature by its former one is not"):
        globex.sign(_edit(path, lambda d: d["signatures"]["acme"].update(former="0" * 128)))


def test_a_house_that_signed_before_its_keys_were_restored_says_what_is_missing(federated: tuple[House, House]) -> None:
    acme, globex = federated
    acme.sign(globex.sign(acme.rotate()))
    (acme.home / "keys" / "party-2.key").unlink()
    with pytest.raises(ManifestError, match=r"private half is not in .*keys: restore that folder"):
        acme.load()


def test_a_manifest_with_a_later_begin_is_opened_under_already_and_sealed_under_then(
    federated: tuple[House, House],
) -> None:
    acme, globex = federated
    later = NOW + timedelta(hours=1)
    path = change(acme.settings, acme.keys, later, Change(valid_days=1)).path
    acme.sign(globex.sign(path, later), later)
    assert acme.load(NOW).manifest.version == 1
    assert [version.manifest.version for version in acme.load(NOW).others] == [2]
    assert acme.load(later).manifest.version == 2


# --- what stops a party at start ---


def _swap_signatures(document: dict[str, Any]) -> None:
    signatures = document["signatures"]
    signatures["acme"], signatures["globex"] = signatures["globex"], signatures["acme"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda d: d["signatures"].pop("globex"), "not signed by globex: it must not be used"),
        (_swap_signatures, "the signature of 'acme' is not of this manifest"),
        (lambda d: d["manifest"]["members"][1].update(questions_per_second=7), "is not of this manifest"),
        (lambda d: d["manifest"]["profile"].update(paillier_bits=3072), "is not of this manifest"),
        (lambda d: d["manifest"].update(version=2, previous="ab" * 32), "somebody renamed it"),
    ],
)
def test_a_manifest_that_was_tampered_with_stops_the_party(
    federated: tuple[House, House], edit: Callable[[dict[str, Any]], object], words: str
) -> None:
    acme, _ = federated
    assert acme.load().manifest.version == 1
    _edit(acme.installed(), edit)
    with pytest.raises(ManifestError, match=words):
        acme.load()


def test_a_damaged_file_names_itself(federated: tuple[House, House]) -> None:
    acme, _ = federated
    acme.installed().write_text("{")
    with pytest.raises(ManifestError, match=r"manifest-1\.json is no manifest that can be used"):
        acme.load()
    acme.installed().write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match=r"manifest-1\.json cannot be read"):
        acme.load()


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (NOW - timedelta(hours=1), "valid from 2030-01-01 00:00 UTC, and the clock of this machine says 2029-12-31"),
        (NOW + timedelta(days=366), "expired on 2031-01-01 00:00 UTC .*isthmus federation rotate"),
    ],
)
def test_a_manifest_out_of_its_time_stops_the_party(federated: tuple[House, House], now: datetime, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        federated[0].load(now)


def test_a_clock_that_is_a_little_wrong_stops_nobody(federated: tuple[House, House]) -> None:
    assert federated[0].load(NOW - timedelta(minutes=4)).manifest.version == 1


def test_what_was_promised_has_to_be_kept(federated: tuple[House, House]) -> None:
    acme, _ = federated
    with pytest.raises(ManifestError, match="lets code with the digest c0c0c0c0c0c0c0c0 run, and this is d1d1"):
        acme.load(code="d1" * 32)
    settings = yaml.safe_load((acme.home / "party.yaml").read_text())
    (acme.home / "party.yaml").write_text(yaml.safe_dump({**settings, "score": {"quota_per_second": 20_001}}))
    with pytest.raises(ManifestError, match=r"ask 20000 questions a second, and .*yaml says .*: 20001: lower it"):
        acme.load()
    (acme.home / "party.yaml").write_text(yaml.safe_dump({**settings, "score": {"quota_per_second": 5}}))
    assert acme.load().manifest.version == 1, "a host may be stricter at any time"


def test_a_manifest_of_other_keys_is_told(federated: tuple[House, House], tmp_path: Path) -> None:
    acme, _ = federated
    create_secrets(tmp_path / "other", "acme")
    for name in ("party.key", "signing.key", "master.secret"):
        (acme.home / "keys" / name).write_text((tmp_path / "other" / "keys" / name).read_text())
    with pytest.raises(ManifestError, match="private half is not in"):
        acme.load()


def test_an_old_version_does_not_come_back(federated: tuple[House, House]) -> None:
    acme, globex = federated
    first = acme.installed().read_text()
    acme.sign(globex.sign(acme.change(Change(valid_days=30))))
    old = acme.home / "old.json"
    old.write_text(first)
    with pytest.raises(ManifestError, match=r"is not newer than version 2 .* restored from an old backup"):
        acme.sign(old)
    # A house that was restored from a backup takes the newest file, and is there again.
    globex.installed(2).unlink()
    assert globex.load().manifest.version == 1
    globex.sign(acme.installed(2))
    assert globex.load().manifest.version == 2


def test_a_version_that_follows_from_another_history_is_refused(federated: tuple[House, House], tmp_path: Path) -> None:
    acme, globex = federated
    globex.sign(acme.change(Change(valid_days=30)))
    _edit(globex.installed(2), lambda d: d["manifest"].update(previous="ab" * 32))
    with pytest.raises(ManifestError, match="the parties have different histories"):
        acme.sign(globex.installed(2))


def test_only_what_the_profile_names_may_run(houses: tuple[House, House]) -> None:
    acme, globex = houses
    both = (Privacy.SPLIT_LINK, Privacy.TRUSTED_GUEST)
    profile = Profile(paillier_bits=3072, randomisers=KeyProfile.DJN, privacy=both)
    globex.sign(acme.sign(globex.join(acme.found(profile=profile))))
    secrets = PartySecrets(globex.keys, ("acme",), globex.load())
    assert secrets.profile == profile
    assert PartySecrets(globex.keys, (), None).profile == Profile()


def test_equal_manifests_have_equal_digests_and_every_field_counts(federated: tuple[House, House]) -> None:
    manifest = federated[0].load().manifest
    again = Manifest.model_validate_json(manifest.model_dump_json())
    assert again.digest == manifest.digest
    others = [
        manifest.model_copy(update={"federation": "south"}),
        manifest.model_copy(update={"valid_until": manifest.valid_until + timedelta(seconds=1)}),
        manifest.model_copy(update={"code": ()}),
        manifest.model_copy(update={"profile": Profile(paillier_bits=3072)}),
        manifest.model_copy(update={"profile": Profile(randomisers=KeyProfile.DJN448)}),
        manifest.model_copy(update={"members": manifest.members[:1]}),
    ]
    assert len({each.digest for each in (manifest, *others)}) == len(others) + 1


def test_exact_randomisers_are_written_as_they_always_were() -> None:
    """A manifest that was signed before others could be allowed has the same digest, and the same meaning."""
    written = '{"paillier_bits":2048,"randomisers":"exact","privacy":["split_link"]}'
    assert Profile().model_dump_json() == written
    assert Profile.model_validate_json(written) == Profile()
    assert Profile().randomisers.allowed == (KeyProfile.EXACT,)


def test_signatures_count_by_the_keys_that_were_in_force(federated: tuple[House, House]) -> None:
    acme, globex = federated
    before = PartySecrets(acme.keys, ("globex",), acme.load())
    signature = before.sign(b"we owe 3")

    def knows(message: bytes, by: bytes, party: str = "acme", at: House = globex) -> bool:
        return PartySecrets(at.keys, at.settings.peers, at.load()).has_signed(party, message, by)

    assert knows(b"we owe 3", signature)
    assert not knows(b"we owe 2", signature)
    assert not knows(b"we owe 3", bytes(64))
    assert not knows(b"we owe 3", b"short")
    assert not knows(b"we owe 3", signature, "initech")
    assert not knows(b"we owe 3", signature, "globex", acme)
    acme.sign(globex.sign(acme.rotate()))
    assert knows(b"we owe 3", signature), "signed before the keys were replaced"
    assert knows(b"we owe 4", PartySecrets(acme.keys, ("globex",), acme.load()).sign(b"we owe 4"))


def test_versions_that_do_not_follow_from_each_other_stop_the_party(federated: tuple[House, House]) -> None:
    acme, globex = federated
    for version in (2, 3):
        acme.sign(globex.sign(acme.change(Change(valid_days=version))))
    assert acme.load().manifest.version == 3
    acme.installed(2).unlink()
    with pytest.raises(ManifestError, match=r"version 3 .* comes after a version that is not here"):
        acme.load()


def test_a_master_secret_of_somebody_else_is_told(federated: tuple[House, House], tmp_path: Path) -> None:
    acme, _ = federated
    create_secrets(tmp_path / "other", "acme")
    (acme.home / "keys" / "master.secret").write_text((tmp_path / "other" / "keys" / "master.secret").read_text())
    with pytest.raises(ManifestError, match="do not belong together: restore that folder"):
        acme.load()


def test_a_release_with_other_topics_is_not_what_was_agreed_on(
    federated: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.federation.door_topics", lambda party: (f"vfl.new.exchange.{party}.v1",))
    with pytest.raises(ManifestError, match="names other topics of 'acme' than this release"):
        federated[0].load()


def test_two_entries_of_one_party_are_told_apart(tmp_path: Path) -> None:
    acme, globex = make_house(tmp_path, "acme", "globex", "initech"), make_house(tmp_path, "globex", "acme")
    impostor = make_house(tmp_path / "elsewhere", "globex", "acme")
    invitation = acme.found()
    acme.sign(globex.join(invitation))
    invitation = tmp_path / "intercepted.json"
    invitation.write_text(json.dumps(_without(json.loads(acme.draft.read_text()), "globex")))
    with pytest.raises(ManifestError, match="has another entry of 'globex' than the draft here"):
        acme.sign(impostor.join(invitation))


def _without(document: dict[str, Any], party: str) -> dict[str, Any]:
    manifest = document["manifest"]
    manifest["members"] = [member for member in manifest["members"] if member["party"] != party]
    manifest["invited"] = sorted([*manifest["invited"], party])
    return document
