"""What the engine relies on, of the fake broker and of Kafka alike: transactions, positions, restores, groups."""

from __future__ import annotations

import pytest

from streams.engine.errors import SlotTakenError
from streams.engine.ports import ClientError, ClientErrorKind, Log, NotYetError, OutputRecord, Producer, TopicPartition
from tests.contract.benches import PARTITIONS, Bench, settle, take


def make_producer(log: Log, number: int = 0) -> Producer:
    """Taking the id is also how the engine aborts."""
    producer = log.make_producer(number)
    producer.init()
    return producer


def join(bench: Bench, slot: int = 0) -> tuple[Log, Producer]:
    """A process as the engine starts it: the transactional id first, then the group."""
    log = bench.log(slot)
    producer = make_producer(log)
    log.join()
    return log, producer


def outputs(topic: str, *values: bytes | None) -> list[OutputRecord]:
    return [OutputRecord(topic, 0, b"key", value) for value in values]


def run(producer: Producer, records: list[OutputRecord], positions: dict[TopicPartition, int]) -> None:
    producer.begin()
    if positions:
        producer.send_offsets(positions)
    go_on(producer, records)


def go_on(producer: Producer, records: list[OutputRecord]) -> None:
    """With a transaction that is open."""
    for record in records:
        producer.produce(record)
    producer.commit()


def poll_on(log: Log) -> None:
    for _ in range(600):
        log.poll(100, 10)


def read_state(log: Log, place: TopicPartition) -> list[tuple[bytes, bytes | None]]:
    """As the engine does: again, when it takes long."""
    for _ in range(20):
        try:
            return log.read_state(place)
        except NotYetError:
            log.poll(0, 1)
    raise AssertionError("the state cannot be read")


def test_only_committed_records_are_read(bench: Bench) -> None:
    log, producer = join(bench)
    commands = TopicPartition(bench.topics.commands, 0)
    settle(log)
    log.start({commands: None})
    run(producer, outputs(bench.topics.commands, b"first"), {})
    producer.begin()
    producer.produce(OutputRecord(bench.topics.commands, 0, b"key", b"never"))
    producer = make_producer(log)
    run(producer, outputs(bench.topics.commands, b"second"), {})
    assert [(record.key, record.value) for record in take(log, 2)] == [(b"key", b"first"), (b"key", b"second")]


def test_nothing_is_fetched_before_it_is_started(bench: Bench) -> None:
    log, _ = join(bench)
    places = [TopicPartition(bench.topics.commands, p) for p in range(PARTITIONS)]
    for place in places:
        bench.write(place, b"key", b"value")
    settle(log)
    log.start({places[1]: None})
    assert [record.place for record in take(log, 1)] == [places[1]]
    log.start({places[0]: None})
    assert [record.place for record in take(log, 1)] == [places[0]]


def test_reading_starts_where_it_is_told_and_again(bench: Bench) -> None:
    log, _ = join(bench)
    place = TopicPartition(bench.topics.exchange, 0)
    for number in range(4):
        bench.write(place, b"key", b"%d" % number)
    settle(log)
    log.start({place: 2})
    assert [record.value for record in take(log, 2)] == [b"2", b"3"]
    log.start({place: 1})
    assert [(record.offset, record.value) for record in take(log, 3)] == [(1, b"1"), (2, b"2"), (3, b"3")]


def test_positions_are_committed_with_the_transaction_or_not_at_all(bench: Bench) -> None:
    log, producer = join(bench)
    place, other = TopicPartition(bench.topics.commands, 0), TopicPartition(bench.topics.exchange, 1)
    settle(log)
    assert log.committed([place, other]) == {place: None, other: None}
    run(producer, [], {place: 5})
    producer.begin()
    producer.send_offsets({place: 7, other: 9})
    make_producer(log)
    assert log.committed([place, other]) == {place: 5, other: None}


def test_positions_of_an_undecided_transaction_are_waited_for(bench: Bench) -> None:
    log, producer = join(bench)
    place = TopicPartition(bench.topics.commands, 0)
    settle(log)
    run(producer, [], {place: 5})
    producer.begin()
    producer.send_offsets({place: 7})
    with pytest.raises(NotYetError):
        log.committed([place])
    producer.commit()
    assert log.committed([place]) == {place: 7}


def test_taking_the_id_ends_the_predecessors_transaction_and_fences_it(bench: Bench) -> None:
    log, predecessor = join(bench)
    place = TopicPartition(bench.topics.commands, 0)
    settle(log)
    predecessor.begin()
    for record in outputs(bench.topics.state, b"never"):
        predecessor.produce(record)
    predecessor.send_offsets({place: 5})
    make_producer(log)
    assert log.committed([place]) == {place: None}
    assert read_state(log, TopicPartition(bench.topics.state, 0)) == []
    with pytest.raises(ClientError) as caught:
        predecessor.commit()
    assert caught.value.kind is ClientErrorKind.FENCED


def test_what_a_fenced_producer_still_sends_opens_no_transaction(bench: Bench) -> None:
    """One that nobody would ever end, and that all readers would wait for."""
    log, predecessor = join(bench)
    place, state = TopicPartition(bench.topics.commands, 0), TopicPartition(bench.topics.state, 0)
    settle(log)
    predecessor.begin()
    for record in outputs(bench.topics.state, b"never"):
        predecessor.produce(record)
    predecessor.send_offsets({place: 5})
    successor = make_producer(log)
    with pytest.raises(ClientError):
        go_on(predecessor, outputs(bench.topics.state, b"neither"))
    run(successor, outputs(bench.topics.state, b"new"), {place: 6})
    assert read_state(log, state) == [(b"key", b"new")]
    assert log.committed([place]) == {place: 6}


def test_two_producers_of_a_process_take_turns(bench: Bench) -> None:
    log, first = join(bench)
    second = make_producer(log, 1)
    place, state = TopicPartition(bench.topics.commands, 0), TopicPartition(bench.topics.state, 0)
    settle(log)
    for number in range(6):
        run((first, second)[number % 2], outputs(bench.topics.state, b"%d" % number), {place: number})
        assert log.committed([place]) == {place: number}
    assert read_state(log, state) == [(b"key", b"%d" % number) for number in range(6)]


def test_of_two_transactions_under_way_the_later_position_counts(bench: Bench) -> None:
    """Whichever is committed first: the markers of one may come after those of its successor."""
    log, first = join(bench)
    second = make_producer(log, 1)
    place = TopicPartition(bench.topics.commands, 0)
    settle(log)
    for number, producer in enumerate((first, second), start=5):
        producer.begin()
        producer.send_offsets({place: number})
    second.commit()
    first.commit()
    assert log.committed([place]) == {place: 6}


def test_taking_one_id_of_a_process_does_not_end_what_its_other_producer_does(bench: Bench) -> None:
    log, _ = join(bench)
    second = make_producer(log, 1)
    place = TopicPartition(bench.topics.commands, 0)
    settle(log)
    second.begin()
    second.send_offsets({place: 6})
    make_producer(log)
    second.commit()
    assert log.committed([place]) == {place: 6}


def test_a_state_is_read_to_its_end_with_deletions_and_without_what_was_aborted(bench: Bench) -> None:
    log, producer = join(bench)
    settle(log)
    state = TopicPartition(bench.topics.state, 0)
    assert read_state(log, state) == []
    run(producer, outputs(bench.topics.state, b"one", None, b"two"), {})
    producer.begin()
    producer.produce(OutputRecord(bench.topics.state, 0, b"key", b"never"))
    make_producer(log)
    assert read_state(log, state) == [(b"key", b"one"), (b"key", None), (b"key", b"two")]
    assert read_state(log, TopicPartition(bench.topics.state, 1)) == []


def test_a_state_with_an_undecided_transaction_is_waited_for(bench: Bench) -> None:
    """Another slot's: it is not ours to end. Reading to the last stable offset would find `one` and be content."""
    log, producer = join(bench)
    other = make_producer(bench.log(1))
    settle(log)
    state = TopicPartition(bench.topics.state, 0)
    run(producer, outputs(bench.topics.state, b"one"), {})
    other.begin()
    other.produce(OutputRecord(bench.topics.state, 0, b"key", b"two"))
    if hasattr(other, "_producer"):
        other._producer.flush(20)  # librdkafka keeps it until somebody wants it to be there.
    with pytest.raises(NotYetError):
        log.read_state(state)
    other.commit()
    assert read_state(log, state) == [(b"key", b"one"), (b"key", b"two")]


def test_a_member_that_was_replaced_is_told(bench: Bench) -> None:
    old, _ = join(bench)
    settle(old)
    new = bench.log()
    new.join()
    settle(new)
    with pytest.raises(SlotTakenError):
        poll_on(old)


def test_partition_p_of_all_inputs_goes_to_one_member(group_bench: Bench) -> None:
    first, _ = join(group_bench)
    alone = settle(first)
    second, _ = join(group_bench, 1)
    owned = settle(first, second, have=alone)
    numbers = [{place.partition for place in places} for places in owned.values()]
    assert sorted(map(len, numbers)) == [1, 1] and numbers[0] != numbers[1]
    for places in owned.values():
        assert {place.topic for place in places} == set(group_bench.topics.inputs)


def test_while_a_step_computes_nothing_is_fetched_and_afterwards_nothing_is_missing(group_bench: Bench) -> None:
    log, _ = join(group_bench)
    settle(log)
    places = [TopicPartition(group_bench.topics.commands, p) for p in range(PARTITIONS)]
    log.start(dict.fromkeys(places))
    group_bench.write(places[0], b"key", b"0")
    take(log, 1)
    for number in range(1, 6):
        log.keep_alive()
        group_bench.write(places[number % 2], b"key", b"%d" % number)
    for _ in range(20):
        log.keep_alive()
    records = take(log, 5)
    assert [r.value for r in records if r.partition == 0] == [b"2", b"4"]
    assert [r.value for r in records if r.partition == 1] == [b"1", b"3", b"5"]


def test_what_a_member_loses_while_a_step_computes_it_is_told_at_once_and_again_by_the_next_poll(
    group_bench: Bench,
) -> None:
    first, _ = join(group_bench)
    settle(first)
    assert first.lost() == frozenset()
    second, _ = join(group_bench, 1)
    lost: frozenset[TopicPartition] = frozenset()
    for _ in range(6_000):
        second.poll(5, 10)
        first.keep_alive()
        lost = first.lost()
        if lost:
            break
    assert {place.topic for place in lost} == set(group_bench.topics.inputs)
    told = first.poll(0, 10)
    assert told.lost >= lost
    assert first.lost() == frozenset()


def test_topics_are_counted_or_missed(bench: Bench) -> None:
    log = bench.log()
    assert log.partition_count(bench.topics.commands) == PARTITIONS
    with pytest.raises(LookupError):
        log.partition_count("there-is-no-such-topic")
