"""Whatever others write: no exception but the promised ones, no state that cannot be kept, blame for whoever did it.

The corpus holds what was found once, and cases that reach far; beyond it every run tries the same few hundred fresh
ones. `python -m tests.fuzz --seconds N` tries others for as long as one likes (docs/architecture.md).
"""

from __future__ import annotations

import json
import tracemalloc

import pytest

from schemas.catalogue import load_catalogue, record_classes
from schemas.codec import DecodeError, decode, type_of
from schemas.derivation import Shape, shapes_of
from schemas.footprint import MOST_BYTES, check_footprint, growth_of
from schemas.record import Record
from schemas.training import PlainLogits
from tests.fuzz.arenas import ARENAS, arena
from tests.fuzz.encodings import MARKER, avro_long
from tests.fuzz.notation import record_from_json, record_to_json
from tests.fuzz.targets import CORPUS, TARGETS

CASES = [(target.name, path.stem) for target in TARGETS.values() for path in target.cases()]


@pytest.mark.parametrize(("target", "case"), CASES)
def test_what_was_found_once_stays_found(target: str, case: str) -> None:
    TARGETS[target].replay(CORPUS / target / f"{case}.json")


@pytest.mark.parametrize("name", TARGETS)
def test_fresh_cases_break_no_promise(name: str) -> None:
    target = TARGETS[name]
    target.run(target.examples)


def test_every_case_of_the_corpus_is_one_of_a_target_and_loads_as_it_was_written() -> None:
    """Each folder belongs to a target; JSON that nobody reads would be no case."""
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)
    assert len(CASES) >= 10
    for name, case in CASES:
        data = json.loads((CORPUS / name / f"{case}.json").read_text())
        target = TARGETS[name]
        written = target.to_json(target.from_json(data))
        assert target.to_json(target.from_json(json.loads(json.dumps(written)))) == written


def test_a_case_survives_fields_that_come_and_go() -> None:
    """The corpus is not rewritten with every version of a schema."""
    record = PlainLogits("job-1", 1, 0, b"12345678")
    written = {**record_to_json(record), "gone": 1}
    assert record_from_json(written) == record
    del written["chunk"], written["logits"]
    assert record_from_json(written) == PlainLogits("job-1", 1, 0, b"")


@pytest.mark.parametrize("name", ARENAS)
def test_every_arena_is_a_job_that_goes_well(name: str) -> None:
    """A script begins in the middle of something; an arena whose job failed at once would test nothing."""
    ring = arena(name)
    assert ring.heard, "the peer said something"
    phases = {ring.phase_of(moment.state) for moment in ring.moments} | {ring.phase_of(ring.last)}
    wanted = {str(row.phase) for row in ring.transitions if row.role == ring.role}
    assert ring.phase_of(ring.last) == ("over" if name == "audit" else "ended") or name == "job-host-asking"
    assert len(phases) >= min(3, len(wanted)) or name == "job-host-asking", phases


# --- what a few bytes may take ---


def hostile(cls: type[Record], field: str, items: int, *, full: bool) -> bytes:
    """The smallest record of a class with so many items in one of its arrays."""
    body = b""
    for name, shape in shapes_of(cls).items():
        if name == field:
            assert shape.item is not None
            body += avro_long(items) + _least(shape.item, full) * items + b"\0"
        else:
            body += _least(shape, full)
    return MARKER + load_catalogue().newest(cls).fingerprint + body


def _least(shape: Shape, full: bool) -> bytes:
    match shape.kind:
        case "record":
            return b"".join(_least(each, full) for each in shapes_of(shape.python_type).values())
        case "blob":
            return b"\0\0"
        case "optional":
            assert shape.item is not None
            return avro_long(full) + (_least(shape.item, full) if full else b"")
    return bytes(8) if shape.kind == "primitive" and shape.python_type is float else b"\0"


ARRAYS = [(cls, name) for cls in record_classes() for name, shape in shapes_of(cls).items() if shape.kind == "array"]


@pytest.mark.parametrize("full", [True, False])
def test_no_record_takes_more_memory_than_its_schema_says(full: bool) -> None:
    """Measured with the worst that each array can hold: this is what the limit for records of others rests on."""
    tested = 0
    for cls, name in ARRAYS:
        data = hostile(cls, name, 600, full=full)
        tracemalloc.start()
        try:
            decode(data)
            tested += 1
        except DecodeError:
            continue  # With options the other way round.
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak <= growth_of(cls) * len(data) + 100_000, (
            f"{cls.__name__}.{name} takes {peak / len(data):.0f} a byte"
        )
    assert tested > len(ARRAYS) // 2


def test_a_record_of_others_that_could_take_too_much_is_not_decoded() -> None:
    cls = next(each for each, _ in ARRAYS if each.__name__ == "PartyApproved")
    header = MARKER + load_catalogue().newest(cls).fingerprint
    largest = int(MOST_BYTES / growth_of(cls))
    assert largest > 500_000, "wide tables are not a mistake"
    with pytest.raises(DecodeError, match="of memory"):
        check_footprint(header + bytes(largest))
    assert check_footprint(header + bytes(largest - 20)) is cls


def test_an_array_cannot_hold_items_of_no_bytes() -> None:
    """A few bytes would announce as many of them as one likes."""
    for cls, name in ARRAYS:
        item = shapes_of(cls)[name].item
        assert item is not None and len(_least(item, full=False)) >= 1, f"{cls.__name__}.{name}"


@pytest.mark.parametrize("length", [2**31, 2**40, 2**62, 2**63 - 1, -1, -(2**62)])
def test_a_length_that_promises_gigabytes_takes_no_memory(length: int) -> None:
    """In the place of every length and count of every record; negative ones announce blocks with sizes."""
    for cls in record_classes():
        head = MARKER + load_catalogue().newest(cls).fingerprint
        for before in range(4):
            data = head + bytes(before) + avro_long(length) + bytes(20)
            tracemalloc.start()
            try:
                decode(data)
            except DecodeError:
                pass
            finally:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert peak < 300_000, f"{cls.__name__}: {peak:,} bytes for {len(data)}"
            assert type_of(data) is cls
