"""Which source a party has, and what is wrong with its settings; the table of a job as a source."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from consumers.features import dataset_source, make_source
from consumers.party import Party, load_share, open_party
from infra.broker import EmbeddedBroker
from infra.feature_http import HttpSource
from infra.feature_sql import SqlSource
from infra.federation_local import found_together
from infra.settings import SettingsError
from producers.demo_data import breast_cancer
from schemas.jobs import JobSpec, PartySpec, TrainSpec
from streams.dataset import Dataset
from streams.features import FeatureSourceError
from tests.end_to_end.world import make_home

Opened = Callable[[dict[str, Any]], Party]

#: A broker that nobody asks for anything.
NOWHERE = EmbeddedBroker(Path("nowhere"), 1, is_open=True)


@pytest.fixture
def open_with(tmp_path: Path) -> Opened:
    """A party whose settings name this feature source."""

    def make(features: dict[str, Any]) -> Party:
        home = tmp_path / "bank"
        make_home(home, "bank", "shop", NOWHERE, {}, None)
        path = home / "party.yaml"
        settings = yaml.safe_load(path.read_text()) | {"peers": [], "score": {"features": features}}
        path.write_text(yaml.safe_dump(settings))
        return open_party(home)

    return make


def test_a_database_is_opened_without_being_there(open_with: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURES_URL", "postgresql+psycopg://reader:secret@127.0.0.1:1/x")
    party = open_with({"kind": "sql", "url_env": "FEATURES_URL", "table": "t", "id": "id", "timeout_ms": 5_000})
    source = make_source(party, for_hosting=True)
    assert isinstance(source, SqlSource)
    with pytest.raises(FeatureSourceError, match="refused") as failure:
        source.fetch(["a"], ["x"])
    assert "secret" not in str(failure.value)
    source.close()


def test_a_relative_sqlite_file_lies_in_the_home(open_with: Opened) -> None:
    party = open_with({"kind": "sql", "url": "sqlite:///data/f.db", "table": "t", "id": "id"})
    connection = sqlite3.connect(party.settings.home / "data" / "f.db")
    connection.execute("CREATE TABLE t (id TEXT, x REAL)")
    connection.execute("INSERT INTO t VALUES ('a', 1.5)")
    connection.commit()
    connection.close()
    source = make_source(party, for_hosting=True)
    [person] = source.fetch(["a"], ["x"])
    assert person is not None and person.values == {"x": 1.5}
    assert list(source.known_ids()) == ["a"]
    source.close()


SQL = {"kind": "sql", "table": "t", "id": "id"}
HTTP = {"kind": "http", "url": "http://127.0.0.1:1/x"}


@pytest.mark.parametrize(
    ("features", "place", "text"),
    [
        ({**SQL, "url_env": "NOT_SET"}, "url_env", "environment variable NOT_SET is not set"),
        ({**SQL, "url_env": "BAD_URL"}, "url_env", "no URL of a database"),
        ({**SQL, "url": "mysql+pymysql://h/d"}, "url", "driver pymysql is not installed"),
        (HTTP, "ids_url", "is needed at a host"),
        ({**HTTP, "ids_url": HTTP["url"], "authorization_env": "NOT_SET"}, "authorization_env", "is not set"),
        ({**HTTP, "ids_url": HTTP["url"], "authorization_env": "BAD_TOKEN"}, "authorization_env", "cannot have"),
    ],
)
def test_what_a_person_has_to_repair_is_told_with_its_place_in_the_settings(
    open_with: Opened, monkeypatch: pytest.MonkeyPatch, features: dict[str, Any], place: str, text: str
) -> None:
    monkeypatch.setenv("BAD_URL", "secret")
    monkeypatch.setenv("BAD_TOKEN", "sec\nret")
    with pytest.raises(SettingsError, match=rf"score\.features\.{place}: .*{text}") as failure:
        make_source(open_with(features), for_hosting=True)
    assert "secret" not in str(failure.value)


def test_a_guest_needs_no_list_of_ids(open_with: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "Bearer x")
    source = make_source(open_with({**HTTP, "authorization_env": "TOKEN"}), for_hosting=False)
    assert isinstance(source, HttpSource)
    source.close()


@pytest.fixture
def guest(tmp_path: Path) -> tuple[Party, JobSpec]:
    """A party with a dataset, and a job on it."""
    tables = breast_cancer(7, 60)
    home = tmp_path / "clinic"
    frame: pd.DataFrame = tables.guest
    make_home(home, "clinic", "lab", NOWHERE, {"people": frame}, "malignant")
    other = tmp_path / "lab"
    make_home(other, "lab", "clinic", NOWHERE, {}, None)
    found_together([home, other], "features")
    spec = JobSpec(
        name="small",
        guest=PartySpec("clinic", "people", tables.guest_features),
        label="malignant",
        hosts=(PartySpec("lab", "people", tables.host_features),),
        train=TrainSpec(),
    )
    return open_party(home), spec


def test_the_table_of_a_job_gives_the_values_of_training_bit_by_bit(guest: tuple[Party, JobSpec]) -> None:
    party, spec = guest
    dataset = load_share(party, spec)
    assert isinstance(dataset, Dataset)
    source = dataset_source(party, spec)
    assert list(source.known_ids()) == list(dataset.ids)
    wanted = (*reversed(dataset.columns), "nothing")
    found = source.fetch([*dataset.ids, "stranger"], wanted)
    assert found[-1] is None
    for row, person in zip(dataset.values, found[:-1], strict=True):
        assert person is not None
        assert list(person.values) == list(reversed(dataset.columns))
        assert np.array(list(person.values.values())).tobytes() == row[::-1].tobytes()
        assert {type(value) for value in person.values.values()} == {float}
    source.close()


def test_a_table_that_changed_its_shape_is_no_source(guest: tuple[Party, JobSpec]) -> None:
    party, spec = guest
    path = party.settings.home / "data" / "people.csv"
    frame = pd.read_csv(path)
    frame.drop(columns=[spec.guest.features[1]]).to_csv(path, index=False)
    with pytest.raises(FeatureSourceError, match=r"guest\.features\[1\]: there is no column"):
        dataset_source(party, spec)


def test_a_job_of_others_has_no_table_here(guest: tuple[Party, JobSpec]) -> None:
    party, _ = guest
    strange = JobSpec(
        name="x",
        guest=PartySpec("a", "people", ()),
        label="y",
        hosts=(PartySpec("b", "people", ()),),
        train=TrainSpec(),
    )
    with pytest.raises(FeatureSourceError, match="clinic is no party of the job"):
        dataset_source(party, strange)
