"""Tables: what a good one becomes, and that every mistake of a bad one is told at once, without its values."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.datasets import fingerprint_table, load_dataset
from infra.settings import PartySettings
from schemas.jobs import PartySpec, Role
from streams.dataset import Dataset, DatasetProblem
from streams.identifiers import Identifiers
from streams.kernels.ristretto import normalise_id

GOOD = "id,age,income,city,churned\nb@x,40,1.5,Rome,1\na@x,31,-2,Oslo,0\nc@x,55,3e2,Rome,1\n"

Load = Callable[..., Dataset | DatasetProblem]


@pytest.fixture(autouse=True, params=[1, 2, 50_000])
def _piece_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a file falls into pieces, it is the same table, with the same mistakes."""
    monkeypatch.setattr("infra.csv_table.PIECE_ROWS", request.param)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes a table and loads it as the guest's, unless told otherwise."""

    def write_and_load(
        content: str | bytes,
        features: tuple[str, ...] = (),
        *,
        role: Role = Role.GUEST,
        name: str = "table.csv",
        dataset: str = "customers",
        label: str = "churned",
        own_label: str | None = None,
        id_type: str = "email",
        key: bytes = b"",
    ) -> Dataset | DatasetProblem:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        settings = PartySettings.model_validate(
            {
                "party": "acme",
                "access": {"kind": "custom"},
                "bootstrap_servers": "a:1",
                "datasets": {"customers": {"path": str(tmp_path / name), "id": "id", "label": own_label}},
            }
        )
        return load_dataset(
            settings,
            PartySpec("acme", dataset, features),
            role=role,
            label=label,
            path_prefix="guest" if role is Role.GUEST else "hosts[0]",
            normalise=lambda text: normalise_id(text, id_type),
            fingerprint_key=key,
        )

    return write_and_load


def _good(result: Dataset | DatasetProblem) -> Dataset:
    assert isinstance(result, Dataset), result
    return result


def _mistakes(result: Dataset | DatasetProblem) -> list[tuple[str, str]]:
    assert isinstance(result, DatasetProblem), result
    return [(mistake.path, mistake.message) for mistake in result.mistakes]


def test_a_good_table_keeps_the_order_of_its_rows(load: Load) -> None:
    table = _good(load(GOOD))
    assert tuple(table.ids) == ("b@x", "a@x", "c@x")
    assert table.columns == ("age", "income")
    assert table.values.tolist() == [[40.0, 1.5], [31.0, -2.0], [55.0, 300.0]]
    assert table.values.dtype == np.float64
    assert table.label is not None
    assert table.label.dtype == np.int8
    assert table.label.tolist() == [1, 0, 1]
    assert table.profile.rows == 3
    assert [column.name for column in table.profile.columns] == ["age", "income"]


def test_features_come_in_the_order_of_the_spec(load: Load) -> None:
    assert _good(load(GOOD, ("income", "age"))).columns == ("income", "age")


def test_a_host_neither_needs_nor_uses_the_label(load: Load) -> None:
    table = _good(load(GOOD.replace("churned", "visits"), role=Role.HOST))
    assert table.label is None
    assert table.columns == ("age", "income", "visits")


def test_a_column_that_the_settings_call_a_label_is_no_feature_at_a_host(load: Load) -> None:
    assert _good(load(GOOD, role=Role.HOST, own_label="churned", label="other")).columns == ("age", "income")


def test_a_compressed_table_with_a_byte_order_mark_is_the_same_table(load: Load) -> None:
    plain = _good(load(GOOD))
    packed = _good(load(gzip.compress(b"\xef\xbb\xbf" + GOOD.encode()), name="table.csv.gz"))
    assert packed.profile == plain.profile
    assert list(packed.ids) == list(plain.ids)


def test_identifiers_are_what_was_written_even_if_they_look_like_something_else(load: Load) -> None:
    table = _good(load("id,x,churned\nNA,1,0\n007,2,1\n1e5,3,0\nnull,4,1\n", id_type="string"))
    assert tuple(table.ids) == ("NA", "007", "1e5", "null")


def test_numbers_are_the_nearest_doubles(load: Load) -> None:
    texts = ["0.1", "2.2250738585072011e-308", "1.7976931348623157e308", "9007199254740993", "0.30000000000000004"]
    rows = "".join(f"{index}@x,{text},{index % 2}\n" for index, text in enumerate(texts))
    assert _good(load("id,x,churned\n" + rows)).values[:, 0].tolist() == [float(text) for text in texts]


def test_a_fingerprint_tells_every_change_and_no_other(load: Load) -> None:
    original = _good(load(GOOD)).profile.fingerprint
    assert _good(load(GOOD.replace("300", "3e2").replace("\n", "\r\n"))).profile.fingerprint == original
    assert _good(load(GOOD.replace("Rome", "Bern"))).profile.fingerprint == original
    changed = [
        load(GOOD.replace("40,", "41,")),
        load(GOOD.replace("b@x", "d@x")),
        load(GOOD.replace("1.5,Rome,1", "1.5,Rome,0")),
        load(GOOD.replace("income", "wealth")),
        load(GOOD, ("income", "age")),
        load("\n".join([*GOOD.splitlines()[:1], *GOOD.splitlines()[:0:-1]])),
        load(GOOD, role=Role.HOST, own_label="churned"),
        load(GOOD, key=b"secret of the party"),
    ]
    prints = [_good(result).profile.fingerprint for result in changed]
    assert len({original, *prints}) == len(prints) + 1
    assert all(len(fingerprint) == 32 for fingerprint in prints)


def _print(ids: list[str], columns: tuple[str, ...], values: NDArray[np.float64]) -> bytes:
    return fingerprint_table(Identifiers.of(ids), columns, values, None)


def test_a_fingerprint_cannot_be_confused_by_moving_text_between_fields() -> None:
    none = np.empty((2, 0))
    assert _print(["ab", "c"], (), none) != _print(["a", "bc"], (), none)
    zeros = np.zeros((1, 1))
    assert _print(["a"], ("x",), zeros) == _print(["a"], ("x",), -zeros)


def test_an_unknown_dataset_tells_the_known_ones(load: Load) -> None:
    assert _mistakes(load(GOOD, dataset="clients")) == [
        ("guest.dataset", "acme has no dataset 'clients'; it offers: customers")
    ]


def test_all_mistakes_of_a_table_are_told_at_once(load: Load) -> None:
    text = "id,age,income,note,churned\nsecret-a@x,1,inf,u,0\nSECRET-A@X,2,2,v,2\n,x7,,w,1\nsecret-b@x,4,4,x,\n"
    mistakes = _mistakes(load(text, ("age", "income", "weight", "age", "id", "churned")))
    assert mistakes == [
        ("guest.features[2]", "there is no column 'weight' in the dataset 'customers'"),
        ("guest.features[3]", "'age' is listed twice"),
        ("guest.features[4]", "'id' is the identifier column, which cannot be a feature"),
        ("guest.features[5]", "'churned' is a label column, which cannot be a feature"),
        (
            "guest.dataset",
            "1 identifiers cannot be used, the first in data row 3: the identifier is empty; remove the row or fill "
            "the identifier column",
        ),
        (
            "guest.dataset",
            "1 rows repeat the identifier of an earlier row (after normalisation), for example data rows 1 and 2; keep "
            "one row for each identifier",
        ),
        (
            "guest.features[0]",
            "1 of 4 values of column 'age' are not numbers, the first in data row 3; correct or encode them",
        ),
        (
            "guest.features[1]",
            "1 of 4 values of column 'income' are missing, the first in data row 3; fill them or leave the column out",
        ),
        (
            "guest.features[1]",
            "1 of 4 values of column 'income' are infinite, the first in data row 1; correct them",
        ),
        ("label", "1 values of 'churned' are missing, the first in data row 4"),
        (
            "label",
            "1 values of 'churned' are neither 0 nor 1, the first in data row 2; the label must be two classes, "
            "written 0 and 1",
        ),
    ]
    everything = " ".join(message for _, message in mistakes)
    for value in ("secret-a", "SECRET-A", "x7"):
        assert value not in everything


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("id,age,churned\n", "has a header but no rows"),
        (b"id,age,churned\n\xff,1,0\n", "is not UTF-8 text"),
        ("id,age,churned\na@x,1,0,9,9\n", "line 2 of"),
        ("id,age,age,churned\na@x,1,2,0\n", "names columns twice: 'age'"),
        ("name,age,churned\na@x,1,0\n", "the identifier column 'id' is not in"),
    ],
)
def test_a_file_that_is_no_usable_table_is_told(load: Load, content: str | bytes, message: str) -> None:
    ((path, text),) = _mistakes(load(content))
    assert path == "guest.dataset"
    assert message in text


def test_a_cut_off_or_unpacked_gzip_file_is_told(load: Load) -> None:
    whole = gzip.compress(GOOD.encode() * 100, mtime=0)
    for content in (whole[: len(whole) // 2], b"plain,text\n", whole[:40] + b"\xff" * 40 + whole[80:]):
        assert "is not a whole gzip file" in _mistakes(load(content, name="table.csv.gz"))[0][1]


def test_a_missing_file_and_a_folder_are_told(load: Load, tmp_path: Path) -> None:
    load(GOOD)
    settings = PartySettings.model_validate(
        {
            "party": "acme",
            "access": {"kind": "custom"},
            "bootstrap_servers": "a:1",
            "datasets": {"gone": {"path": "gone.csv", "id": "id"}, "folder": {"path": str(tmp_path), "id": "id"}},
        }
    )
    for name, message in (("gone", "does not exist"), ("folder", "cannot be read")):
        spec = PartySpec("acme", name)
        result = load_dataset(
            settings, spec, role=Role.HOST, label="", path_prefix="hosts[1]", normalise=lambda text: text
        )
        ((path, text),) = _mistakes(result)
        assert path == "hosts[1].dataset"
        assert message in text


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("111", "all values of 'churned' are equal"),
        ("121", "1 values of 'churned' are neither 0 nor 1, the first in data row 2"),
        ("yny", "3 values of 'churned' are neither 0 nor 1, the first in data row 1"),
    ],
)
def test_a_label_that_cannot_be_learnt_is_told(load: Load, labels: str, message: str) -> None:
    rows = "".join(f"{index}@x,{index},{label}\n" for index, label in enumerate(labels))
    ((path, text),) = _mistakes(load("id,age,churned\n" + rows))
    assert path == "label"
    assert message in text


def test_the_settings_decide_which_column_may_be_a_label(load: Load) -> None:
    assert _mistakes(load(GOOD, own_label="age")) == [
        ("label", "the settings of this dataset allow 'age' as label, not 'churned'")
    ]
    assert _mistakes(load(GOOD, label="id"))[0] == ("label", "'id' is the identifier column, which cannot be the label")
    assert _mistakes(load(GOOD, label="gone"))[0] == ("label", "there is no column 'gone' in the dataset of guest")


def test_a_table_without_numbers_has_no_features(load: Load) -> None:
    ((path, text),) = _mistakes(load("id,city,churned\na@x,Rome,0\nb@x,Oslo,1\n"))
    assert path == "guest.features"
    assert "no numeric column" in text


def test_a_column_of_numbers_with_a_slip_is_a_mistake_not_another_type(load: Load) -> None:
    rows = "".join(f"{index}@x,{'oops' if index == 5 else index},{index % 2}\n" for index in range(10))
    ((path, text),) = _mistakes(load("id,age,churned\n" + rows))
    assert path == "guest.features"
    assert "1 of 10 values of column 'age' are not numbers, the first in data row 6" in text


def test_truth_values_are_numbers_only_where_the_whole_column_is_of_them(load: Load) -> None:
    whole = "id,x,churned\na@x,True,0\nb@x,False,1\nc@x,True,1\n"
    assert _good(load(whole)).values.tolist() == [[1.0], [0.0], [1.0]]
    mixed = "id,x,churned\na@x,True,0\nb@x,3,1\nc@x,4,1\n"
    assert _mistakes(load(mixed, ("x",))) == [
        (
            "guest.features[0]",
            "1 of 3 values of column 'x' are not numbers, the first in data row 1; correct or encode them",
        )
    ]


def test_of_repeated_identifiers_the_first_repetition_in_the_file_is_named(load: Load) -> None:
    rows = "".join(f"{name}@x,1,{index % 2}\n" for index, name in enumerate("abcdcbxaa"))
    ((_, message),) = _mistakes(load("id,x,churned\n" + rows))
    assert message.startswith("4 rows repeat the identifier of an earlier row")
    assert "data rows 3 and 5;" in message
