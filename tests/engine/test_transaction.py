"""Every call of the producer failing in every way: the outcome, and what is called afterwards."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from streams.engine.errors import LogUnavailableError, SlotTakenError
from streams.engine.ports import ClientError, ClientErrorKind, OutputRecord, TopicPartition
from streams.engine.transaction import MAX_FAILURES, START_ATTEMPTS, Outcome, Phase, Transactor

_K, _O = ClientErrorKind, Outcome
RECORDS = [OutputRecord("t", 0, b"k", b"1"), OutputRecord("t", 0, b"k", b"2")]
POSITIONS = {TopicPartition("in", 0): 5}


class ScriptedProducer:
    """Notes its calls; fails at those that the script names."""

    def __init__(self, script: dict[str, ClientErrorKind], calls: list[str], prefix: str = "") -> None:
        self.script = script
        self.calls = calls
        self.prefix = prefix

    def init(self) -> None:
        self._call("init")

    def begin(self) -> None:
        self._call("begin")

    def produce(self, record: OutputRecord) -> None:
        self._call("produce")

    def send_offsets(self, positions: Mapping[TopicPartition, int]) -> None:
        self._call("send_offsets")

    def commit(self) -> None:
        self._call("commit")

    def close(self) -> None:
        self.calls.append(f"{self.prefix}close")

    def _call(self, name: str) -> None:
        self.calls.append(self.prefix + name)
        if name in self.script:
            raise ClientError(self.script[name], f"{name} failed")


def started(script: dict[str, ClientErrorKind]) -> tuple[Transactor, list[str]]:
    """A transactor whose producers, but for `init`, follow the script."""
    calls: list[str] = []
    transactor = Transactor(lambda number: ScriptedProducer(script, calls))
    transactor.start()
    calls.clear()
    return transactor, calls


def test_a_transaction_is_begin_records_positions_commit_in_this_order() -> None:
    transactor, calls = started({})
    for _ in range(2):
        assert transactor.run(RECORDS, POSITIONS) is _O.COMMITTED
    assert calls == ["begin", "produce", "produce", "send_offsets", "commit"] * 2
    assert transactor.phase is Phase.READY


@pytest.mark.parametrize("name", ["begin", "produce", "send_offsets", "commit"])
@pytest.mark.parametrize(
    ("kind", "outcome"), [(_K.ABORTABLE, _O.ABORTED), (_K.TIMED_OUT, _O.UNKNOWN), (_K.FENCED, _O.FENCED)]
)
def test_every_failure_has_its_outcome_and_nothing_is_done_after_it(
    name: str, kind: ClientErrorKind, outcome: Outcome
) -> None:
    transactor, calls = started({name: kind})
    # A commit that was refused may have been carried out all the same.
    expected = _O.UNKNOWN if (name, kind) == ("commit", _K.ABORTABLE) else outcome
    assert transactor.run(RECORDS, POSITIONS) is expected
    assert calls.count(name) == 1, "a call that failed was made again"
    assert set(calls[calls.index(name) + 1 :]) <= {"close"}
    assert "failed" in transactor.last_error


@pytest.mark.parametrize("name", ["begin", "produce", "send_offsets", "commit"])
def test_what_the_broker_forbids_ends_the_process(name: str) -> None:
    transactor, _ = started({name: _K.FATAL})
    with pytest.raises(LogUnavailableError, match=f"the broker refuses the transaction: {name} failed"):
        transactor.run(RECORDS, POSITIONS)


@pytest.mark.parametrize("kind", [_K.ABORTABLE, _K.TIMED_OUT])
def test_a_producer_is_not_used_again_after_anything_but_a_commit(kind: ClientErrorKind) -> None:
    script = {"commit": kind}
    transactor, calls = started(script)
    transactor.run(RECORDS, POSITIONS)
    with pytest.raises(RuntimeError, match="the transactor is spent, this needs ready"):
        transactor.run(RECORDS, POSITIONS)
    script.clear()
    calls.clear()
    transactor.renew()
    assert calls == ["close", "init"]
    assert transactor.run(RECORDS, POSITIONS) is _O.COMMITTED


def test_a_fenced_producer_stays_fenced() -> None:
    transactor, _ = started({"commit": _K.FENCED})
    transactor.run(RECORDS, POSITIONS)
    for again in (transactor.renew, transactor.start, lambda: transactor.run(RECORDS, POSITIONS)):
        with pytest.raises(RuntimeError, match="the transactor is fenced"):
            again()


def test_taking_the_id_is_tried_some_times_with_a_new_producer_each() -> None:
    calls: list[str] = []
    transactor = Transactor(lambda number: ScriptedProducer({"init": _K.TIMED_OUT}, calls))
    with pytest.raises(LogUnavailableError, match="no answer in 5 attempts to take the id: init failed"):
        transactor.start()
    assert calls == ["init", "close"] * START_ATTEMPTS


@pytest.mark.parametrize(("kind", "error"), [(_K.FENCED, SlotTakenError), (_K.FATAL, LogUnavailableError)])
def test_an_id_that_is_taken_or_forbidden_is_not_asked_for_again(kind: ClientErrorKind, error: type[Exception]) -> None:
    calls: list[str] = []
    transactor = Transactor(lambda number: ScriptedProducer({"init": kind}, calls))
    with pytest.raises(error, match="init failed"):
        transactor.start()
    assert calls == ["init", "close"]


def test_several_producers_take_turns_and_all_are_new_after_a_failure() -> None:
    script: dict[str, ClientErrorKind] = {}
    calls: list[str] = []
    made: list[int] = []

    def make_producer(number: int) -> ScriptedProducer:
        made.append(number)
        return ScriptedProducer(script, calls, f"{number} ")

    transactor = Transactor(make_producer, 2)
    transactor.start()
    for _ in range(3):
        assert transactor.run([], {}) is _O.COMMITTED
    turns = [f"{number} {call}" for number in (0, 1, 0) for call in ("begin", "send_offsets", "commit")]
    assert calls == ["0 init", "1 init", *turns]
    script["commit"] = _K.TIMED_OUT
    assert transactor.run([], {}) is _O.UNKNOWN
    script.clear()
    calls.clear()
    transactor.renew()
    assert calls == ["0 close", "1 close", "0 init", "1 init"] and made == [0, 1, 0, 1]


def test_a_second_id_that_is_taken_ends_the_start_and_lets_go_of_the_first() -> None:
    calls: list[str] = []
    scripts: list[dict[str, ClientErrorKind]] = [{}, {"init": _K.FENCED}]
    transactor = Transactor(lambda number: ScriptedProducer(scripts[number], calls, f"{number} "), 2)
    with pytest.raises(SlotTakenError):
        transactor.start()
    transactor.close()
    assert calls == ["0 init", "1 init", "1 close", "0 close"]


@pytest.mark.parametrize("kind", [_K.ABORTABLE, _K.TIMED_OUT])
def test_many_failures_in_a_row_end_the_process_and_a_commit_begins_the_count_anew(kind: ClientErrorKind) -> None:
    script: dict[str, ClientErrorKind] = {}
    transactor, _ = started(script)
    for _ in range(2):
        script["commit"] = kind
        for _ in range(MAX_FAILURES - 1):
            transactor.run(RECORDS, POSITIONS)
            transactor.renew()
        script.clear()
        assert transactor.run(RECORDS, POSITIONS) is _O.COMMITTED
    script["commit"] = kind
    for _ in range(MAX_FAILURES - 1):
        transactor.run(RECORDS, POSITIONS)
        transactor.renew()
    transactor.run(RECORDS, POSITIONS)
    with pytest.raises(LogUnavailableError, match="20 transactions failed: commit failed"):
        transactor.renew()
