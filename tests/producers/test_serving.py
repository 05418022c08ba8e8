"""Which version serves: aliases, canaries, shadows, roll-backs, on a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from infra.broker import EmbeddedBroker
from infra.settings import load_settings
from infra.topics import registry_topic, serving_topic
from producers.cli import main
from producers.commands.score_run import choose_processes
from producers.serving_client import read_serving
from schemas.codec import encode
from schemas.digests import digest_of
from schemas.jobs import JobSpec, PartySpec
from schemas.models import ModelRegistered
from schemas.serving import ServingVersion
from tests.producers.open_homes import connect_openly

SPEC = JobSpec("credit", PartySpec("bank", "loans"), "y", (PartySpec("shop", "carts"),))
VERDICT = ServingVersion("credit", "v1", b"", True, 40, 0, "", (1,), 0, (600,), (0.5, 0.5), 1)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture
def home(broker: EmbeddedBroker, new_party: Callable[[str], str], tmp_path: Path) -> str:
    """A guest with the models v1, v2 (checked), v3 (failed its check) and v4 (not checked)."""
    folder, name = str(tmp_path / "home"), new_party("bank")
    assert _run("party", "init", name, "--bootstrap", broker.bootstrap, "--home", folder).exit_code == 0
    connect_openly(Path(folder))
    assert _run("topics", "create", "--home", folder).exit_code == 0
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for version in ("v1", "v2", "v3", "v4"):
        model = ModelRegistered("credit", version, version, b"", (), (), 100, 40, SPEC, digest_of(SPEC))
        producer.produce(registry_topic(name), encode(model), f"credit/{version}".encode())
        if version != "v4":
            verdict = replace(VERDICT, version=version)
            if version == "v3":
                verdict = replace(verdict, passed=False, differences=2, detail="row 7: the guest's part differs")
            producer.produce(serving_topic(name), encode(verdict), f"credit/{version}".encode(), partition=0)
    assert producer.flush(30) == 0
    return folder


def test_an_alias_means_what_was_said_last_and_a_roll_back_undoes_it(home: str) -> None:
    assert _run("model", "alias", "credit@live", "v1", "--home", home).exit_code == 0
    changed = _run("model", "alias", "credit", "v2", "--home", home)
    assert "credit@live -> v2 (before: v1)" in changed.output
    assert "credit@live -> v1" in _run("model", "rollback", "credit@live", "--home", home).output
    alias = read_serving(load_settings(Path(home))).aliases["credit@live"]
    assert (alias.version, alias.previous_version) == ("v1", "v2")


def test_a_canary_and_a_shadow_leave_the_way_back_as_it_was(home: str) -> None:
    for version in ("v1", "v2"):
        assert _run("model", "alias", "credit@live", version, "--home", home).exit_code == 0
    options = ("--canary", "v1", "--canary-permille", "50", "--shadow", "v1")
    said = _run("model", "alias", "credit@live", "v2", *options, "--home", home)
    assert "v2, 5 % of requests to v1, shadow v1 (before: v1)" in said.output
    _run("model", "rollback", "credit@live", "--home", home)
    alias = read_serving(load_settings(Path(home))).aliases["credit@live"]
    assert (alias.version, alias.canary_version, alias.canary_permille, alias.shadow_version) == ("v1", "", 0, "")


REFUSED = {
    ("credit@live", "v9"): "no model credit/v9; versions of credit: v1, v2, v3, v4",
    ("credit@live", "v3"): "failed its parity check and is not served: row 7",
    ("credit@live", "v4"): "was not checked yet",
    ("credit@live", "v1", "--canary", "v2"): "needs both its version and its share",
    ("credit@live", "v1", "--canary-permille", "5"): "needs both its version and its share",
    ("credit@live", "v1", "--canary", "v3", "--canary-permille", "5"): "failed its parity check",
    ("credit@live", "v1", "--shadow", "v4"): "was not checked yet",
    ("credit@", "v1"): "is no alias",
    ("credit@a/b", "v1"): "is no alias",
}


def test_what_may_not_be_served_is_refused_and_nothing_changes(home: str) -> None:
    for arguments, expected in REFUSED.items():
        result = _run("model", "alias", *arguments, "--home", home)
        assert result.exit_code == 1
        assert expected in result.output
    assert not read_serving(load_settings(Path(home))).aliases


def test_a_roll_back_without_a_way_back_is_refused(home: str) -> None:
    assert "no alias credit@live" in _run("model", "rollback", "credit", "--home", home).output
    _run("model", "alias", "credit", "v1", "--home", home)
    result = _run("model", "rollback", "credit", "--home", home)
    assert result.exit_code == 1
    assert "never meant another version than v1" in result.output


def test_a_recheck_takes_the_verdict_back(home: str) -> None:
    assert _run("model", "recheck", "credit/v1", "--home", home).exit_code == 0
    assert "credit/v1" not in read_serving(load_settings(Path(home))).versions
    again = _run("model", "recheck", "credit/v1", "--home", home)
    assert again.exit_code == 1
    assert "has no verdict" in again.output


def test_what_is_served_is_shown_to_people_and_programs(home: str) -> None:
    _run("model", "alias", "credit@live", "v2", "--home", home)
    text = _run("model", "serving", "--home", home).output
    assert "credit/v3  NOT SERVED, 2 differ on 40 rows  row 7: the guest's part differs" in text
    shown = json.loads(_run("model", "serving", "--json", "--home", home).output)
    assert shown["aliases"]["credit@live"]["version"] == "v2"
    assert [key for key, verdict in shown["versions"].items() if verdict["passed"]] == ["credit/v1", "credit/v2"]


def test_a_role_has_its_processes_and_further_slots_only_what_can_be_divided() -> None:
    assert set(choose_processes("host", 0, (), view=False)) == {"score-host", "score-history", "score-reconciler"}
    assert "score-parity" in choose_processes("guest", 0, (), view=False)
    assert set(choose_processes("guest", 1, (), view=True)) == {"score-router", "score-joiner", "score-history"}
    assert set(choose_processes("both", 3, ("score-joiner",), view=False)) == {"score-joiner"}
    with pytest.raises(click.UsageError, match="score-parity runs once a party"):
        choose_processes("both", 1, ("score-parity",), view=False)


def test_the_views_port_is_the_views_alone() -> None:
    chosen = choose_processes("guest", 0, (), view=True, http_port=9464)
    assert {name for name, arguments in chosen.items() if "9464" in arguments} == {"score-view"}
    with pytest.raises(click.UsageError, match="add --view"):
        choose_processes("guest", 0, (), view=False, http_port=9464)
