"""`isthmus features` on a real broker: good tables, bad ones, and a database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from infra.broker import EmbeddedBroker
from infra.settings import load_settings
from infra.topics import features_topic
from producers.commands.errors import NO_BROKER, REFUSED, WRONG_SPEC, CommandError, reported
from producers.commands.features import features
from tests.end_to_end.world import make_home, read_all

USAGE = 2


class Cli:
    """The commands at one home."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(features, [*arguments, "--home", str(self.home)])

    def json(self, *arguments: str) -> Any:
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def records(self) -> int:
        """How many records the topic holds, replaced ones included."""
        settings = load_settings(self.home)
        places = [(features_topic(settings.party), partition) for partition in range(settings.topics.partitions)]
        return len(read_all(settings.bootstrap_servers, places))


def _forget_peers(home: Path) -> None:
    path = home / "party.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"peers": []}))


@pytest.fixture
def cli(
    broker: EmbeddedBroker, new_party: Callable[[str], str], make_party_topics: Callable[..., object], tmp_path: Path
) -> Cli:
    name = new_party("bank")
    make_party_topics(name)
    people = pd.DataFrame({"id": ["ann", "bob"], "age": [41, 7], "town": ["Riga", "Bonn"], "churned": [0, 1]})
    make_home(tmp_path / name, name, "shop", broker, {"people": people}, "churned")
    _forget_peers(tmp_path / name)
    return Cli(tmp_path / name)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def make(*lines: str) -> str:
        path = tmp_path / "table.csv"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return make


def test_a_csv_file_is_loaded_shown_and_counted(cli: Cli, write: Callable[..., str]) -> None:
    loaded = cli("load", "--csv", write("key,age,town", " ann,41,Riga", "bob,,Bonn"), "--id", "key")
    assert loaded.exit_code == 0, loaded.output
    assert "2 persons with 1 features in" in loaded.output
    assert "left out, for they are not numbers: town" in loaded.output
    assert cli("count").output == "2 persons\n"
    assert cli.json("count") == {"persons": 2, "unreadable": 0}
    assert cli.json("show", "ann")["values"] == {"age": 41.0}
    assert cli.json("show", " bob ")["values"] == {"age": None}
    shown = cli("show", "bob").output
    assert shown.startswith("bob, as loaded at 2")
    assert "  age  missing" in shown


def test_loading_again_changes_what_changed_and_deletes_only_if_told_to(cli: Cli, write: Callable[..., str]) -> None:
    command = ("--id", "id")
    cli.json("load", "--csv", write("id,age", "ann,1", "bob,2"), *command)
    again = cli.json("load", "--csv", write("id,age", "bob,3", "cid,4"), *command)
    assert (again["rows"], again["deleted"], again["columns"]) == (2, 0, ["age"])
    assert [cli.json("show", person)["values"]["age"] for person in ("ann", "bob", "cid")] == [1.0, 3.0, 4.0]
    last = cli("load", "--csv", write("id,age", "bob,3", "cid,4"), *command, "--delete-missing")
    assert "1 persons deleted who are not in the table" in last.output
    assert cli.json("count")["persons"] == 2
    gone = cli("show", "ann")
    assert (gone.exit_code, gone.stderr) == (
        REFUSED,
        f"Error: the feature topic of {cli.home.name} has no such person\n",
    )


def test_columns_and_the_type_of_ids_are_the_users_choice(cli: Cli, write: Callable[..., str]) -> None:
    path = write("mail,a,b,c", "Ann@X.org,1,2,3")
    report = cli.json("load", "--csv", path, "--id", "mail", "--id-type", "email", "--columns", "c, a")
    assert report["columns"] == ["c", "a"]
    assert cli.json("show", "ANN@x.org", "--id-type", "email") == {
        "id": "ann@x.org",
        "as_of_ms": cli.json("show", "ann@x.org")["as_of_ms"],
        "values": {"c": 3.0, "a": 1.0},
    }


def test_a_parquet_file_a_query_and_a_dataset_are_loaded(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with duckdb.connect(":memory:") as memory:
        memory.execute(f"COPY (SELECT 'pam' AS id, 1.5 AS x) TO '{tmp_path / 't.parquet'}' (FORMAT parquet)")
    cli.json("load", "--parquet", str(tmp_path / "t.parquet"), "--id", "id")
    connection = sqlite3.connect(cli.home / "data" / "crm.db")
    connection.execute("CREATE TABLE people (id INTEGER, x REAL)")
    connection.execute("INSERT INTO people VALUES (17, 2.5), (18, 3.5)")
    connection.commit()
    connection.close()
    monkeypatch.setenv("CRM_URL", "sqlite:///data/crm.db")
    query = ("--sql-query", "SELECT * FROM people WHERE x < 3", "--url-env", "CRM_URL")
    cli.json("load", *query, "--id", "id")
    report = cli.json("load", "--dataset", "people")
    assert (report["columns"], report["left_out"]) == (["age"], ["town"]), "the label is no feature"
    found = {person: cli.json("show", person)["values"] for person in ("pam", "17", "ann", "bob")}
    assert found == {"pam": {"x": 1.5}, "17": {"x": 2.5}, "ann": {"age": 41.0}, "bob": {"age": 7.0}}
    assert cli.json("count")["persons"] == 4


def test_a_bad_table_is_refused_with_all_its_mistakes_and_nothing_is_written(
    cli: Cli, write: Callable[..., str]
) -> None:
    path = write("id,x,y", "ann,1,2", "ann,2,odd", ",3,4", "bob,4,inf", "cid,5,6")
    result = cli("load", "--csv", path, "--id", "id", "--delete-missing")
    assert result.exit_code == WRONG_SPEC
    lines = result.stderr.splitlines()
    assert lines[0] == "Error: the table cannot be loaded, and nothing was written:"
    assert len(lines) == 5
    assert "identifiers" in lines[1] and "data row 3" in lines[1]
    assert "repeat" in lines[2] and "data row 2" in lines[2]
    assert "'y' are not numbers: data row 2" in lines[3]
    assert "'y' are infinite: data row 4" in lines[4]
    assert cli.records() == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "give one of --csv, --parquet, --sql-query, --dataset"),
        (("--dataset", "people", "--csv", "{csv}"), "not --csv and --dataset"),
        (("--csv", "{csv}"), "name the column of ids"),
        (("--dataset", "people", "--id", "id"), "that of the dataset"),
        (("--sql-query", "SELECT 1", "--id", "id"), "belong together"),
        (("--csv", "{csv}", "--id", "id", "--url-env", "X"), "belong together"),
        (("--csv", "nowhere.csv", "--id", "id"), "does not exist"),
        (("--csv", "{csv}", "--id", "id", "--id-type", "passport"), "passport"),
        (("--dataset", "animals"), "no dataset 'animals'; it offers: people"),
        (("--sql-query", "SELECT 1", "--url-env", "NOT_SET", "--id", "id"), "NOT_SET is not set"),
    ],
)
def test_what_makes_no_sense_is_refused(
    cli: Cli, write: Callable[..., str], arguments: tuple[str, ...], text: str
) -> None:
    path = write("id,x", "a,1")
    result = cli("load", *(argument.replace("{csv}", path) for argument in arguments))
    assert result.exit_code == USAGE
    assert text in result.stderr
    assert cli.records() == 0


def test_an_empty_id_cannot_be_shown(cli: Cli) -> None:
    result = cli("show", "  ")
    assert (result.exit_code, "identifier is empty" in result.stderr) == (WRONG_SPEC, True)


def test_a_party_without_topics_is_told_to_make_them(
    broker: EmbeddedBroker, new_party: Callable[[str], str], tmp_path: Path, write: Callable[..., str]
) -> None:
    name = new_party("bank")
    make_home(tmp_path / name, name, "shop", broker, {}, None)
    _forget_peers(tmp_path / name)
    for arguments in (("load", "--csv", write("id,x", "a,1"), "--id", "id"), ("count",), ("show", "a")):
        with pytest.raises(CommandError, match="isthmus topics create") as failure, reported():
            CliRunner().invoke(
                features, [*arguments, "--home", str(tmp_path / name)], catch_exceptions=False, standalone_mode=False
            )
        assert failure.value.exit_code == NO_BROKER
