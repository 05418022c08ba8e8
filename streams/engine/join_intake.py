"""From what lies in the joiner's inputs to its drafts: open, decode, hand over; the rest are dead letters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from schemas.codec import DecodeError
from schemas.scoring import RoutedScore, ScoresAnswered, ScoresRouted
from streams.engine.dead_letter import UndeliverableError, make_dead_letter
from streams.engine.join_slices import JoinDraft, JoinTopics
from streams.engine.messages import MessageSeal
from streams.engine.partitioner import partition_of
from streams.engine.ports import InputRecord
from streams.engine.seal import SealError

_log = logging.getLogger(__name__)

#: Of the complaints about one record, so many are told.
TOLD_COMPLAINTS = 10


class JoinIntake:
    """Takes records of one party's joiner."""

    def __init__(self, topics: JoinTopics, seal: MessageSeal, partition_count: Callable[[str], int]) -> None:
        self._topics = topics
        self._seal = seal
        self._partition_count = partition_count

    def take(self, draft: JoinDraft, raw: InputRecord, now_us: int) -> None:
        """Put the record into the draft; what cannot be used becomes a letter in it."""
        draft.positions[raw.place] = raw.offset + 1
        try:
            complaints = self._hand_over(draft, raw, now_us)
            if complaints:
                more = len(complaints) - TOLD_COMPLAINTS
                told = "; ".join(complaints[:TOLD_COMPLAINTS]) + (f"; and {more} more" if more > 0 else "")
                raise UndeliverableError(told)
        except UndeliverableError as error:
            _log.warning("dead letter: %s[%d]@%d: %s", raw.topic, raw.partition, raw.offset, error)
            topics = self._topics
            draft.letters.append(make_dead_letter(topics.dead_letter, topics.party, topics.stage, raw, str(error)))

    def _hand_over(self, draft: JoinDraft, raw: InputRecord, now_us: int) -> list[str]:
        """Gives the complaints about parts of the record. Raises `UndeliverableError` where none of it can be used."""
        try:
            sender, record = self._seal.open(raw.value or b"", raw.topic, raw.partition)
        except (SealError, DecodeError) as error:
            raise UndeliverableError(str(error)) from error
        is_own = sender == self._topics.party
        if raw.topic == self._topics.routed and is_own and isinstance(record, ScoresRouted):
            items, complaints = self._check_places(record.items, raw.partition)
            return complaints + draft.scores.take_routed(items, now_us // 1000)
        if raw.topic == self._topics.answers and not is_own and isinstance(record, ScoresAnswered):
            return draft.scores.take_answers(sender, record.answers, now_us)
        raise UndeliverableError(f"a {type(record).__name__} of {sender!r} does not belong here")

    def _check_places(self, items: Sequence[RoutedScore], partition: int) -> tuple[list[RoutedScore], list[str]]:
        """An item in another partition than its own would be given a second outcome by whoever has that one."""
        count = self._partition_count(self._topics.routed)
        kept, complaints = [], []
        for item in items:
            own = partition_of(item.request_id.encode(), count)
            if own == partition:
                kept.append(item)
            else:
                complaints.append(f"request {item.request_id!r} belongs in partition {own}")
        return kept, complaints
