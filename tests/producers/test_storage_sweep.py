"""What still rests under a former storage key: the last value of each key decides, whatever was there before it."""

from __future__ import annotations

import pytest

from producers.storage_sweep import Value, choose_former
from streams.engine.seal import SealError
from streams.engine.storage_seal import StorageSeal

FIRST, SECOND, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))
TOPIC = "vfl.features.clinic.v1"
BEFORE = StorageSeal("clinic", {1: FIRST})
BETWEEN = StorageSeal("clinic", {1: FIRST, 2: SECOND})
NOW = StorageSeal("clinic", {2: SECOND, 3: THIRD})


def value(seal: StorageSeal, key: bytes, partition: int = 0) -> Value:
    return Value(partition, key, seal.seal_state(TOPIC, partition, key, b"what rests"))


def test_only_last_values_count() -> None:
    gone, former, current = value(BEFORE, b"a"), value(BETWEEN, b"a"), value(NOW, b"a")
    assert choose_former([gone, former], TOPIC, NOW) == [former]
    assert choose_former([gone, former, current], TOPIC, NOW) == []
    assert choose_former([gone, Value(0, b"a", None)], TOPIC, NOW) == []
    assert choose_former([former, value(NOW, b"b"), value(BETWEEN, b"a", 1)], TOPIC, NOW) == [
        former,
        value(BETWEEN, b"a", 1),
    ]


def test_a_last_value_that_nobody_can_open_is_told_with_its_place() -> None:
    with pytest.raises(SealError, match=r"vfl\.features\.clinic\.v1\[3\]: the state does not open"):
        choose_former([value(NOW, b"b"), value(BEFORE, b"a", 3)], TOPIC, NOW)
    with pytest.raises(SealError):
        choose_former([value(BETWEEN, b"a"), value(BEFORE, b"a")], TOPIC, NOW)
