"""How much of a delta its parts take, in bytes, at most: so that none becomes too large for a Kafka record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from schemas.scoring import RoutedScore
from schemas.scoring_states import FinishedScores, HeldAnswer

#: About so much goes into one delta; with what is not counted and the largest single item it stays below Kafka's limit.
DELTA_BYTES = 400_000
#: What fields without long texts take in a delta.
_ITEM_BYTES, _BAND_BYTES, _ANSWER_BYTES, _KEY_BYTES = 300, 20, 150, 4


def cut_group(group: FinishedScores) -> Iterator[tuple[int, FinishedScores]]:
    """Pieces of a group, none larger than a delta, with their sizes."""
    start, size = 0, 0
    for position, key in enumerate(group.keys):
        more = size_of_key(key)
        if size + more > DELTA_BYTES and position > start:
            yield size, replace(group, keys=group.keys[start:position])
            start, size = position, 0
        size += more
    yield size, replace(group, keys=group.keys[start:])


def size_of_item(item: RoutedScore) -> int:
    """Of a request that waits."""
    texts = (item.request_id, item.model, item.version, item.alias, item.party, item.detail, *item.hosts)
    bands = sum(_BAND_BYTES + 4 * (len(band.name) + len(band.decision)) for band in item.bands)
    return _ITEM_BYTES + 4 * sum(map(len, texts)) + bands


def size_of_answer(held: HeldAnswer) -> int:
    """Of an answer that is held."""
    answer = held.answer
    texts = (answer.request_id, answer.model, answer.version, answer.detail, held.host)
    return _ANSWER_BYTES + 4 * sum(map(len, texts))


def size_of_key(key: str) -> int:
    """Of a key, in UTF-8."""
    return _KEY_BYTES + 4 * len(key)
