"""Rows read the short way are those that the codec reads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.feature_rows import Row, RowReader, make_plan
from schemas.codec import DecodeError, encode
from schemas.serving import FeatureRow, ServingAlias

NAMES = st.lists(st.text(max_size=70), max_size=12, unique=True).map(tuple)
NUMBERS = st.floats(allow_nan=False) | st.none()


@st.composite
def row_lists(draw: st.DrawFn) -> list[FeatureRow]:
    """Rows of two layouts in any order."""
    layouts = draw(st.lists(NAMES, min_size=1, max_size=2))
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        columns = draw(st.sampled_from(layouts))
        values = tuple(draw(NUMBERS) for _ in columns)
        rows.append(FeatureRow(draw(st.text(max_size=200)), columns, values, draw(st.integers(-(2**62), 2**62))))
    return rows


@settings(deadline=None)
@given(row_lists())
def test_whatever_way_a_row_is_read_it_is_the_same(rows: list[FeatureRow]) -> None:
    reader = RowReader()
    for record in (*rows, *rows):
        row = reader.read(encode(record))
        assert (row.entity_id, row.columns, row.as_of_ms) == (record.entity_id, record.columns, record.as_of_ms)
        assert make_plan(row.columns, row.columns)(row) == dict(zip(record.columns, record.values, strict=True))


def test_rows_of_one_layout_go_the_short_way_and_share_their_names() -> None:
    """Otherwise loading takes three times as long, and memory for the names of each row."""
    columns = tuple(f"feature {number}" for number in range(20))
    reader = RowReader()
    rows = [
        reader.read(encode(FeatureRow(f"person {number}", columns, (0.5,) * 20, 1_763_000_000_000)))
        for number in range(50)
    ]
    assert reader.quick == 49
    assert all(row.columns is rows[0].columns for row in rows)
    assert all(name is other for name, other in zip(rows[0].columns, rows[1].columns, strict=True))


@settings(deadline=None)
@given(st.binary(max_size=20), st.integers(0, 80), st.integers(0, 255))
def test_a_row_that_was_damaged_is_read_as_the_codec_would_or_refused(tail: bytes, place: int, byte: int) -> None:
    good = encode(FeatureRow("person", ("p", "q"), (1.0, 2.0), 5))
    damaged = bytearray(good + tail)
    damaged[min(place, len(damaged) - 1)] = byte
    quick, slow = RowReader(), RowReader()
    quick.read(good)
    outcomes: list[Row | str] = []
    for reader in (quick, slow):
        try:
            outcomes.append(reader.read(bytes(damaged)))
        except DecodeError:
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1]


def test_other_records_are_no_rows() -> None:
    with pytest.raises(DecodeError, match="ServingAlias is no row"):
        RowReader().read(encode(ServingAlias("m", "live", "1", "", 0, "", "", 0)))
    with pytest.raises(DecodeError, match="2 columns, 1 values"):
        RowReader().read(encode(FeatureRow("person", ("a", "b"), (1.0,), 5)))


@pytest.mark.parametrize(
    ("wanted", "values"),
    [
        (("a", "b", "c"), {"a": 1.0, "b": None, "c": math.inf}),
        (("c", "a"), {"c": math.inf, "a": 1.0}),
        (("b",), {"b": None}),
        (("a", "z"), {"a": 1.0}),
        ((), {}),
    ],
)
def test_a_plan_reads_the_wanted_columns_and_leaves_out_those_that_are_not_there(
    wanted: tuple[str, ...], values: dict[str, object]
) -> None:
    row = RowReader().read(encode(FeatureRow("person", ("a", "b", "c"), (1.0, None, math.inf), 5)))
    assert make_plan(row.columns, wanted)(row) == values
