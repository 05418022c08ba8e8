"""Every call of the producer failing in every way: the outcome, and what is called afterwards."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from streams.engine.errors import LogUnavailableError, SlotTakenError
from streams.engine.ports import ClientError, ClientErrorKind, OutputRecord, TopicPartition
from streams.engine.transaction import START_ATTEMPTS, Outcome, Phase, Transactor

_K, _O = ClientErrorKind, Outcome
RECORDS = [OutputRecord("t", 0, b"k", b"1"), OutputRecord("t", 0, b"k", b"2")]
POSITIONS = {TopicPartition("in", 0): 5}


class ScriptedProducer:
    """Notes its calls; fails at those that the script names."""

    def __init__(self, script: dict[str, ClientErrorKind], calls: list[str]) -> None:
        self.script = script
        self.calls = calls

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

    def abort(self) -> None:
        self._call("abort")

    def close(self) -> None:
        self.calls.append("close")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.script:
            raise ClientError(self.script[name], f"{name} failed")


def started(script: dict[str, ClientErrorKind]) -> tuple[Transactor, list[str]]:
    """A transactor whose producers, but for `init`, follow the script."""
    calls: list[str] = []
    transactor = Transactor(lambda: ScriptedProducer(script, calls))
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
    ("kind", "abort", "outcome"),
    [
        (_K.ABORTABLE, None, _O.ABORTED),
        (_K.ABORTABLE, _K.TIMED_OUT, _O.UNKNOWN),
        (_K.ABORTABLE, _K.ABORTABLE, _O.UNKNOWN),
        (_K.ABORTABLE, _K.FATAL, _O.UNKNOWN),
        (_K.ABORTABLE, _K.FENCED, _O.FENCED),
        (_K.TIMED_OUT, None, _O.UNKNOWN),
        (_K.FENCED, None, _O.FENCED),
    ],
)
def test_every_failure_has_its_outcome_and_nothing_is_done_after_it_but_an_abort(
    name: str, kind: ClientErrorKind, abort: ClientErrorKind | None, outcome: Outcome
) -> None:
    transactor, calls = started({name: kind} | ({} if abort is None else {"abort": abort}))
    assert transactor.run(RECORDS, POSITIONS) is outcome
    assert calls.count(name) == 1, "a call that failed was made again"
    after = calls[calls.index(name) + 1 :]
    assert [call for call in after if call != "close"] == (["abort"] if kind is _K.ABORTABLE else [])
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
    transactor = Transactor(lambda: ScriptedProducer({"init": _K.TIMED_OUT}, calls))
    with pytest.raises(LogUnavailableError, match="no answer in 5 attempts to take the id: init failed"):
        transactor.start()
    assert calls == ["init", "close"] * START_ATTEMPTS


@pytest.mark.parametrize(("kind", "error"), [(_K.FENCED, SlotTakenError), (_K.FATAL, LogUnavailableError)])
def test_an_id_that_is_taken_or_forbidden_is_not_asked_for_again(kind: ClientErrorKind, error: type[Exception]) -> None:
    calls: list[str] = []
    transactor = Transactor(lambda: ScriptedProducer({"init": kind}, calls))
    with pytest.raises(error, match="init failed"):
        transactor.start()
    assert calls == ["init", "close"]
