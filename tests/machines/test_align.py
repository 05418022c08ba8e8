"""The align stage: what two and three machines find out together, and what cheating gets."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from schemas.alignment import (
    AlignmentReady,
    AlignReady,
    BlindedPoints,
    ContinueBlinding,
    ContinueMatching,
    DoubleBlindedTags,
    MatchConfirmed,
    MatchedRows,
)
from schemas.alignment_states import AlignEnded, AlignWaiting, GuestAlignment, HostAlignment
from schemas.codec import decode, encode
from schemas.jobs import Mistake, Reason, Role, Stage
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StartTask,
    StopTask,
    TaskFailed,
    TaskProgressed,
    TaskResumed,
    TaskStarted,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from streams.dataset import Dataset, DatasetProblem
from streams.kernels.ristretto import POINT_BYTES
from streams.machine import Event, SetTimer
from streams.machines.align import AlignMachine
from streams.machines.align import host as host_module
from streams.machines.align.protocol import MAX_CHUNK_POINTS, MAX_CHUNKS, MAX_ROWS, PEER_RECORDS, TRANSITIONS
from tests.machines.driver import Delivery, Driver, Entry, Tamper
from tests.machines.parties import JOB_ID, make_dataset, make_spec, role_of, row_ids, secret_of, start_task
from tests.machines.tables import check_entries

GUEST_IDS = [f"person-{n}" for n in range(23)]
HOST_IDS = [f"person-{n}" for n in range(40, 7, -1)]
THIRD_IDS = [f"person-{n}" for n in (1, 9, 11, 13, 15, 17, 99, 20)]
CHUNK = 4


def datasets_for(**ids: Sequence[str]) -> dict[str, Dataset]:
    return {party: make_dataset(names) for party, names in ids.items()}


def two_tables() -> dict[str, Dataset]:
    return datasets_for(guest=GUEST_IDS, host=HOST_IDS)


def build(
    datasets: dict[str, Dataset],
    *,
    seed: int | None = None,
    tamper: Tamper | None = None,
    restores: bool = False,
    chunk_points: int = CHUNK,
    job_id: str = JOB_ID,
    secrets: dict[str, bytes] | None = None,
) -> Driver:
    """Machines that have their StartTasks waiting."""
    hosts = sorted(set(datasets) - {"guest"})
    spec = make_spec(hosts)
    machines = {
        (party, "align"): AlignMachine(party, (secrets or {}).get(party, secret_of(party)), chunk_points)
        for party in datasets
    }
    driver = Driver(dict(machines), job_id=job_id, seed=seed, tamper=tamper, restores=restores)
    for party, dataset in datasets.items():
        task = start_task(Stage.ALIGN, role_of(party), spec, dataset, job_id)
        driver.send(party, "align", task, dataset)
    return driver


def joint_rows(driver: Driver, party: str) -> AlignmentReady:
    """What the party's train and evaluate stages were given."""
    (to_train,) = driver.handed_over[party, "train"]
    (to_evaluate,) = driver.handed_over[party, "evaluate"]
    assert to_train == to_evaluate
    assert isinstance(to_train, AlignmentReady)
    return to_train


def joint_ids(driver: Driver, datasets: dict[str, Dataset], party: str) -> list[str]:
    return row_ids(datasets, party, joint_rows(driver, party).rows.content)


def failure(driver: Driver, party: str) -> TaskFailed:
    (event,) = driver.events_of(party, TaskFailed)
    assert isinstance(event, TaskFailed)
    assert not driver.events_of(party, TaskSucceeded)
    assert isinstance(driver.states[party, "align"], AlignEnded)
    return event


def phase_of(state: Record) -> str:
    match state:
        case AlignWaiting():
            return "waiting"
        case AlignEnded():
            return "ended"
        case GuestAlignment() | HostAlignment():
            return str(state.phase)
    raise AssertionError(state)


def check_table(entries: Iterable[Entry]) -> set[tuple[str, str, type[Record]]]:
    return check_entries(entries, TRANSITIONS, lambda party: str(role_of(party)), phase_of)


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


def test_identifiers_that_become_equal_when_normalised_are_refused() -> None:
    driver = build(datasets_for(guest=["a", "a "], host=["a"])).run()
    assert failure(driver, "guest").reason is Reason.INVALID_DATA
    assert "a " not in failure(driver, "guest").detail.split()


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


# --- cheating ---


def replace_records(kind: type[Record], change: dict[str, object], chunk: int | None = None) -> Tamper:
    """Change fields of every record of a class on its way (of one chunk, if given)."""

    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        if type(record) is kind and chunk in (None, getattr(record, "chunk", None)):
            return (replace(record, **change),)  # type: ignore[type-var]
        return (record,)

    return tamper


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 0},
        {"rows": MAX_ROWS + 1, "chunks": 1},
        {"chunks": 5},
        {"chunks": 7},
        {"chunk_points": 0},
        {"chunk_points": MAX_CHUNK_POINTS + 1, "chunks": 1},
        {"rows": MAX_CHUNKS + 1, "chunk_points": 1, "chunks": MAX_CHUNKS + 1},
        {"spec_digest": b"another spec"},
        {"nonce": b"short"},
    ],
)
def test_wrong_announcements_are_refused(change: dict[str, object]) -> None:
    driver = build(two_tables(), tamper=replace_records(AlignReady, change)).run()
    for party, peer in (("guest", "host"), ("host", "guest")):
        assert failure(driver, party).reason is Reason.PROTOCOL_VIOLATION
        assert failure(driver, party).blame == peer
    assert not any(isinstance(entry.record, BlindedPoints) for entry in driver.trace)


def test_a_second_different_announcement_is_a_violation() -> None:
    driver = build(two_tables()).run(steps=8)
    driver.send_as("guest", "host", "align", AlignReady(JOB_ID, 22, 4, 6, b"", b""))
    assert "twice" in failure(driver.run(), "host").detail


IDENTITY = bytes(POINT_BYTES)
NOT_CANONICAL = b"\xff" * POINT_BYTES


@pytest.mark.parametrize(
    ("kind", "change", "chunk", "victim"),
    [
        (BlindedPoints, {"points": IDENTITY * CHUNK}, 1, "host"),
        (BlindedPoints, {"points": NOT_CANONICAL * CHUNK}, 0, "host"),
        (BlindedPoints, {"points": b""}, 2, "host"),
        (BlindedPoints, {"chunk": 3}, 1, "host"),
        (BlindedPoints, {"chunk": -1}, 0, "host"),
        (DoubleBlindedTags, {"tags": b"\1" * 15}, 0, "guest"),
        (DoubleBlindedTags, {"tags": b"\1" * 64}, 1, "guest"),
        (DoubleBlindedTags, {"chunk": 99}, 1, "guest"),
        (MatchConfirmed, {"rows": 3}, None, "guest"),
        (MatchedRows, {"chunks": 3}, 1, "host"),
        (MatchedRows, {"chunks": 5}, 0, "host"),
        (MatchedRows, {"chunks": 0}, 0, "host"),
        (MatchedRows, {"rows": 14}, 2, "host"),
        (MatchedRows, {"rows": 24}, None, "host"),
        (MatchedRows, {"rows": 0}, None, "host"),
        (MatchedRows, {"positions": b""}, 1, "host"),
        (MatchedRows, {"proofs": b"\1" * 17}, 1, "host"),
        (MatchedRows, {"proofs": b"", "positions": b""}, 1, "host"),
        (MatchedRows, {"chunk": 2}, 1, "host"),
    ],
)
def test_wrong_chunks_are_refused_with_blame(
    kind: type[Record], change: dict[str, object], chunk: int | None, victim: str
) -> None:
    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        hit = type(record) is kind and delivery.receiver == victim and chunk in (None, getattr(record, "chunk", None))
        return (replace(record, **change),) if hit else (record,)  # type: ignore[type-var]

    driver = build(two_tables(), tamper=tamper).run()
    refusal = failure(driver, victim)
    assert refusal.reason is Reason.PROTOCOL_VIOLATION
    assert refusal.blame == ("guest" if victim == "host" else "host")
    check_table(driver.trace)


def test_more_chunks_than_announced_are_refused() -> None:
    def repeat_last(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, BlindedPoints) and delivery.receiver == "host" and record.chunk == 5:
            return (record, replace(record, chunk=6))
        return (record,)

    assert failure(build(two_tables(), tamper=repeat_last).run(), "host").blame == "guest"


@pytest.mark.parametrize("victim", ["guest", "host"])
def test_duplicate_points_are_refused(victim: str) -> None:
    """The same point in two chunks would let one row stand for two."""
    first: list[bytes] = []

    def repeat_point(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, BlindedPoints) and delivery.receiver == victim:
            first.append(record.points[:POINT_BYTES])
            return (replace(record, points=first[0] + record.points[POINT_BYTES:]),)
        return (record,)

    refusal = failure(build(two_tables(), tamper=repeat_point).run(), victim)
    assert refusal.reason is Reason.PROTOCOL_VIOLATION and "repeat" in refusal.detail
    assert refusal.blame != victim


def test_a_host_that_gives_one_tag_for_two_points_is_refused() -> None:
    def copy_tag(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, DoubleBlindedTags):
            return (replace(record, tags=record.tags[:16] + record.tags[:16] + record.tags[32:]),)
        return (record,)

    refusal = failure(build(two_tables(), tamper=copy_tag).run(), "guest")
    assert "same tag" in refusal.detail and refusal.blame == "host"


def change_matches(change: object) -> Tamper:
    """Hand all chunks of joint rows together to `change(positions, proofs)`, and send what it gives in their place.

    The lists are what a cheating guest would have sent; `rows` and `chunks` are made to fit.
    """
    chunks: list[MatchedRows] = []

    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        if not isinstance(record, MatchedRows):
            return (record,)
        chunks.append(record)
        if len(chunks) < record.chunks:
            return ()
        positions = np.frombuffer(b"".join(c.positions for c in chunks), "<u4").tolist()
        joined = b"".join(c.proofs for c in chunks)
        proofs = [joined[start : start + 16] for start in range(0, len(joined), 16)]
        positions, proofs = change(positions, proofs)  # type: ignore[operator]
        data = np.array(positions, "<u4").tobytes()
        return (MatchedRows(JOB_ID, 0, 1, len(positions), data, b"".join(proofs)),)

    return tamper


def list_non_members(positions: list[int], proofs: list[bytes]) -> tuple[list[int], list[bytes]]:
    """Claim three more rows of the host, which the guest does not have."""
    others = [p for p in range(len(HOST_IDS)) if p not in set(positions)][:3]
    return positions + others, proofs + [bytes([n]) * 16 for n in range(3)]


def test_a_guest_that_lists_non_members_is_caught_by_the_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a host without the check the attack works: three rows that the guest does not have become joint."""
    datasets = two_tables()
    with monkeypatch.context() as without_check:
        without_check.setattr(host_module, "check_proofs", lambda guest, proofs, known: None)
        fooled = build(datasets, tamper=change_matches(list_non_members)).run()
    assert len(joint_ids(fooled, datasets, "host")) == 18
    assert not set(joint_ids(fooled, datasets, "host")) <= set(GUEST_IDS)

    caught = build(datasets, tamper=change_matches(list_non_members)).run()
    refusal = failure(caught, "host")
    assert (refusal.reason, refusal.blame) == (Reason.PROTOCOL_VIOLATION, "guest")
    assert "3 of 18 joint rows come without proof" in refusal.detail
    assert ("host", "train") not in caught.handed_over


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda p, q: ([*p[:-1], p[0]], q), "listed twice"),
        (lambda p, q: (p, [*q[:-1], q[0]]), "repeat"),
        (lambda p, q: ([len(HOST_IDS), *p[1:]], q), "position 33 of a table with 33 rows"),
        (lambda p, q: ([2**32 - 1, *p[1:]], q), "position 4294967295"),
        (lambda p, q: (p, [b"\0" * 16, *q[1:]]), "1 of 15 joint rows come without proof"),
    ],
)
def test_joint_rows_that_do_not_hold_are_refused(change: object, detail: str) -> None:
    refusal = failure(build(two_tables(), tamper=change_matches(change)).run(), "host")
    assert refusal.blame == "guest" and detail in refusal.detail


def test_fresh_exponents_for_each_job_and_each_host() -> None:
    """The same table never gives the same points twice, to whom or when ever it is blinded."""
    datasets = datasets_for(guest=GUEST_IDS, host=HOST_IDS, third=THIRD_IDS)
    points: list[set[bytes]] = []
    for job_id in ("job-1", "job-2"):
        driver = build(datasets, job_id=job_id).run()
        for receiver in ("host", "third"):
            sent = [decode(d.data) for d in driver.wire if d.sender == "guest" and d.receiver == receiver]
            joined = b"".join(r.points for r in sent if isinstance(r, BlindedPoints))
            points.append({joined[start : start + 32] for start in range(0, len(joined), 32)})
    for one, other in itertools.combinations(points, 2):
        assert len(one) == len(GUEST_IDS) and not one & other
