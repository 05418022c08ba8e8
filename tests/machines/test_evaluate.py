"""The evaluate stage: the guest measures what scikit-learn measures, and hosts show one rounded number a row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from schemas.alignment import AlignmentReady, PartyRows
from schemas.codec import decode, encode
from schemas.digests import digest_of
from schemas.evaluation import (
    ContinueEvaluation,
    EvaluateReady,
    EvaluationReady,
    EvaluationReport,
    HoldoutLogits,
    LogitsReceived,
    ReportStored,
)
from schemas.evaluation_states import EvaluateEnded, EvaluateWaiting, GuestEvaluation, HostEvaluation
from schemas.jobs import JobSpec, Reason, Stage
from schemas.models import ModelHalf
from schemas.record import Blob, Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StopTask,
    TaskFailed,
    TaskProgressed,
    TaskResumed,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from schemas.training import ModelReady
from streams.dataset import Dataset
from streams.kernels.fixed_point import LOGIT_BITS, WEIGHT_BITS
from streams.kernels.holdout import count_training_rows
from streams.kernels.scoring import SHARED_LOGIT_BITS, score_half
from streams.kernels.standardisation import fit_standardisation
from streams.machine import Event
from streams.machines.evaluate import EvaluateMachine
from streams.machines.evaluate.protocol import MAX_CHUNK_ROWS, PEER_RECORDS, TRANSITIONS
from streams.machines.evaluate.start import arrays_of
from tests.machines.driver import Delivery, Driver, Entry, Tamper
from tests.machines.parties import JOB_ID, make_dataset, make_spec, role_of, start_task
from tests.machines.tables import check_entries

CHUNK = 50


@dataclass
class World:
    """Tables, joint rows and halves of every party, and what the pooled model would say of the hold-out."""

    spec: JobSpec
    datasets: dict[str, Dataset]
    rows: dict[str, NDArray[np.uint32]]
    halves: dict[str, ModelHalf]

    def holdout(self, party: str) -> NDArray[np.uint32]:
        joint = self.rows[party]
        return joint[count_training_rows(len(joint), self.spec.evaluate.holdout_fraction) :]

    def exact_logits(self) -> NDArray[np.float64]:
        parts = [
            score_half(self.datasets[party].values[self.holdout(party)], arrays_of(half))
            for party, half in self.halves.items()
        ]
        return np.asarray(np.ldexp(sum(parts).astype(np.float64), -LOGIT_BITS))  # type: ignore[union-attr]

    def label(self) -> NDArray[np.int8]:
        label = self.datasets["guest"].label
        assert label is not None
        return label[self.holdout("guest")]


def make_world(hosts: tuple[str, ...] = ("host",), joint: int = 400, strangers: int = 30) -> World:
    """Parties with some rows of their own, in orders of their own. Data is drawn from a fixed seed."""
    draw = np.random.default_rng(7)
    spec = make_spec(hosts)
    parties = ("guest", *hosts)
    columns = dict.fromkeys(parties, 3)
    matrix = {party: draw.normal(size=(joint, columns[party])) * 2.0 + 1.0 for party in parties}
    truth = np.sum([m @ draw.normal(size=3) for m in matrix.values()], axis=0)
    label = (draw.random(joint) < 1 / (1 + np.exp(-(truth - truth.mean())))).astype(np.int8)
    world = World(spec, {}, {}, {})
    for party in parties:
        order = draw.permutation(joint + strangers)
        values = np.vstack([matrix[party], draw.normal(size=(strangers, 3))])[order]
        labels = np.concatenate([label, np.zeros(strangers, np.int8)])[order] if party == "guest" else None
        names = [f"person-{n:05}" if n < joint else f"{party}-{n}" for n in order.tolist()]
        dataset = make_dataset(names, values, labels)
        rows = np.argsort(order)[:joint].astype(np.uint32)
        training = rows[: count_training_rows(joint, spec.evaluate.holdout_fraction)]
        scaling = fit_standardisation(values[training])
        weights = tuple(int(w) for w in np.rint(draw.normal(size=3) * 2**WEIGHT_BITS))
        world.datasets[party], world.rows[party] = dataset, rows
        world.halves[party] = ModelHalf(
            party=party,
            role=role_of(party),
            model=spec.name,
            columns=dataset.columns,
            means=scaling.means,
            scales=scaling.scales,
            constant=scaling.constant,
            feature_clip=8.0,
            weights=weights,
            intercept=-(1 << 23) if party == "guest" else None,
            logit_clip=8.0 if party == "guest" else 4.0,
            spec_digest=digest_of(spec),
            data_fingerprint=dataset.profile.fingerprint,
        )
    return world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def build(
    world: World,
    *,
    seed: int | None = None,
    tamper: Tamper | None = None,
    restores: bool = False,
    chunk_rows: int = CHUNK,
) -> Driver:
    """Machines that have hand-overs and StartTasks waiting."""
    machines = {(p, "evaluate"): EvaluateMachine(p, chunk_rows) for p in world.datasets}
    driver = Driver(dict(machines), seed=seed, tamper=tamper, restores=restores)
    for party, dataset in world.datasets.items():
        alignment = AlignmentReady(
            JOB_ID,
            Blob.of(world.rows[party].astype("<u4").tobytes()),
            len(world.rows[party]),
            (PartyRows(party, len(dataset.ids)),),
            dataset.profile.fingerprint,
        )
        driver.send(party, "evaluate", alignment)
        driver.send(party, "evaluate", ModelReady(JOB_ID, world.halves[party]))
        driver.send(party, "evaluate", start_task(Stage.EVALUATE, role_of(party), world.spec, dataset), dataset)
    return driver


def report_of(driver: Driver) -> EvaluationReport:
    (stored,) = driver.events_of("guest", ReportStored)
    assert isinstance(stored, ReportStored)
    report = decode(stored.report.content)
    assert isinstance(report, EvaluationReport)
    return report


def measures_of(driver: Driver, party: str) -> dict[str, float]:
    (event,) = driver.events_of(party, TaskSucceeded)
    assert isinstance(event, TaskSucceeded)
    return {measure.name: measure.value for measure in event.measures}


def failure(driver: Driver, party: str) -> TaskFailed:
    (event,) = driver.events_of(party, TaskFailed)
    assert isinstance(event, TaskFailed)
    assert isinstance(driver.states[party, "evaluate"], EvaluateEnded)
    assert not driver.events_of(party, TaskSucceeded)
    return event


def phase_of(state: Record) -> str:
    match state:
        case EvaluateWaiting():
            return "waiting"
        case EvaluateEnded():
            return "ended"
        case GuestEvaluation() | HostEvaluation():
            return str(state.phase)
    raise AssertionError(state)


def check_table(entries: Iterable[Entry]) -> set[tuple[str, str, type[Record]]]:
    return check_entries(entries, TRANSITIONS, lambda party: str(role_of(party)), phase_of)


def test_measures_are_those_of_the_exact_logits() -> None:
    """AUC within 1e-4 although the host rounds its logits to 2^-10."""
    world = make_world(joint=6000)
    driver = build(world).run()
    measures, label, logits = measures_of(driver, "guest"), world.label(), world.exact_logits()
    probability = 1 / (1 + np.exp(-logits))
    assert abs(measures["auc"] - roc_auc_score(label, logits)) < 1e-4
    assert abs(measures["log_loss"] - log_loss(label, probability)) < 1e-4
    assert abs(measures["brier"] - brier_score_loss(label, probability)) < 1e-4
    assert (measures["n_train"], measures["n_holdout"]) == (4200, 1800)
    check_table(driver.trace)


def test_the_guest_alone_is_measured_with_the_fit_of_its_own_training_rows(world: World) -> None:
    dataset, rows = world.datasets["guest"], world.rows["guest"]
    assert dataset.label is not None
    training, holdout = rows[:280], rows[280:]
    mean, scale = dataset.values[training].mean(axis=0), dataset.values[training].std(axis=0)
    reference = LogisticRegression(C=1.0 / world.spec.train.l2, tol=1e-10, max_iter=1000)
    reference.fit((dataset.values[training] - mean) / scale, dataset.label[training])
    scores = reference.decision_function((dataset.values[holdout] - mean) / scale)
    driver = build(world).run()
    assert abs(measures_of(driver, "guest")["guest_auc"] - roc_auc_score(dataset.label[holdout], scores)) < 1e-3
    weights = np.ldexp(np.array(report_of(driver).guest_weights, dtype=np.float64), -WEIGHT_BITS)
    assert np.abs(weights - reference.coef_[0]).max() < 1e-3


def test_the_report_lets_the_owner_compute_every_measure_again(world: World) -> None:
    driver = build(world).run()
    report = report_of(driver)
    assert [row.id for row in report.rows] == [world.datasets["guest"].ids[row] for row in world.holdout("guest")]
    label = np.array([row.label for row in report.rows])
    assert label.tolist() == world.label().tolist()
    measures = {measure.name: measure.value for measure in report.measures}
    assert measures == measures_of(driver, "guest")
    assert measures["auc"] == pytest.approx(roc_auc_score(label, [r.probability for r in report.rows]), abs=1e-9)
    guest_auc = roc_auc_score(label, [r.guest_probability for r in report.rows])
    assert measures["guest_auc"] == pytest.approx(guest_auc, abs=1e-9)
    assert sum(part.rows for part in report.gain) == sum(part.rows for part in report.calibration) == 120
    half, best = report.confusion
    assert half.threshold == 0.5
    for counts in report.confusion:
        rows = (counts.true_positives, counts.false_positives, counts.true_negatives, counts.false_negatives)
        assert sum(rows) == 120
    positives, negatives = int(label.sum()), int((1 - label).sum())
    gap = best.true_positives / positives - best.false_positives / negatives
    assert gap == pytest.approx(measures["ks"], abs=1e-12)
    assert (report.roc[0].x, report.roc[0].y, report.roc[-1].x, report.roc[-1].y) == (0, 0, 1, 1)


def test_register_gets_the_measures_and_only_auc_and_ks_to_share(world: World) -> None:
    driver = build(world).run()
    (ready,) = driver.handed_over["guest", "register"]
    assert isinstance(ready, EvaluationReady)
    assert [measure.name for measure in ready.shared] == ["auc", "ks"]
    assert {m.name: m.value for m in ready.measures} == measures_of(driver, "guest")
    assert ("host", "register") not in driver.handed_over


def test_a_host_hears_counts_only(world: World) -> None:
    driver = build(world).run()
    assert measures_of(driver, "host") == {"n_train": 280, "n_holdout": 120}
    heard = [decode(d.data) for d in driver.wire if d.receiver == "host"]
    assert {type(record) for record in heard} == {EvaluateReady, LogitsReceived}


def test_identifiers_and_scores_do_not_leave_the_guest(world: World) -> None:
    driver = build(world).run()
    report = encode(report_of(driver))
    names = [row.id.encode() for row in report_of(driver).rows]
    assert all(name in report for name in names)
    sent = b"".join(delivery.data for delivery in driver.wire)
    assert not any(name in sent for name in names)


def test_hosts_logits_travel_with_ten_fractional_bits_and_no_more(world: World) -> None:
    driver = build(world).run()
    sent = [r for r in (decode(d.data) for d in driver.wire) if isinstance(r, HoldoutLogits)]
    assert [record.chunk for record in sent] == [0, 1, 2]
    numbers = np.frombuffer(b"".join(record.logits for record in sent), "<i4")
    values = world.datasets["host"].values[world.holdout("host")]
    exact = np.ldexp(score_half(values, arrays_of(world.halves["host"])).astype(np.float64), -LOGIT_BITS)
    assert np.abs(np.ldexp(numbers.astype(np.float64), -SHARED_LOGIT_BITS) - exact).max() <= 2.0**-11


def test_three_parties_evaluate_together() -> None:
    world = make_world(("host", "third"))
    for seed in range(3):
        driver = build(world, seed=seed).run()
        measured = measures_of(driver, "guest")["auc"]
        assert abs(measured - roc_auc_score(world.label(), world.exact_logits())) < 2e-3
        assert measures_of(driver, "third") == {"n_train": 280, "n_holdout": 120}
        check_table(driver.trace)


def test_order_of_arrival_and_restores_change_nothing(world: World) -> None:
    reports = set()
    for seed in range(8):
        straight = build(world, seed=seed).run()
        restored = build(world, seed=seed, restores=True).run()
        assert straight.transcript() == restored.transcript()
        reports.add(encode(report_of(straight)))
    assert len(reports) == 1


def test_duplicates_of_every_record_change_nothing(world: World) -> None:
    driver = build(world, seed=1)
    seen: list[tuple[str, str, Record]] = []
    while driver.channels:
        driver.deliver_next()
        entry = driver.trace[-1]
        seen.append((entry.party, entry.sender, entry.record))
        for party, sender, record in seen:
            state = driver.states[party, "evaluate"]
            step = driver.machines[party, "evaluate"].step(state, Event(record, sender))
            assert step.outputs == () and encode(step.state) == encode(state), (state, record)
    assert measures_of(driver, "guest")


def test_every_role_phase_and_event_is_decided(world: World) -> None:
    driver = build(world, seed=2).run()
    states: dict[tuple[str, str], Record] = {}
    for entry in driver.trace:
        for state in (entry.before, entry.after):
            states.setdefault((entry.party, phase_of(state)), state)
    entries = []
    for (party, _), state in states.items():
        peer = "host" if party == "guest" else "guest"
        dataset = world.datasets[party]
        own: list[Record] = [
            start_task(Stage.EVALUATE, role_of(party), world.spec, dataset),
            StopTask(JOB_ID, None),
            TimerFired(JOB_ID, f"patience/{peer}", 1),
            LocalFault(JOB_ID, Reason.STORAGE_FAILED, "full"),
            PeerFault(JOB_ID, peer, Reason.PROTOCOL_VIOLATION, "gap"),
            ContinueEvaluation(JOB_ID, 0),
            ContinueEvaluation(JOB_ID, 1),
            AlignmentReady(JOB_ID, Blob.of(b""), 0, (), b""),
            ModelReady(JOB_ID, world.halves[party]),
        ]
        theirs: list[Record] = [
            EvaluateReady(JOB_ID, 1, 1, 1, 10, b""),
            HoldoutLogits(JOB_ID, 77, b""),
            LogitsReceived(JOB_ID, 77),
        ]
        assert {type(record) for record in theirs} == PEER_RECORDS
        for record in [*own, *theirs]:
            for sender in (party, peer, "stranger"):
                step = driver.machines[party, "evaluate"].step(state, Event(record, sender, dataset))
                assert step == driver.machines[party, "evaluate"].step(state, Event(record, sender, dataset))
                entries.append(
                    Entry(party, "evaluate", sender, record, step.outputs, state, step.state, encode(step.state))
                )
    used = check_table(entries) | check_table(driver.trace)
    assert used == {(row.role, str(row.phase), row.event) for row in TRANSITIONS}


@pytest.mark.parametrize(
    ("kind", "change", "victim"),
    [
        (EvaluateReady, {"rows": 119, "chunks": 3}, "guest"),
        (EvaluateReady, {"rows": 119, "chunks": 3}, "host"),
        (EvaluateReady, {"chunks": 4}, "guest"),
        (EvaluateReady, {"chunk_rows": 0}, "guest"),
        (EvaluateReady, {"chunk_rows": MAX_CHUNK_ROWS + 1, "chunks": 1}, "guest"),
        (EvaluateReady, {"logit_bits": 20}, "guest"),
        (EvaluateReady, {"spec_digest": b"other"}, "host"),
        (HoldoutLogits, {"logits": b"\0" * 7}, "guest"),
        (HoldoutLogits, {"chunk": 3}, "guest"),
        (LogitsReceived, {"rows": 119}, "host"),
    ],
)
def test_wrong_records_are_refused_with_blame(
    world: World, kind: type[Record], change: dict[str, object], victim: str
) -> None:
    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        hit = type(record) is kind and delivery.receiver == victim
        return (replace(record, **change),) if hit else (record,)  # type: ignore[type-var]

    driver = build(world, tamper=tamper).run()
    refusal = failure(driver, victim)
    assert refusal.reason is Reason.PROTOCOL_VIOLATION
    assert refusal.blame == ("guest" if victim == "host" else "host")


def test_a_missing_chunk_keeps_the_guest_waiting_and_then_saying_so(world: World) -> None:
    def drop_last(delivery: Delivery, record: Record) -> Iterable[Record]:
        return () if isinstance(record, HoldoutLogits) and record.chunk == 2 else (record,)

    driver = build(world, tamper=drop_last).run()
    lost = next(r for r in (decode(d.data) for d in driver.wire) if isinstance(r, HoldoutLogits) and r.chunk == 2)
    driver.fire("guest", "evaluate", "patience/host")
    driver.run()
    (suspended,) = driver.events_of("guest", TaskSuspended)
    assert isinstance(suspended, TaskSuspended)
    assert suspended.blame == "host"
    driver.tamper = None
    driver.send_as("host", "guest", "evaluate", lost)
    driver.run()
    assert len(driver.events_of("guest", TaskResumed)) == 1
    assert measures_of(driver, "guest") == measures_of(build(world).run(), "guest")
    assert [p.done for p in driver.events_of("guest", TaskProgressed) if isinstance(p, TaskProgressed)] == [
        50,
        100,
        120,
    ]
    assert driver.timers["guest", "evaluate"] == driver.timers["host", "evaluate"] == {}


def test_a_hold_out_of_one_class_is_refused_before_anything_is_asked_of_the_host(world: World) -> None:
    dataset = world.datasets["guest"]
    one_class = make_dataset(dataset.ids, dataset.values, np.zeros(len(dataset.ids), np.int8))
    half = replace(world.halves["guest"], data_fingerprint=one_class.profile.fingerprint)
    changed = World(world.spec, {**world.datasets, "guest": one_class}, world.rows, {**world.halves, "guest": half})
    driver = build(changed).run()
    assert failure(driver, "guest").reason is Reason.TOO_FEW_ROWS
    assert not any(d.sender == "guest" for d in driver.wire)


def test_no_hold_out_is_refused(world: World) -> None:
    spec = make_spec(holdout_fraction=0.001)
    halves = {party: replace(half, spec_digest=digest_of(spec)) for party, half in world.halves.items()}
    driver = build(World(spec, world.datasets, world.rows, halves)).run()
    for party in ("guest", "host"):
        assert failure(driver, party).reason is Reason.TOO_FEW_ROWS
        assert "holdout_fraction" in failure(driver, party).detail


def test_a_table_that_changed_after_alignment_is_refused(world: World) -> None:
    dataset = world.datasets["host"]
    changed = make_dataset(dataset.ids, dataset.values + 1.0)
    driver = build(World(world.spec, {**world.datasets, "host": changed}, world.rows, world.halves)).run()
    assert failure(driver, "host").reason is Reason.DATA_CHANGED
    assert failure(driver, "host").blame == "host"


@pytest.mark.parametrize("missing", [AlignmentReady, ModelReady])
def test_a_start_without_hand_overs_says_what_is_missing(world: World, missing: type[Record]) -> None:
    driver = build(world)
    for key, queue in list(driver.channels.items()):
        kept = [d for d in queue if type(decode(d.data)) is not missing]
        driver.channels[key] = type(queue)(kept)
    driver.run()
    for party in ("guest", "host"):
        assert (failure(driver, party).reason, failure(driver, party).blame) == (Reason.INTERNAL_ERROR, party)


@pytest.mark.parametrize("steps", [0, 2, 5, 8, 12])
def test_stop_ends_quietly_in_any_phase(world: World, steps: int) -> None:
    driver = build(world).run(steps=steps)
    for party in ("guest", "host"):
        driver.channels.clear()
        told = len(driver.events[party])
        driver.stop(party, "evaluate")
        driver.run()
        assert isinstance(driver.states[party, "evaluate"], EvaluateEnded)
        assert driver.timers[party, "evaluate"] == {} and len(driver.events[party]) == told
