"""The train stage: two machines that never see each other's rows arrive where a plaintext fit arrives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from schemas.codec import decode
from schemas.cohorts import CohortCharged
from schemas.jobs import Leak, Privacy, Reason
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    TaskFailed,
    TaskProgressed,
    TaskResumed,
    TaskStarted,
    TaskSucceeded,
    TaskSuspended,
)
from schemas.training import (
    EncryptedBasis,
    EncryptedResiduals,
    EncryptedShares,
    HostGradientShares,
    HostReport,
    MaskedHostGradient,
    MaskedResiduals,
    PlainLogits,
    StepDecided,
    TrainReady,
)
from schemas.training_states import GuestTraining, HostTraining, TrainEnded
from streams.dataset import DatasetProblem
from streams.kernels.fixed_point import FX
from streams.kernels.paillier import generate_keys
from streams.machines.train import TrainMachine, phase_of
from tests.machines.driver import Delivery, Driver
from tests.machines.train_cases import (
    ALL_LEAKS,
    GUEST,
    HOST,
    JOB,
    SECRETS,
    TRAIN,
    Case,
    halves_of,
    make_case,
    make_driver,
    measures_of,
    run_case,
    simulate,
    training_columns,
    weights_of,
)

#: Twenty bits of every gradient reach the weights through a few quasi-Newton steps on 72 rows.
CLOSE = 2e-3

TRUSTED: dict[str, Any] = {"privacy": Privacy.TRUSTED_GUEST}
CASES = {
    "split_link": make_case(),
    "trusted_guest": make_case(**TRUSTED),
    "few_columns": make_case(guest_columns=2, host_columns=5),
    "one_column": make_case(guest_columns=4, host_columns=1),
    "constant_column": replace(make_case(), host=np.hstack([np.ones((96, 1)), make_case().host])),
}


@pytest.fixture(scope="module")
def split_run() -> Driver:
    return run_case(CASES["split_link"])


def failure_of(driver: Driver, party: str) -> TaskFailed:
    """The party's TaskFailed; it must be the only end, and the machine must be at rest."""
    assert not driver.events_of(party, TaskSucceeded)
    (event,) = driver.events_of(party, TaskFailed)
    assert isinstance(event, TaskFailed)
    assert isinstance(driver.states[party, TRAIN], TrainEnded)
    assert not driver.timers[party, TRAIN]
    return event


# --- where it arrives ---


@pytest.mark.parametrize("name", CASES)
def test_the_joint_fit_is_the_plaintext_fit_up_to_twenty_bits(name: str) -> None:
    case = CASES[name]
    driver = run_case(case)
    expected = simulate(case)
    assert np.abs(weights_of(driver) - expected.weights).max() < CLOSE
    assert measures_of(driver, GUEST)["passes"] == len(expected.gradients)


def test_each_gradient_is_the_exact_one_with_its_low_bits_cut() -> None:
    """In pass 1 both parties stand where the simulation stands: the gradients may differ by the cut bits only."""
    case = CASES["split_link"]
    expected = simulate(case)
    driver = make_driver(case)
    seen: dict[str, list[NDArray[np.float64]]] = {GUEST: [], HOST: []}
    while driver.channels:
        driver.deliver_next()
        for party in seen:
            state = driver.states[party, TRAIN]
            if isinstance(state, GuestTraining | HostTraining) and len(state.memory.gradients) > len(seen[party]):
                seen[party].append(np.array(state.memory.gradients[-1].values))
    rows = len(training_columns(case)[1])
    unit = 2.0 ** ((rows - 1).bit_length() - 20)
    assert np.array_equal(seen[GUEST][0], expected.gradients[0][0]), "the guest knows its first gradient exactly"
    assert np.abs(seen[HOST][0] - expected.gradients[0][1]).max() < unit
    for index, party in enumerate((GUEST, HOST)):
        # The first step's coefficient is 1/2, so the weights of pass 1 differ by the cut bits of pass 0 at most.
        assert np.abs(seen[party][1] - expected.gradients[1][index]).max() < 40 * unit


def test_trusted_guest_reaches_the_pooled_fit_of_scikit_learn() -> None:
    case = make_case(rows=240, max_passes=25, tolerance=1e-6, **TRUSTED)
    assert np.abs(weights_of(run_case(case, chunk_rows=60)) - pooled_fit(case)).max() < 2e-4


def test_split_link_reaches_the_pooled_fit_to_what_its_rank_allows() -> None:
    case = make_case(rows=160, strength=0.25, max_passes=15, rank=6, tolerance=1e-5, key_bits=768)
    driver = run_case(case, chunk_rows=60)
    assert measures_of(driver, GUEST)["largest_mean_gradient"] < 1e-4
    assert np.abs(weights_of(driver) - pooled_fit(case)).max() < 2e-2


def pooled_fit(case: Case) -> NDArray[np.float64]:
    """scikit-learn on both parties' columns together, in the order of `weights_of`."""
    (guest, host), label = training_columns(case)
    features = np.hstack([guest[:, :-1], host]) / 2.0**FX
    model = LogisticRegression(C=1 / case.spec.train.l2, tol=1e-10, solver="newton-cholesky").fit(features, label)
    width = guest.shape[1] - 1
    return np.array([*model.coef_[0, :width], model.intercept_[0], *model.coef_[0, width:]])


def test_different_secrets_give_different_messages_and_nearly_the_same_model(split_run: Driver) -> None:
    other = run_case(CASES["split_link"], secrets={GUEST: b"another guest secret", HOST: b"another host secret"})
    kinds = (TrainReady, EncryptedResiduals, EncryptedBasis, MaskedResiduals, EncryptedShares, MaskedHostGradient)
    sent = [{d.data for d in run.wire if isinstance(read(run, d), kinds)} for run in (other, split_run)]
    assert len(sent[0]) == len(sent[1]) > 40 and not sent[0] & sent[1]
    assert np.abs(weights_of(other) - weights_of(split_run)).max() < CLOSE


# --- the same again ---


def test_the_same_input_gives_the_same_bytes(split_run: Driver) -> None:
    assert run_case(CASES["split_link"]).transcript() == split_run.transcript()


@pytest.mark.parametrize("name", ["split_link", "trusted_guest", "few_columns"])
def test_restoring_the_state_from_avro_at_every_step_changes_nothing(name: str) -> None:
    assert run_case(CASES[name], restores=True).transcript() == run_case(CASES[name]).transcript()


@pytest.mark.parametrize("seed", range(12))
def test_the_order_in_which_channels_are_served_does_not_reach_the_model(split_run: Driver, seed: int) -> None:
    """A party reads its own commands and its peer's records from two topics: which comes first is chance."""
    shuffled = run_case(CASES["split_link"], seed=seed)
    assert halves_of(shuffled) == halves_of(split_run)
    assert {d.data for d in shuffled.wire} == {d.data for d in split_run.wire}


@pytest.mark.parametrize("name", ["split_link", "trusted_guest"])
def test_duplicates_of_every_message_change_nothing(name: str) -> None:
    def twice(delivery: Delivery, record: Record) -> Iterable[Record]:
        return (record, record)

    plain, doubled = run_case(CASES[name]), run_case(CASES[name], tamper=twice)
    assert halves_of(doubled) == halves_of(plain)
    assert {party: doubled.events[party] for party in (GUEST, HOST)} == plain.events


def test_late_duplicates_change_nothing() -> None:
    """Every message that was taken comes once more, right before the last one."""
    driver = make_driver(CASES["split_link"])
    while not any(isinstance(entry.record, HostReport) and entry.record.pass_index == 3 for entry in driver.trace):
        driver.deliver_next()
    waiting = [delivery for queue in driver.channels.values() for delivery in queue]
    taken = [delivery for delivery in driver.wire if delivery not in waiting]
    for delivery in taken:
        driver.send_as(delivery.sender, delivery.receiver, TRAIN, read(driver, delivery))
        while driver.channels.get((delivery.sender, delivery.receiver, TRAIN)):
            driver.deliver_next()
        assert driver.events_of(delivery.receiver, TaskFailed) == [], delivery
    assert halves_of(driver.run()) == halves_of(run_case(CASES["split_link"]))


def read(driver: Driver, delivery: Delivery) -> Record:
    """What a message says."""
    return decode(delivery.data, driver.loader(delivery.sender))


def test_a_ready_that_comes_before_the_own_start_is_kept() -> None:
    case = CASES["split_link"]
    driver = make_driver(case)
    plain = halves_of(make_driver(case).run())
    commands = driver.channels.pop((HOST, HOST, TRAIN))
    driver.run()
    assert phase_of(driver.states[HOST, TRAIN]).value == "waiting"
    driver.channels[HOST, HOST, TRAIN] = commands
    assert halves_of(driver.run()) == plain


def test_what_a_step_rewrites_is_small() -> None:
    """Rows are in blobs, written once: the record that every step writes has no part that grows with the table."""
    sizes = []
    for rows in (96, 960):
        trace = run_case(make_case(rows=rows, max_passes=2), chunk_rows=300).trace
        sizes.append(max(len(entry.state) for entry in trace))
    assert sizes[1] < sizes[0] + 200 and sizes[0] < 10_000


# --- what is told ---


@pytest.mark.parametrize("name", ["split_link", "trusted_guest", "few_columns"])
def test_progress_only_grows_and_ends_within_its_total(name: str) -> None:
    driver = run_case(CASES[name])
    for party in (GUEST, HOST):
        events = [event for event in driver.events[party] if isinstance(event, TaskProgressed)]
        done = [event.done for event in events]
        assert done == sorted(done) and done[0] > 0 and done[-1] <= events[-1].total
        assert {event.total for event in events} == {72 * 6} and {event.unit for event in events} == {"rows"}


def test_start_and_end_are_told_once_with_figures(split_run: Driver) -> None:
    for party in (GUEST, HOST):
        assert len(split_run.events_of(party, TaskStarted)) == 1
        (end,) = split_run.events_of(party, TaskSucceeded)
        assert isinstance(end, TaskSucceeded)
        assert (end.bytes_sent, end.bytes_received, end.records_sent, end.records_received) == (1000, 2000, 10, 20)
        assert isinstance(split_run.states[party, TRAIN], TrainEnded)
        assert not split_run.timers[party, TRAIN]
    figures = measures_of(split_run, GUEST)
    assert figures["rank"] == 3 and figures["rows"] == 72 and figures["sup_error"] > 0
    assert figures["leak_bits"] > figures["leak_bits_limit"] > 0


def test_the_loss_series_follows_the_true_losses() -> None:
    """Losses after the first are integrated from shared scalars; with exact residuals they meet the true ones."""
    case = make_case(rows=240, **TRUSTED)
    losses = [value for name, value in measures_of(run_case(case), GUEST).items() if name.startswith("loss_pass_")]
    (guest, host), label = training_columns(case)
    features = np.hstack([guest, host]) / 2.0**FX
    weights = pooled_fit(case)
    logits = features @ weights
    true = np.logaddexp(0, np.where(label == 1, -logits, logits)).sum()
    true += 0.5 * (weights @ weights - weights[guest.shape[1] - 1] ** 2)
    assert losses[0] > losses[1] > true * 0.98
    assert abs(losses[-1] - true) < 0.05 * (losses[0] - true)


def test_silence_is_told_once_and_its_end_too() -> None:
    driver = make_driver(CASES["split_link"])
    while phase_of(driver.states[GUEST, TRAIN]).value != "basis":
        driver.deliver_next()
    held = {key: driver.channels.pop(key) for key in list(driver.channels)}
    for _ in range(2):
        driver.fire(GUEST, TRAIN, f"patience/{HOST}")
        driver.run()
        driver.timers[GUEST, TRAIN].setdefault(f"patience/{HOST}", 0)
    (suspended,) = driver.events_of(GUEST, TaskSuspended)
    assert isinstance(suspended, TaskSuspended)
    assert (suspended.reason, suspended.blame) == (Reason.PEER_SILENT, HOST)
    driver.channels.update(held)
    driver.run()
    assert len(driver.events_of(GUEST, TaskResumed)) == 1
    assert halves_of(driver) == halves_of(run_case(CASES["split_link"]))


def test_own_work_that_takes_long_is_not_the_peers_silence() -> None:
    driver = make_driver(CASES["split_link"])
    while phase_of(driver.states[HOST, TRAIN]).value != "basis":
        driver.deliver_next()
    driver.fire(HOST, TRAIN, f"patience/{GUEST}")
    while f"patience/{GUEST}" not in driver.timers[HOST, TRAIN] and driver.channels:
        driver.deliver_next()
    assert not driver.events_of(HOST, TaskSuspended)


def test_stopping_in_any_phase_ends_silently() -> None:
    length = len(run_case(CASES["split_link"]).trace)
    for steps in range(1, length, 7):
        driver = make_driver(CASES["split_link"]).run(steps)
        told = {party: len(driver.events[party]) for party in (GUEST, HOST)}
        driver.channels.clear()
        for party in (GUEST, HOST):
            driver.stop(party, TRAIN)
        driver.run()
        for party in (GUEST, HOST):
            assert isinstance(driver.states[party, TRAIN], TrainEnded)
            assert not [event for event in driver.events[party][told[party] :] if not isinstance(event, CohortCharged)]
            assert not driver.timers[party, TRAIN]


# --- what is refused ---


@pytest.mark.parametrize("leak", [Leak.SMALL_TABLE, Leak.RARE_COLUMN, Leak.HOST_ROWS_TO_GUEST])
@pytest.mark.parametrize("lacking", ["spec", "party"])
def test_a_leak_that_was_not_accepted_by_name_ends_the_task(leak: Leak, lacking: str) -> None:
    rows = 3000 if leak is Leak.RARE_COLUMN else 96
    case = make_case(rows=rows, **(TRUSTED if leak is Leak.HOST_ROWS_TO_GUEST else {}))
    if leak is Leak.RARE_COLUMN:
        case.host[:, 2] = np.arange(rows) % 500 == 0
    others = tuple(other for other in ALL_LEAKS if other is not leak)
    accepted = ALL_LEAKS
    if lacking == "spec":
        case = replace(case, spec=replace(case.spec, accept_leaks=others))
    else:
        accepted = others
    driver = make_driver(replace(case))
    driver.channels.clear()
    for party in (GUEST, HOST):
        driver.send(party, TRAIN, case.alignment(party))
        driver.send(party, TRAIN, case.task(party, accepted_leaks=accepted), case.dataset(party))
    driver.run()
    # The host looks first: it is ready after the guest only.
    party = GUEST if leak is Leak.HOST_ROWS_TO_GUEST else HOST
    event = failure_of(driver, party)
    assert event.reason is Reason.LEAK_NOT_ACCEPTED and event.blame == party and leak.value in event.detail
    if leak is Leak.RARE_COLUMN:
        assert "'shop_2'" in event.detail


def test_a_table_large_enough_needs_no_leak_accepted() -> None:
    case = make_case(rows=3000, max_passes=2, rank=2, key_bits=256, guest_columns=4)
    case = replace(case, spec=replace(case.spec, accept_leaks=()))
    figures = measures_of(run_case(case, chunk_rows=1024), GUEST)
    assert figures["leak_bits"] <= figures["leak_bits_limit"]


@pytest.mark.parametrize("bits", [256, 510, 1024])
def test_a_peers_key_of_another_size_is_refused_with_blame(bits: int) -> None:
    modulus = generate_keys(b"k" * 32, bits).public.encode()
    assert_ready_is_refused({"modulus": modulus}, f"{bits} bits")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rows": 71}, "71 training rows"),
        ({"columns": 0}, "0 columns"),
        ({"spec_digest": b"x" * 32}, "another spec"),
        ({"modulus": (3 * (1 << 510) + 3).to_bytes(64, "big")}, "divisible by"),
        ({"modulus": (((1 << 256) - 189) ** 2).to_bytes(64, "big")}, "square"),
    ],
)
def test_a_ready_that_does_not_fit_is_refused_with_blame(change: dict[str, Any], text: str) -> None:
    assert_ready_is_refused(change, text)


def assert_ready_is_refused(change: dict[str, Any], text: str) -> None:
    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        return (replace(record, **change) if isinstance(record, TrainReady) and delivery.sender == HOST else record,)

    event = failure_of(run_case(CASES["split_link"], tamper=tamper), GUEST)
    assert (event.reason, event.blame) == (Reason.PROTOCOL_VIOLATION, HOST) and text in event.detail


def cut(data: bytes) -> bytes:
    return data[:-1]


def zeros(data: bytes) -> bytes:
    return bytes(len(data))


WRONG = [
    (EncryptedResiduals, {"ciphertexts": cut}),
    (EncryptedResiduals, {"ciphertexts": zeros}),
    (EncryptedBasis, {"ciphertexts": cut}),
    (EncryptedBasis, {"ciphertexts": zeros}),
    (EncryptedBasis, {"chunk": lambda chunk: chunk + 1}),
    (EncryptedBasis, {"pass_index": lambda index: index + 1}),
    (MaskedResiduals, {"residuals": cut}),
    (MaskedResiduals, {"masks": cut}),
    (EncryptedShares, {"ciphertexts": zeros}),
    (EncryptedShares, {"chunk": lambda chunk: chunk + 3}),
    (MaskedHostGradient, {"ciphertexts": cut}),
    (HostGradientShares, {"shares": cut}),
    (HostGradientShares, {"shares": lambda shares: b"\xff" * len(shares)}),
    (HostGradientShares, {"guest_gradient": lambda data: b"" if data else b"x"}),
    (HostReport, {"shares": lambda data: b"\xff" * len(data) if data else b"x"}),
    (HostReport, {"scalars": lambda scalars: (*scalars, 1.0)}),
    (HostReport, {"scalars": lambda scalars: (float("nan"),) * len(scalars)}),
    (HostReport, {"largest_mean": lambda _: float("inf")}),
    (HostReport, {"largest_mean": lambda _: -1.0}),
    (StepDecided, {"coefficients": lambda values: values[1:]}),
    (StepDecided, {"coefficients": lambda values: (float("inf"),) * len(values)}),
    (StepDecided, {"next_rank": lambda rank: rank + 1}),
]


@pytest.mark.parametrize(("kind", "changes"), WRONG)
def test_every_unusable_message_is_blamed_on_its_sender(kind: Any, changes: dict[str, Any]) -> None:
    def tamper(delivery: Delivery, record: Any) -> Iterable[Record]:
        if type(record) is not kind:
            return (record,)
        return (replace(record, **{name: change(getattr(record, name)) for name, change in changes.items()}),)

    driver = run_case(CASES["split_link"], tamper=tamper)
    sender = GUEST if kind in (EncryptedResiduals, MaskedResiduals, HostGradientShares, StepDecided) else HOST
    event = failure_of(driver, HOST if sender == GUEST else GUEST)
    assert (event.reason, event.blame) == (Reason.PROTOCOL_VIOLATION, sender)
    assert kind.__name__ in event.detail


def test_logits_that_are_no_logits_are_blamed_on_their_sender() -> None:
    for wrong in (b"", b"\x7f" * 8 * 72):

        def tamper(delivery: Delivery, record: Record, wrong: bytes = wrong) -> Iterable[Record]:
            return (replace(record, logits=wrong) if isinstance(record, PlainLogits) else record,)

        event = failure_of(run_case(CASES["trusted_guest"], tamper=tamper, chunk_rows=72), GUEST)
        assert (event.reason, event.blame) == (Reason.PROTOCOL_VIOLATION, HOST)


def test_a_guest_cannot_have_more_passes_than_the_spec_says() -> None:
    """The leak budget was accepted for so many passes; the host counts them itself."""

    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, StepDecided) and record.is_last:
            return (replace(record, is_last=False, next_rank=3),)
        return (record,)

    event = failure_of(run_case(CASES["split_link"], tamper=tamper), HOST)
    assert (event.reason, event.blame) == (Reason.PROTOCOL_VIOLATION, GUEST) and "6 passes" in event.detail


def test_a_party_outside_the_job_is_ignored() -> None:
    driver = make_driver(CASES["split_link"])
    driver.send_as("stranger", GUEST, TRAIN, TrainReady(JOB, b"\1", 1, 72, b""))
    driver.run(30)
    driver.send_as("stranger", GUEST, TRAIN, EncryptedBasis(JOB, 0, 0, b""))
    driver.run()
    assert halves_of(driver) == halves_of(run_case(CASES["split_link"]))


def test_what_a_peer_did_wrong_before_the_start_ends_the_task_when_it_starts() -> None:
    early = EncryptedBasis(JOB, 0, 0, b"")
    fault = PeerFault(JOB, HOST, Reason.PROTOCOL_VIOLATION, "garbage")
    for wrong in (early, fault):
        driver = make_driver(CASES["split_link"])
        commands = driver.channels.pop((GUEST, GUEST, TRAIN))
        if isinstance(wrong, PeerFault):
            driver.send(GUEST, TRAIN, wrong)
        else:
            driver.send_as(HOST, GUEST, TRAIN, wrong)
        driver.run()
        assert not driver.events[GUEST]
        driver.channels[GUEST, GUEST, TRAIN] = commands
        event = failure_of(driver.run(), GUEST)
        assert (event.reason, event.blame) == (Reason.PROTOCOL_VIOLATION, HOST)


def test_weights_that_run_away_end_the_task() -> None:
    """Only a guest that breaks the rules, or columns that separate labels, get there; states must stay encodable."""

    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, StepDecided):
            return (replace(record, coefficients=tuple(1e9 for _ in record.coefficients)),)
        return (record,)

    event = failure_of(run_case(CASES["split_link"], tamper=tamper), HOST)
    assert event.reason is Reason.LOGITS_OUT_OF_BOX and "2^10" in event.detail


def test_a_peer_cannot_give_commands() -> None:
    driver = make_driver(CASES["split_link"]).run(30)
    driver.send_as(HOST, GUEST, TRAIN, CASES["split_link"].task(GUEST))
    event = failure_of(driver.run(), GUEST)
    assert (event.reason, event.blame) == (Reason.PROTOCOL_VIOLATION, HOST)


def test_faults_that_the_engine_reports_end_the_task_with_its_blame() -> None:
    local = LocalFault(JOB, Reason.STORAGE_FAILED, "disk full")
    remote = PeerFault(JOB, HOST, Reason.PROTOCOL_VIOLATION, "a gap in the sequence")
    for fault, blame in ((local, GUEST), (remote, HOST)):
        driver = make_driver(CASES["split_link"]).run(30)
        driver.send(GUEST, TRAIN, fault)
        event = failure_of(driver.run(), GUEST)
        assert (event.reason, event.blame, event.detail) == (fault.reason, blame, fault.detail)


def start_only(case: Case, party: str, resource: object = None, aligned: bool = True, **changes: Any) -> TaskFailed:
    """The failure of a task that cannot begin."""
    machine = TrainMachine(party, SECRETS[party], 512)
    driver = Driver({(party, TRAIN): machine}, JOB)
    if aligned:
        driver.send(party, TRAIN, case.alignment(party))
    driver.send(party, TRAIN, case.task(party, **changes), resource or case.dataset(party))
    return failure_of(driver.run(), party)


def test_a_task_that_cannot_begin_says_why() -> None:
    case = CASES["split_link"]
    mistaken = DatasetProblem(())
    assert start_only(case, GUEST, mistaken).reason is Reason.INVALID_DATA
    assert start_only(case, GUEST, aligned=False).reason is Reason.INTERNAL_ERROR
    changed = replace(case.dataset(GUEST).profile, fingerprint=b"other")
    assert start_only(case, GUEST, profile=changed).reason is Reason.DATA_CHANGED
    two_hosts = replace(case.spec, hosts=(*case.spec.hosts, replace(case.spec.hosts[0], party="third")))
    event = start_only(case, HOST, spec=two_hosts)
    assert event.reason is Reason.INVALID_SPEC and "2 hosts" in event.detail
    one_label = replace(case, label=np.zeros_like(case.label))
    assert start_only(one_label, GUEST).reason is Reason.INVALID_DATA
    assert start_only(make_case(rows=1), GUEST).reason is Reason.TOO_FEW_ROWS
    short = start_only(make_case(key_bits=256), GUEST)
    assert short.reason is Reason.INVALID_SPEC and "256" in short.detail
    high = start_only(make_case(rank=8), GUEST)
    assert high.reason is Reason.INVALID_SPEC and "longer key" in high.detail


def test_logits_outside_the_box_end_the_task_with_advice() -> None:
    case = make_case(guest_logit_clip=4, host_logit_clip=4, l2=1e-6, max_passes=3)
    case.guest[:, 0] = np.where(case.label == 1, 4, -4) + case.guest[:, 0]
    event = failure_of(run_case(case), GUEST)
    assert event.reason is Reason.LOGITS_OUT_OF_BOX and event.blame == GUEST
    assert "guest_logit_clip" in event.detail
