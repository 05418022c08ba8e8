"""What becomes of the failures of machines, loaders and stores: an event for the machine, or else a dead letter."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from schemas.deadletter import DeadLetter
from schemas.record import Blob, Record
from streams.engine import stepper
from streams.engine.agreement import Agreement
from streams.engine.errors import EngineError, UnreadableStateError
from streams.engine.jobs import Job
from streams.engine.ports import TopicPartition
from streams.engine.process import StageProcess
from streams.engine.timers import accept_fired, cancel_timer, next_due_ms, send_due, set_timer
from streams.engine.topics import StageTopics
from streams.machine import Event, SetTimer, Step, ToEvents, ToPeer
from tests.simulation.harness import Plan, World, crash_at
from tests.simulation.toy import STAGE, Ping, ToyDone, ToyMachine, ToyStart, ToyState, make_payload, register_toys

ROUNDS = 2


def make_world(
    poison: frozenset[str] = frozenset(),
    prepare: Callable[[Record], object] | None = None,
    machine: Callable[[str], ToyMachine] | None = None,
    **settings: Any,
) -> World:
    """The toy's two parties. `poison` and `prepare` are the host's."""
    register_toys()
    hosts = functools.partial(ToyMachine, "host", poison)
    plans = [
        Plan("guest", STAGE, functools.partial(ToyMachine, "guest"), plain_commands=frozenset({ToyStart})),
        Plan("host", STAGE, hosts if machine is None else functools.partial(machine, "host"), prepare=prepare),
    ]
    world = World(plans, **settings)
    world.submit("guest", STAGE, ToyStart("job-0", "host", ROUNDS, 600))
    return world


def told(world: World, party: str = "host") -> list[ToyDone]:
    found = world.records(f"vfl.job.events.{party}.v1")
    assert all(isinstance(record, ToyDone) for record in found)
    return found  # type: ignore[return-value]


def letters(world: World, party: str = "host") -> list[DeadLetter]:
    return world.records(f"vfl.deadletter.{party}.v1")  # type: ignore[return-value]


def test_a_machine_that_raises_is_told_of_its_fault_and_nobody_of_the_text() -> None:
    world = make_world(poison=frozenset({"Ping"})).run()
    [fault] = told(world)
    assert fault.detail == (
        "LocalFault(job_id='job-0', reason=<Reason.INTERNAL_ERROR: 'internal_error'>,"
        " detail='ZeroDivisionError in stage align')"
    )
    assert fault.count == 0, "the step that failed left something behind"
    assert letters(world) == []
    assert b"secret" not in everything(world)


def test_a_machine_that_cannot_take_the_fault_either_leaves_a_dead_letter_and_goes_on() -> None:
    world = make_world(poison=frozenset({"Ping", "LocalFault"}))
    world.submit("guest", STAGE, ToyStart("job-1", "host", ROUNDS, 600))
    world.run()
    assert sorted(letter.key or b"" for letter in letters(world)) == [b"job-0", b"job-1"]
    for letter in letters(world):
        assert (
            "takes neither Ping (ZeroDivisionError in stage align) nor the fault (ZeroDivisionError)" in letter.reason
        )
    assert told(world) == []
    assert all(each.process is not None for each in world.running)


def test_what_is_logged_of_an_exception_has_no_text_of_it(caplog: pytest.LogCaptureFixture) -> None:
    make_world(poison=frozenset({"Ping"})).run()
    assert "ZeroDivisionError in step:" in caplog.text
    assert "secret" not in caplog.text


def test_a_store_that_fails_is_told_to_the_machine_with_what_and_where() -> None:
    world = make_world()
    world.stores["host"].is_broken = True
    world.run()
    fault = told(world)[0]
    assert "Reason.STORAGE_FAILED" in fault.detail
    assert "storing a blob of 600 bytes: no space left" in fault.detail
    assert fault.count == 0


def test_a_store_that_does_not_answer_within_a_step_is_told_as_well() -> None:
    """The second Ping needs the first one's blob, which a process that was started again has to fetch."""
    world = make_world()
    while not world.stores["host"].objects:
        world.round()
    world.stores["host"].is_broken = True
    world.running[1].process = None
    world.run()
    assert "Reason.STORAGE_FAILED" in told(world)[0].detail
    assert "fetching a blob of 600 bytes: no answer" in told(world)[0].detail


def test_a_loader_that_raises_is_told_to_the_machine() -> None:
    def load(record: Record) -> object:
        raise PermissionError("the salaries of the board")

    world = make_world(prepare=load).run()
    assert told(world)[0].detail.endswith("detail='PermissionError in stage align')")
    assert b"somebody" not in everything(world)


def test_what_the_loader_loads_comes_with_the_event() -> None:
    seen: list[tuple[str, object]] = []

    class Curious(ToyMachine):
        def step(self, state: Record, event: Event) -> Step:
            seen.append((type(event.record).__name__, event.resource))
            return super().step(state, event)

    make_world(machine=Curious, prepare=lambda record: f"for {type(record).__name__}").run()
    assert seen == [(name, f"for {name}") for name in ("Ping", "Ping", "Bye")]


class Chatty(ToyMachine):
    """Answers the first Ping with what `say` makes."""

    say: Callable[[ToyMachine, Event], tuple[Any, ...]] = staticmethod(lambda machine, event: ())

    def step(self, state: Record, event: Event) -> Step:
        if isinstance(event.record, Ping):
            return Step(state, type(self).say(self, event))
        return super().step(state, event)


def saying(say: Callable[[ToyMachine, Event], tuple[Any, ...]]) -> type[Chatty]:
    return type("Saying", (Chatty,), {"say": staticmethod(say)})


def test_a_record_to_a_party_without_a_key_or_a_topic_ends_the_job_with_a_reason() -> None:
    world = make_world(machine=saying(lambda machine, event: (ToPeer("stranger", event.record),)))
    world.broker.add_topic(f"vfl.{STAGE}.exchange.stranger.v1", 1)
    assert "Reason.INVALID_SPEC" in (fault := told(world.run())[0].detail)
    assert "host has no key of 'stranger': it is not a member of the federation" in fault

    world = make_world(machine=saying(lambda machine, event: (ToPeer("stranger", event.record),)))
    assert "there is no topic vfl.align.exchange.stranger.v1" in told(world.run())[0].detail


@pytest.mark.parametrize(
    "say",
    [
        lambda machine, event: (ToPeer("host", event.record),),
        lambda machine, event: (ToEvents(replace(event.record, payload=b"x" * 1_000_000)),),
        lambda machine, event: (ToEvents(replace(event.record, number=2**70)),),
        lambda machine, event: (ToPeer("guest", ToyState("job-0", "", 0, 0, 0, b"", (Blob.of(b"x"),))),),
    ],
    ids=["to itself as to a peer", "a plain record that is too long", "a record that does not fit", "a blob to a peer"],
)
def test_outputs_that_cannot_be_sent_are_faults_of_the_machine(say: Callable[..., tuple[Any, ...]]) -> None:
    world = make_world(machine=saying(say))
    assert "Reason.INTERNAL_ERROR" in told(world.run())[0].detail
    assert letters(world) == []


def test_a_large_state_goes_to_the_blob_store_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = make_world().run()
    monkeypatch.setattr(stepper, "INLINE_BYTES", 50)
    world = make_world().run()
    assert world.story() == undisturbed.story()
    assert len(world.stores["host"].objects) > len(undisturbed.stores["host"].objects)
    for number in range(world.broker.calls):
        crashed = make_world()
        crashed.broker.fate_of = crash_at(number)
        assert crashed.run().story() == undisturbed.story()


def test_a_large_state_that_cannot_be_fetched_stops_the_process_before_harm_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither can the job go on without it nor fail in an orderly way; started again later it may work."""
    monkeypatch.setattr(stepper, "INLINE_BYTES", 50)
    world = make_world()
    while not world.stores["host"].objects:
        world.round()
    world.stores["host"].is_broken = True
    world.running[1].process = None
    with pytest.raises(UnreadableStateError, match="the state of job 'job-0', align: fetching a blob"):
        world.run()
    world.stores["host"].is_broken = False
    world.running[1].process = None
    world.cursor = 0
    assert world.run().story() == make_world().run().story()


def test_a_state_of_another_storage_key_stops_the_process() -> None:
    world = make_world().run()
    world.keyrings["host"] = world.keyrings["guest"].__class__("host", Agreement(b"h" * 32, {}), b"other" * 6 + b"..")
    world.running[1].process = None
    with pytest.raises(UnreadableStateError, match=r"vfl.align.state.host.v1\[0\], key .*another storage key"):
        world.run()


def test_a_missing_topic_or_unequal_partitions_stop_the_process_with_a_text() -> None:
    world = make_world()
    del world.broker.topics["vfl.deadletter.host.v1"]
    with pytest.raises(
        EngineError, match=r"there is no topic vfl\.deadletter\.host\.v1: make the party's topics first"
    ):
        world.run()
    world = make_world()
    world.broker.add_topic("vfl.align.state.host.v1", 2)
    with pytest.raises(EngineError, match="must have equally many partitions, found"):
        world.run()


def test_parts_of_different_parties_do_not_make_a_process() -> None:
    world = make_world()
    topics = world._make(world.plans[0])._topics
    with pytest.raises(ValueError, match="these must agree"):
        make_mismatch(world, replace(topics, stage="train"))


def make_mismatch(world: World, topics: StageTopics) -> StageProcess:
    process = world._make(world.plans[0])
    return StageProcess(
        ToyMachine("guest"),
        "guest",
        process._log,
        world.keyrings["guest"],
        world.stores["guest"],
        None,
        world.clock,
        topics,
    )


def test_outputs_stream_out_when_a_batch_takes_long() -> None:
    """Ten records that take 100 ms each: four are committed at a time, not ten."""

    class Slow(ToyMachine):
        def step(self, state: Record, event: Event) -> Step:
            world.clock.advance_to(world.clock.now_ms() + 100)
            return super().step(state, event)

    world = make_world(machine=Slow)
    for number in range(1, 10):
        world.submit("guest", STAGE, ToyStart(f"job-{number}", "host", 1, 10))
    counts = [0]
    for _ in range(10):
        world.round()
        counts.append(answers(world))
    assert counts[-1] == 11
    assert commits_of(world, "host") >= 4


def commits_of(world: World, party: str) -> int:
    """How many transactions a party's process committed that answered something."""
    log = world.broker.logs[TopicPartition(f"vfl.{STAGE}.exchange.guest.v1", 0)]
    return len({id(entry.transaction) for entry in log if entry.transaction is not None and not entry.is_marker})


def answers(world: World) -> int:
    return len(world.broker.written(TopicPartition(f"vfl.{STAGE}.exchange.guest.v1", 0)))


def test_timers_that_were_set_again_or_cancelled_do_not_fire() -> None:
    class Setter(ToyMachine):
        def step(self, state: Record, event: Event) -> Step:
            if isinstance(event.record, Ping):
                return Step(state, (SetTimer("again", 100), SetTimer("again", 300), SetTimer("once", 200)))
            return super().step(state, event)

    world = make_world(machine=Setter).run()
    fired = [record.detail for record in told(world)]
    assert fired == [
        "TimerFired(job_id='job-0', name='once', generation=3)",
        "TimerFired(job_id='job-0', name='again', generation=2)",
    ]


def test_a_timer_that_is_in_the_log_already_when_it_is_set_again_is_passed_over() -> None:
    """The record of the first setting is read after the second: its generation tells."""
    register_toys()
    job = set_timer(Job("job-0"), "finish", 100)
    assert send_due(job, 99) == (job, ())
    job, (fired,) = send_due(job, 100)
    assert send_due(job, 100) == (job, ()) and next_due_ms(job) is None
    assert accept_fired(job, fired) == cancel_timer(job, "finish")
    again = set_timer(job, "finish", 1_100)
    assert accept_fired(again, fired) is None and next_due_ms(again) == 1_100
    gone = cancel_timer(job, "finish")
    assert accept_fired(gone, fired) is None
    assert accept_fired(set_timer(gone, "finish", 100), fired) is None, "a generation came twice"


def everything(world: World) -> bytes:
    """All bytes that lie anywhere outside processes."""
    values = [entry.value or b"" for log in world.broker.logs.values() for entry in log]
    return b"".join(values + [content for store in world.stores.values() for content in store.objects.values()])


def test_nothing_of_a_payload_rests_anywhere_in_the_clear() -> None:
    world = make_world().run()
    payload = make_payload(0, 600)
    outside = everything(world)
    assert all(payload[start : start + 16] not in outside for start in range(0, 600, 16))
    assert world.stores["host"].objects and len(outside) > 600
