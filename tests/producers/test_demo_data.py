"""The demo's tables and what its model is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from producers.demo_data import breast_cancer, read_pair
from producers.demo_parties import DemoOptions, demo_job_id, make_spec
from producers.demo_reference import fit_references
from producers.spec import DemoDataError, read_spec
from schemas.jobs import Leak, Privacy
from streams.machines.job.validation import validate_spec


def test_ids_overlap_only_partly() -> None:
    tables = breast_cancer(1)
    guest, host = set(tables.guest["id"]), set(tables.host["id"])
    assert len(guest) == len(host) == 569 - 56
    assert 450 < len(guest & host) < 475
    assert list(tables.guest["id"]) != list(tables.host["id"])


def test_the_seed_decides_the_tables() -> None:
    assert breast_cancer(3).guest.equals(breast_cancer(3).guest)
    assert not breast_cancer(3).guest.equals(breast_cancer(4).guest)


def test_columns_are_the_guests_or_the_hosts_and_the_label_is_the_guests() -> None:
    tables = breast_cancer(1)
    assert len(tables.guest_features) == 8
    assert len(tables.host_features) == 22
    assert not set(tables.guest_features) & set(tables.host_features)
    assert tables.label in tables.guest.columns
    assert tables.label not in tables.host.columns


@pytest.mark.parametrize("seed", range(4))
def test_joining_visibly_helps(seed: int) -> None:
    tables = breast_cancer(seed)
    common = sorted(set(tables.guest["id"]) & set(tables.host["id"]))
    holdout = list(np.random.RandomState(seed).permutation(common)[: int(len(common) * 0.3)])
    reference = fit_references(tables, holdout, make_spec(DemoOptions(), tables).train)
    assert reference.rows_in_common == len(common)
    assert reference.auc_pooled > 0.975
    assert reference.auc_pooled - reference.auc_guest_only > 0.04


def test_a_holdout_that_is_not_common_is_an_error() -> None:
    tables = breast_cancer(1)
    with pytest.raises(ValueError, match="not in both tables"):
        fit_references(tables, ["nobody"], make_spec(DemoOptions(), tables).train)


def test_files_are_read_plain_and_gzipped(tmp_path: Path) -> None:
    ids = [f"{number:03d}" for number in range(100)]
    guest = pd.DataFrame({"id": ids, "y": [0, 1] * 50, "a": np.arange(100.0)})
    guest.to_csv(tmp_path / "loans_guest.csv", index=False)
    pd.DataFrame({"id": ids, "b": np.arange(100.0)}).to_csv(tmp_path / "loans_host.csv.gz", index=False)
    tables = read_pair(tmp_path / "loans", 1)
    assert (tables.guest_features, tables.host_features, tables.label) == (("a",), ("b",), "y")
    assert len(tables.guest) == len(tables.host) == 90
    assert set(tables.guest["id"]) <= set(ids), "leading zeros stay"
    assert len(read_pair(tmp_path / "loans", 1, rows=50).guest) == 45


def test_files_without_label_or_id_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"id": ["1"], "a": [1.0]}).to_csv(tmp_path / "x_guest.csv", index=False)
    pd.DataFrame({"b": [1.0]}).to_csv(tmp_path / "x_host.csv", index=False)
    with pytest.raises(DemoDataError, match="no column id"):
        read_pair(tmp_path / "x", 1)
    pd.DataFrame({"id": ["1"], "b": [1.0]}).to_csv(tmp_path / "x_host.csv", index=False)
    with pytest.raises(DemoDataError, match="no column y"):
        read_pair(tmp_path / "x", 1)


@pytest.mark.parametrize(
    "options",
    [
        DemoOptions(),
        DemoOptions(data=Path("x")),
        DemoOptions(privacy=Privacy.TRUSTED_GUEST),
        DemoOptions(data=Path("x"), rank=4, rows=100, max_passes=3),
    ],
)
def test_the_demos_spec_is_a_good_spec(options: DemoOptions) -> None:
    assert validate_spec(make_spec(options, breast_cancer(1))) == ()


def test_only_the_demos_own_small_table_is_accepted_without_asking() -> None:
    tables = breast_cancer(1)
    assert make_spec(DemoOptions(), tables).accept_leaks == (Leak.SMALL_TABLE,)
    assert make_spec(DemoOptions(data=Path("x")), tables).accept_leaks == ()


def test_the_job_id_follows_from_seed_and_spec() -> None:
    tables = breast_cancer(1)
    spec = make_spec(DemoOptions(), tables)
    assert demo_job_id(1, spec) == demo_job_id(1, spec)
    assert demo_job_id(1, spec) != demo_job_id(2, spec)
    assert demo_job_id(1, spec) != demo_job_id(1, make_spec(DemoOptions(rank=6), tables))


def test_the_example_is_the_demos_job() -> None:
    example = read_spec(Path("examples/breast-cancer.yaml"))
    spec = make_spec(DemoOptions(), breast_cancer(1))
    assert (example.name, example.label, example.train, example.accept_leaks) == (
        spec.name,
        spec.label,
        spec.train,
        spec.accept_leaks,
    )
