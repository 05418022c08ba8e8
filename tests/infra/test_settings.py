"""A party's settings: all mistakes at once, each with its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings import DirectoryStoreSettings, S3StoreSettings, SettingsError, load_settings, save_settings
from schemas.jobs import Leak

GOOD = """
party: acme
bootstrap_servers: 127.0.0.1:9092, [::1]:9093
peers: [globex]
datasets:
  customers: {path: data/customers.csv.gz, id: customer_id, label: churned}
object_store: {kind: s3, bucket: models, prefix: acme/, endpoint_url: "http://127.0.0.1:8333"}
approval: {auto: true, accept_leaks: [small_table]}
kafka: {client.rack: here}
"""


def _mistakes(tmp_path: Path, text: str) -> dict[str, str]:
    (tmp_path / "party.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path)
    assert str(tmp_path / "party.yaml") in str(caught.value)
    return {mistake.path: mistake.message for mistake in caught.value.mistakes}


def test_good_settings_are_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "party.yaml").write_text(GOOD, encoding="utf-8")
    settings = load_settings(tmp_path)
    assert settings.party == "acme"
    assert settings.peers == ("globex",)
    assert settings.datasets["customers"].label == "churned"
    assert isinstance(settings.object_store, S3StoreSettings)
    assert settings.approval.accept_leaks == (Leak.SMALL_TABLE,)
    assert settings.resolve("data/x.csv") == tmp_path / "data" / "x.csv"


def test_what_is_not_said_is_the_careful_choice(tmp_path: Path) -> None:
    (tmp_path / "party.yaml").write_text("party: acme\nbootstrap_servers: a:1\n", encoding="utf-8")
    settings = load_settings(tmp_path)
    assert not settings.approval.auto
    assert settings.approval.accept_leaks == ()
    assert isinstance(settings.object_store, DirectoryStoreSettings)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    mistakes = _mistakes(
        tmp_path,
        """
party: Acme Corp
bootstrap_servers: localhost
peers: [a_b]
datasets:
  customers: {path: x.csv, idd: customer_id}
object_store: {kind: s3, bucket: models, endpoint_url: "https://key:secret@s3.example"}
approval: {auto: "yes", accept_leaks: [everything]}
kafka: {isolation.level: read_uncommitted, acks: 0}
colour: red
""",
    )
    assert set(mistakes) == {
        "party",
        "bootstrap_servers",
        "peers",
        "datasets.customers.id",
        "datasets.customers.idd",
        "object_store.endpoint_url",
        "approval.auto",
        "approval.accept_leaks[0]",
        "kafka",
        "colour",
    }
    assert mistakes["kafka"] == "acks, isolation.level cannot be set: exactly-once depends on them"
    assert mistakes["colour"] == "unknown setting: a misspelling?"
    assert "secret" not in mistakes["object_store.endpoint_url"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("party: acme\nparty: globex\n", "line 2, column 1: the key 'party' occurs twice"),
        ("party: [\n", "line 2, column 1"),
        ("", "found none"),
        ("- a list\n", "found none"),
    ],
)
def test_what_is_not_settings_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert message in _mistakes(tmp_path, text)[""]


def test_a_party_is_not_its_own_peer(tmp_path: Path) -> None:
    mistakes = _mistakes(tmp_path, "party: acme\nbootstrap_servers: a:1\npeers: [acme]\n")
    assert mistakes[""] == "acme is the party itself and cannot be one of its peers"


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="isthmus party init"):
        load_settings(tmp_path)


def test_saved_settings_load_and_are_never_overwritten(tmp_path: Path) -> None:
    content = {
        "party": "acme",
        "access": {"kind": "custom"},
        "bootstrap_servers": "a:1",
        "datasets": {"x": {"path": "x.csv", "id": "id"}},
    }
    save_settings(tmp_path / "new", content)
    assert load_settings(tmp_path / "new").datasets["x"].id == "id"
    with pytest.raises(SettingsError, match="exists already"):
        save_settings(tmp_path / "new", content)
    with pytest.raises(SettingsError, match="bootstrap_servers: is missing"):
        save_settings(tmp_path / "other", {"party": "acme"})
    assert not (tmp_path / "other").exists()
