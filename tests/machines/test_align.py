"""The align stage: what two and three machines find out together, and how they end before their time."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from schemas.alignment import (
    AlignReady,
    BlindedPoints,
    ContinueBlinding,
    ContinueMatching,
    DoubleBlindedTags,
    MatchConfirmed,
    MatchedRows,
)
from schemas.alignment_states import AlignEnded
from schemas.codec import encode
from schemas.jobs import Mistake, Reason, Role, Stage
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StartTask,
    StopTask,
    TaskProgressed,
    TaskResumed,
    TaskStarted,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from streams.dataset import DatasetProblem
from streams.machine import Event, SetTimer
from streams.machines.align import AlignMachine
from streams.machines.align.protocol import PEER_RECORDS, TRANSITIONS
from tests.machines.align_cases import (
    GUEST_IDS,
    HOST_IDS,
    THIRD_IDS,
    build,
    check_table,
    datasets_for,
    failure,
    joint_ids,
    joint_rows,
    phase_of,
    two_tables,
)
from tests.machines.driver import Delivery, Driver, Entry
from tests.machines.parties import JOB_ID, make_dataset, make_spec, role_of, secret_of, start_task


def test_joint_rows_are_the_plain_set_intersection_in_one_order() -> None:
    datasets = two_tables()
    driver = build(datasets).run()
    guest, host = joint_ids(driver, datasets, "guest"), joint_ids(driver, datasets, "host")
    assert guest == host
    assert set(guest) == set(GUEST_IDS) & set(HOST_IDS)
    assert len(set(guest)) == len(guest)
    check_table(driver.trace)


def test_three_parties_align_on_what_all_of_them_have() -> None:
    datasets = datasets_for(guest=GUEST_IDS, host=HOST_IDS, third=THIRD_IDS)
    for seed in range(5):
        driver = build(datasets, seed=seed).run()
        found = {tuple(joint_ids(driver, datasets, party)) for party in datasets}
        assert len(found) == 1
        assert set(found.pop()) == set(GUEST_IDS) & set(HOST_IDS) & set(THIRD_IDS)
        (succeeded,) = driver.events_of("guest", TaskSucceeded)
        assert isinstance(succeeded, TaskSucceeded)
        assert {m.name: m.value for m in succeeded.measures} == {
            "n_own": 23.0,
            "n_peer_host": 33.0,
            "n_peer_third": 8.0,
            "n_intersection": 6.0,
        }
        check_table(driver.trace)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (9, 1), (4, 4), (5, 8), (8, 5)])
def test_tables_of_any_size_align(sizes: tuple[int, int]) -> None:
    datasets = datasets_for(guest=[f"p{n}" for n in range(sizes[0])], host=[f"p{n}" for n in reversed(range(sizes[1]))])
    driver = build(datasets).run()
    assert joint_ids(driver, datasets, "guest") == joint_ids(driver, datasets, "host")
    assert joint_rows(driver, "host").n_joint == min(sizes)


def test_parties_may_use_chunks_of_different_sizes() -> None:
    datasets = two_tables()
    driver = build(datasets)
    driver.machines["host", "align"] = AlignMachine("host", secret_of("host"), 7)
    driver.run()
    assert joint_ids(driver, datasets, "guest") == joint_ids(driver, datasets, "host")


def test_the_order_of_arrival_does_not_change_the_joint_rows() -> None:
    datasets = two_tables()
    rows = {
        (joint_rows(driver, "guest").rows.content, joint_rows(driver, "host").rows.content)
        for driver in (build(datasets, seed=seed).run() for seed in range(20))
    }
    assert len(rows) == 1


def test_joint_order_depends_on_the_guests_secret_and_tells_nothing_of_the_tables_order() -> None:
    datasets = two_tables()
    ids = joint_ids(build(datasets).run(), datasets, "guest")
    others = joint_ids(build(datasets, secrets={"guest": b"x" * 32}).run(), datasets, "guest")
    assert sorted(ids) == sorted(others) and ids != others
    assert ids != [name for name in GUEST_IDS if name in set(ids)]
    assert ids != [name for name in HOST_IDS if name in set(ids)]


def test_people_keep_their_places_in_every_job_whoever_else_is_in_it() -> None:
    """Else two jobs of the same people would train on different ones, and show what lies between."""
    datasets = two_tables()
    first = joint_ids(build(datasets).run(), datasets, "guest")
    assert joint_ids(build(datasets, job_id="another").run(), datasets, "guest") == first
    fewer = {**datasets, "guest": make_dataset([name for name in reversed(GUEST_IDS) if name != first[4]])}
    second = joint_ids(build(fewer, job_id="a third").run(), fewer, "guest")
    assert second == [*first[:4], *first[5:]]


def test_sizes_are_measured_and_every_chunk_is_progress() -> None:
    driver = build(two_tables()).run()
    for party, n_own, n_peer in (("guest", 23, 33), ("host", 33, 23)):
        (event,) = driver.events_of(party, TaskSucceeded)
        assert isinstance(event, TaskSucceeded)
        measures = {m.name: m.value for m in event.measures}
        assert measures == {"n_own": n_own, "n_peer": n_peer, "n_intersection": 15}
        assert (event.bytes_sent, event.bytes_received, event.records_sent, event.records_received) == (
            1000, 2000, 10, 20,
        )  # fmt: skip
        progress = [e for e in driver.events_of(party, TaskProgressed) if isinstance(e, TaskProgressed)]
        assert len(progress) == 6 + 9  # chunks of 4 in 23 and in 33 rows
        assert [p.done for p in progress] == sorted({p.done for p in progress})
        assert (progress[-1].done, progress[-1].total) == (56, 56)
        assert next(type(e) for e in driver.events[party]) is TaskStarted
        assert driver.timers[party, "align"] == {}


def test_snapshots_restore_to_identical_steps() -> None:
    datasets = two_tables()
    for seed in range(3):
        straight = build(datasets, seed=seed).run()
        restored = build(datasets, seed=seed, restores=True).run()
        assert straight.transcript() == restored.transcript()


def test_duplicates_of_every_record_change_nothing() -> None:
    datasets = two_tables()
    driver = build(datasets, seed=3)
    seen: list[tuple[Delivery, Record]] = []
    while driver.channels:
        driver.deliver_next()
        entry = driver.trace[-1]
        delivery = Delivery(entry.sender, entry.party, "align", b"")
        seen.append((delivery, entry.record))
        if isinstance(entry.record, TimerFired):
            continue
        for again, record in seen:
            state = driver.states[again.receiver, "align"]
            step = driver.machines[again.receiver, "align"].step(state, Event(record, again.sender))
            assert step.outputs == () and encode(step.state) == encode(state), record
    assert joint_ids(driver, datasets, "guest") == joint_ids(driver, datasets, "host")


def test_every_role_phase_and_event_is_decided() -> None:
    """Each kind of record, at every state of a whole job: in the table, without effect, or a failure with blame."""
    spec, datasets = make_spec(), two_tables()
    driver = build(datasets).run()
    states: dict[tuple[str, str], Record] = {}
    for entry in driver.trace:
        for state in (entry.before, entry.after):
            states.setdefault((entry.party, phase_of(state)), state)
    entries = []
    for (party, _), state in states.items():
        peer = "host" if party == "guest" else "guest"
        machine = driver.machines[party, "align"]
        for event in sample_events(party, peer, start_task(Stage.ALIGN, role_of(party), spec, datasets[party])):
            step = machine.step(state, Event(event.record, event.sender, datasets[party]))
            again = machine.step(state, Event(event.record, event.sender, datasets[party]))
            assert step == again
            entries.append(
                Entry(party, "align", event.sender, event.record, step.outputs, state, step.state, encode(step.state))
            )
    used = check_table(entries) | check_table(driver.trace)
    assert used == {(row.role, str(row.phase), row.event) for row in TRANSITIONS}


def sample_events(party: str, peer: str, start: StartTask) -> list[Event]:
    """One record of every class that a machine of the stage can meet."""
    own = [
        start,
        StopTask(JOB_ID, None),
        TimerFired(JOB_ID, f"patience/{peer}", 1),
        LocalFault(JOB_ID, Reason.STORAGE_FAILED, "full"),
        PeerFault(JOB_ID, peer, Reason.PROTOCOL_VIOLATION, "gap"),
        ContinueBlinding(JOB_ID, peer, 0),
        ContinueMatching(JOB_ID, 0),
    ]
    theirs = [
        AlignReady(JOB_ID, 5, 5, 1, b"?", b"?"),
        BlindedPoints(JOB_ID, 100, b""),
        DoubleBlindedTags(JOB_ID, 100, b""),
        MatchedRows(JOB_ID, 100, 1, 1, b"", b""),
        MatchConfirmed(JOB_ID, 100),
    ]
    assert {type(record) for record in theirs} == PEER_RECORDS
    return [Event(record, party) for record in own] + [
        Event(record, sender) for record in [*own, *theirs] for sender in (peer, "stranger")
    ] + [Event(record, party) for record in theirs]  # fmt: skip


def test_commands_from_a_peer_are_violations() -> None:
    for record in (StopTask(JOB_ID, None), ContinueBlinding(JOB_ID, "host", 0), TimerFired(JOB_ID, "patience/host", 1)):
        driver = build(two_tables()).run(steps=4)
        driver.send_as("host", "guest", "align", record)
        driver.run()
        assert failure(driver, "guest").blame == "host"
        assert failure(driver, "guest").reason is Reason.PROTOCOL_VIOLATION


def test_a_stranger_can_neither_join_nor_end_a_job() -> None:
    datasets = two_tables()
    plain = build(datasets).run()
    driver = build(datasets).run(steps=3)
    for record in (AlignReady(JOB_ID, 5, 5, 1, b"?", b"?"), BlindedPoints(JOB_ID, 0, b"?"), MatchConfirmed(JOB_ID, 15)):
        driver.send_as("stranger", "guest", "align", record)
    driver.run()
    assert joint_ids(driver, datasets, "guest") == joint_ids(plain, datasets, "guest")


@pytest.mark.parametrize("sender", ["host", "stranger"])
@pytest.mark.parametrize(
    "record", [StopTask(JOB_ID, None), BlindedPoints(JOB_ID, 0, b""), AlignReady("?", 1, 1, 1, b"", b"")]
)
def test_what_is_wrong_before_the_start_counts_once_it_is_known_who_takes_part(sender: str, record: Record) -> None:
    datasets = two_tables()
    driver = build(datasets)
    before = driver.machines["guest", "align"].step(driver.states["guest", "align"], Event(record, sender))
    assert before.outputs == ()
    driver.states["guest", "align"] = before.state
    driver.run()
    if sender == "stranger":
        assert joint_ids(driver, datasets, "guest") == joint_ids(driver, datasets, "host")
    else:
        assert (failure(driver, "guest").reason, failure(driver, "guest").blame) == (Reason.PROTOCOL_VIOLATION, "host")


def test_a_fault_of_a_stranger_does_not_end_the_task() -> None:
    datasets = two_tables()
    driver = build(datasets)
    for steps in (0, 9):
        driver.run(steps)
        driver.send("guest", "align", PeerFault(JOB_ID, "stranger", Reason.PROTOCOL_VIOLATION, "gap"))
    driver.run()
    assert joint_ids(driver, datasets, "guest") == joint_ids(driver, datasets, "host")


def test_a_record_of_another_job_under_this_ones_key_is_a_violation() -> None:
    driver = build(two_tables()).run(steps=4)
    driver.send_as("host", "guest", "align", MatchConfirmed("job-2", 15))
    assert failure(driver.run(), "guest").blame == "host"


# --- the end before its time ---


def test_no_common_row_ends_the_task_with_a_reason() -> None:
    driver = build(datasets_for(guest=["a", "b"], host=["c", "d", "e"])).run()
    assert failure(driver, "guest").reason is Reason.EMPTY_INTERSECTION
    assert "id_type" in failure(driver, "guest").detail
    assert driver.handed_over == {}


def test_hosts_that_share_nothing_with_each_other_end_the_task() -> None:
    driver = build(datasets_for(guest=["a", "b"], host=["a"], third=["b"])).run()
    assert failure(driver, "guest").reason is Reason.EMPTY_INTERSECTION


def test_data_that_changed_since_approval_is_refused() -> None:
    driver = Driver({("host", "align"): AlignMachine("host", secret_of("host"))})
    approved, today = make_dataset(["a", "b"]), make_dataset(["a", "b", "c"])
    driver.send("host", "align", start_task(Stage.ALIGN, Role.HOST, make_spec(), approved), today)
    refusal = failure(driver.run(), "host")
    assert (refusal.reason, refusal.blame) == (Reason.DATA_CHANGED, "host")
    assert driver.wire == []


def test_a_dataset_with_mistakes_is_refused_with_all_of_them() -> None:
    driver = Driver({("host", "align"): AlignMachine("host", secret_of("host"))})
    problem = DatasetProblem((Mistake("hosts[0].dataset", "not there"), Mistake("label", "not 0 or 1")))
    start = start_task(Stage.ALIGN, Role.HOST, make_spec(), make_dataset(["a"]))
    driver.send("host", "align", start, problem)
    refusal = failure(driver.run(), "host")
    assert refusal.reason is Reason.INVALID_DATA
    assert "hosts[0].dataset: not there" in refusal.detail and "label: not 0 or 1" in refusal.detail


@pytest.mark.parametrize("steps", [0, 1, 5, 20, 40])
def test_stop_ends_quietly_in_any_phase(steps: int) -> None:
    driver = build(two_tables()).run(steps=steps)
    for party in ("guest", "host"):
        driver.channels.clear()
        told = len(driver.events[party])
        driver.stop(party, "align")
        driver.run()
        assert isinstance(driver.states[party, "align"], AlignEnded)
        assert driver.timers[party, "align"] == {} and len(driver.events[party]) == told


def test_faults_end_the_task_with_the_right_blame() -> None:
    for record, blame in (
        (LocalFault(JOB_ID, Reason.STORAGE_FAILED, "disk full"), "guest"),
        (PeerFault(JOB_ID, "host", Reason.PROTOCOL_VIOLATION, "gap in the sequence"), "host"),
    ):
        driver = build(two_tables()).run(steps=9)
        driver.send("guest", "align", record)
        refusal = failure(driver.run(), "guest")
        assert (refusal.reason, refusal.blame, refusal.detail) == (record.reason, blame, record.detail)


def test_silence_is_told_once_and_its_end_too() -> None:
    datasets = two_tables()
    held: list[tuple[Delivery, Record]] = []

    def hold_first_tags(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, DoubleBlindedTags) or held:
            held.append((delivery, record))
            return ()
        return (record,)

    driver = build(datasets, tamper=hold_first_tags).run()
    assert "patience/host" in driver.timers["guest", "align"]
    assert driver.timers["guest", "align"]["patience/host"] == 30_000
    driver.fire("guest", "align", "patience/host")
    driver.run()
    driver.send("guest", "align", TimerFired(JOB_ID, "patience/host", 2))
    driver.run()
    (suspended,) = driver.events_of("guest", TaskSuspended)
    assert isinstance(suspended, TaskSuspended)
    assert (suspended.reason, suspended.blame) == (Reason.PEER_SILENT, "host")
    driver.tamper = None
    for delivery, record in held:
        driver.send_as(delivery.sender, delivery.receiver, "align", record)
    driver.run()
    assert len(driver.events_of("guest", TaskResumed)) == 1
    assert joint_ids(driver, datasets, "guest") == joint_ids(driver, datasets, "host")
    check_table(driver.trace)


def test_of_two_silent_hosts_one_is_told_at_a_time() -> None:
    datasets = datasets_for(guest=GUEST_IDS, host=HOST_IDS, third=THIRD_IDS)
    driver = build(datasets)
    driver.channels = {key: queue for key, queue in driver.channels.items() if key[1] == "guest"}
    driver.run()
    driver.fire("guest", "align", "patience/host")
    driver.run()
    driver.fire("guest", "align", "patience/third")
    driver.run()
    assert [e.blame for e in driver.events_of("guest", TaskSuspended) if isinstance(e, TaskSuspended)] == ["host"]
    assert isinstance(driver.trace[-1].outputs[0], SetTimer)
