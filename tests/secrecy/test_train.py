"""Attacks on the train stage: each must fail against the protocol, and succeed where a defence is taken out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.codec import decode, encode
from schemas.jobs import Leak, Privacy, Reason
from schemas.record import Blob, Record
from schemas.tasks import TaskFailed
from schemas.training import (
    EncryptedBasis,
    EncryptedResiduals,
    EncryptedShares,
    HostGradientShares,
    HostReport,
    MaskedHostGradient,
    MaskedResiduals,
    PlainLogits,
)
from schemas.training_states import GuestTraining, HostTraining, TrainPhase
from streams.kernels.entropy import Draws, prf
from streams.kernels.fixed_point import linear_predictor
from streams.kernels.link_table import approximate_residuals
from streams.kernels.packing import centre
from streams.kernels.paillier import OwnerEncryptor, PrivateKey, decode_ciphertexts, decrypt_many, encode_ciphertexts
from streams.kernels.split_link import open_residuals
from streams.machine import Event, ToPeer
from streams.machines.train import TrainMachine, guest, host, phase_of
from streams.machines.train.masks import mask_key
from streams.machines.train.plan import link_table
from streams.machines.train.tools import features_of, plan_of, private_key
from tests.machines.driver import Driver
from tests.machines.train_cases import (
    ALL_LEAKS,
    GUEST,
    HOST,
    SECRETS,
    TRAIN,
    make_case,
    make_driver,
    run_case,
    training_columns,
)

CASE = make_case(rows=400)
CHUNK = 150


@pytest.fixture(scope="module")
def driver() -> Driver:
    """A finished split-link job of 300 training rows."""
    return make_driver(CASE, chunk_rows=CHUNK).run()


@pytest.fixture(scope="module")
def keys() -> dict[str, PrivateKey]:
    """Both parties' keys of the job: an attacker has its own."""
    running = make_driver(CASE, chunk_rows=CHUNK)
    found: dict[str, PrivateKey] = {}
    while len(found) < 2:
        running.deliver_next()
        for party in (GUEST, HOST):
            state = running.states[party, TRAIN]
            if isinstance(state, GuestTraining | HostTraining) and state.setup.prime_p:
                found[party] = private_key(state.setup)
    return found


def sent(driver: Driver, kind: type[Any]) -> list[Any]:
    """All records of a type that crossed the door."""
    records = [decode(delivery.data, driver.loader(delivery.sender)) for delivery in driver.wire]
    return [record for record in records if isinstance(record, kind)]


def opened(key: PrivateKey, data: bytes) -> list[int]:
    """What the owner of a key finds inside, in [0, n)."""
    return [value % key.public.n for value in decrypt_many(key, decode_ciphertexts(key.public, data))]


def assert_uniform(values: list[float], cells: int = 8) -> None:
    """Numbers in [0, 1) look uniform: chi-square on equal cells below its 1 - 1e-6 quantile (7 degrees: 41)."""
    counts = np.histogram(values, bins=cells, range=(0.0, 1.0))[0]
    expected = len(values) / cells
    assert expected >= 5 and float(((counts - expected) ** 2 / expected).sum()) < 41.0


# --- what a decryptor sees ---


def test_the_host_opens_uniform_numbers_instead_of_residuals(driver: Driver, keys: dict[str, PrivateKey]) -> None:
    n = keys[HOST].public.n
    plaintexts = [v for record in sent(driver, MaskedResiduals) for v in opened(keys[HOST], record.residuals)]
    assert len(plaintexts) > 500
    assert_uniform([value / n for value in plaintexts])
    assert len(set(plaintexts)) == len(plaintexts)


def test_every_slot_that_the_host_opens_is_uniform_not_only_the_residuals(
    driver: Driver, keys: dict[str, PrivateKey]
) -> None:
    """Cross terms of the guest's phi sit in the other slots: an unpadded slot would give its logits away."""
    plan = plan_of(setup_in(TrainPhase.BASIS, GUEST).setup, CHUNK)
    for rank in (2, 3):
        slots = plan.split_layout(rank).slots
        per_slot: list[list[float]] = [[] for _ in range(slots.slots)]
        for record in sent(driver, MaskedResiduals):
            if plan.rank(record.pass_index) == rank:
                for value in opened(keys[HOST], record.residuals):
                    for slot in range(slots.slots):
                        share = (value >> (slots.slot_bits * slot)) % (1 << slots.slot_bits)
                        per_slot[slot].append(share / (1 << slots.slot_bits))
        for values in per_slot:
            assert_uniform(values)


def test_the_host_share_of_a_residual_says_nothing_about_the_label(driver: Driver, keys: dict[str, PrivateKey]) -> None:
    plan = plan_of(setup_in(TrainPhase.BASIS, GUEST).setup, CHUNK)
    label = training_columns(CASE)[1]
    for record in sent(driver, MaskedResiduals):
        layout = plan.split_layout(plan.rank(record.pass_index))
        rows = plan.chunk(plan.rank(record.pass_index), record.chunk)
        received = decode_ciphertexts(keys[HOST].public, record.residuals)
        shares = open_residuals(keys[HOST], received, rows.stop - rows.start, layout).astype(np.float64)
        # Five standard deviations of a correlation of independent numbers.
        assert abs(np.corrcoef(shares, label[rows])[0, 1]) < 5 / np.sqrt(rows.stop - rows.start)


@pytest.mark.parametrize("party", [GUEST, HOST])
def test_a_padded_product_opens_to_uniform_numbers(driver: Driver, keys: dict[str, PrivateKey], party: str) -> None:
    """What the peer asks to be opened for its gradient: the opener must not see the gradient, nor any cross term."""
    n = keys[party].public.n
    if party == GUEST:
        data = [record.ciphertexts for record in sent(driver, MaskedHostGradient)]
    else:
        data = [record.guest_gradient for record in sent(driver, HostGradientShares) if record.guest_gradient]
    plaintexts = [value for each in data for value in opened(keys[party], each)]
    high = [value / n for value in plaintexts]
    low = [value % 2**40 / 2**40 for value in plaintexts]
    assert_uniform([*high, *low], cells=4)


def test_rows_that_are_equal_give_different_ciphertexts() -> None:
    case = make_case(rows=40)
    case.guest[:20], case.host[:20], case.label[:20] = case.guest[0], case.host[0], case.label[0]
    for kind in (EncryptedBasis, EncryptedResiduals, MaskedResiduals, EncryptedShares):
        pieces = []
        for record in sent(run_case(case), kind):
            data = record.residuals + record.masks if isinstance(record, MaskedResiduals) else record.ciphertexts
            pieces += [data[i : i + 128] for i in range(0, len(data), 128)]
        assert len(pieces) > 3 and len(set(pieces)) == len(pieces)


def test_a_returned_share_has_no_more_bits_than_the_protocol_says(driver: Driver) -> None:
    plan = plan_of(setup_in(TrainPhase.BASIS, GUEST).setup, CHUNK)
    for kind in (HostGradientShares, HostReport):
        for record in sent(driver, kind):
            layout = plan.product_layout(plan.rank(record.pass_index))
            width = layout.share_bytes
            shares = [record.shares[i : i + width] for i in range(0, len(record.shares), width)]
            assert all(int.from_bytes(s, "big") >> (layout.share_bits - layout.drop_bits) == 0 for s in shares)


def test_a_gradient_has_twenty_fractional_bits_a_row_and_no_more(driver: Driver) -> None:
    """The unit of a gradient's sum is 2^drop_bits at scale 2^41: not below 2^-20 of the number of rows."""
    plan = plan_of(setup_in(TrainPhase.BASIS, GUEST).setup, CHUNK)
    for rank in (0, 2, 3):
        assert 2.0 ** (plan.product_layout(rank).drop_bits - 41) >= 2.0**-20 * plan.rows


# --- masks of runs that differ ---


def setup_in(phase: TrainPhase, party: str, pass_index: int = 1, case: Any = CASE) -> Any:
    """The party's state when it is first in this phase of this pass, with a record of the peer next in its queue."""
    running = make_driver(case, chunk_rows=CHUNK)
    while True:
        state: Any = running.states[party, TRAIN]
        is_there = phase_of(state) is phase
        if is_there and state.current.pass_index == pass_index:
            return state
        running.deliver_next()


def next_record(kind: type[Any], pass_index: int) -> Any:
    """The first record of this type in this pass of the ordinary run."""
    return next(r for r in sent(make_driver(CASE, chunk_rows=CHUNK).run(), kind) if r.pass_index == pass_index)


def answer(party: str, state: Record, record: Record, kind: type[Any]) -> Any:
    """What the party sends when it takes this record in this state."""
    sender = HOST if party == GUEST else GUEST
    step = TrainMachine(party, SECRETS[party], 512, CHUNK).step(state, Event(record, sender))
    (found,) = [o.record for o in step.outputs if isinstance(o, ToPeer) and isinstance(o.record, kind)]
    return found


def with_label(state: GuestTraining, row: int) -> GuestTraining:
    """The guest as it would be restored after one label was corrected."""
    assert state.setup.label is not None
    label = bytearray(state.setup.label.content)
    label[row] ^= 1
    blob = Blob.of(bytes(label))
    # The setup is made from the data at StartTask, so its private digest is that of the corrected label.
    digest = prf(bytes(32), "another label", blob.sha256)
    return replace(state, setup=replace(state.setup, label=blob, private_digest=digest))


def weakened(seed: bytes, purpose: str, setup: Any, memory: Any, current: Any, *inputs: Any) -> bytes:
    """The masks of a tempting design: bound to the place in the protocol only."""
    return prf(seed, purpose, setup.job_id, current.pass_index, str(inputs[0]) if purpose == "residual masks" else "")


def changed_rows(keys: dict[str, PrivateKey], first: MaskedResiduals, second: MaskedResiduals) -> NDArray[np.int64]:
    """The host's attack: subtract its shares of two runs. If the masks were shared this is d - d'."""
    plan = plan_of(setup_in(TrainPhase.BASIS, GUEST).setup, CHUNK)
    layout = plan.split_layout(plan.rank(1))
    opened_twice = [
        open_residuals(keys[HOST], decode_ciphertexts(keys[HOST].public, record.residuals), CHUNK, layout)
        for record in (first, second)
    ]
    differences = [centre(int(a) - int(b), layout.slots.slot_bits) for a, b in zip(*opened_twice, strict=True)]
    return np.array([value if abs(value) < 2**40 else 2**40 for value in differences], dtype=np.int64)


@pytest.mark.parametrize("is_weakened", [True, False])
def test_a_label_corrected_after_a_restore_is_not_found_by_subtracting_shares(
    keys: dict[str, PrivateKey], monkeypatch: pytest.MonkeyPatch, is_weakened: bool
) -> None:
    if is_weakened:
        monkeypatch.setattr(guest, "mask_key", weakened)
    state, record = setup_in(TrainPhase.BASIS, GUEST), next_record(EncryptedBasis, 1)
    assert isinstance(state, GuestTraining)
    first = answer(GUEST, state, record, MaskedResiduals)
    second = answer(GUEST, with_label(state, 17), record, MaskedResiduals)
    found = np.flatnonzero(np.abs(changed_rows(keys, first, second)) > 1)
    assert (found.tolist() == [17]) == is_weakened
    if not is_weakened:
        assert len(found) == CHUNK, "every row's difference must look random"


@pytest.mark.parametrize("is_weakened", [True, False])
def test_another_answer_of_the_guest_does_not_reveal_host_rows_by_subtraction(
    keys: dict[str, PrivateKey], monkeypatch: pytest.MonkeyPatch, is_weakened: bool
) -> None:
    """The guest answers the last chunk twice, its own masks raised by one in row 3 the second time; with equal pads
    the padded products that it opens differ by exactly x_3j."""
    if is_weakened:
        monkeypatch.setattr(host, "mask_key", lambda *a: prf(a[0], a[1], a[4].pass_index))
    running = make_driver(CASE, chunk_rows=CHUNK)
    kept: list[tuple[HostTraining, MaskedResiduals]] = []

    def keep(machine: Any, state: Record, event: Event) -> None:
        if isinstance(event.record, MaskedResiduals) and event.record.pass_index == 1 and event.record.chunk == 1:
            assert isinstance(state, HostTraining)
            kept.append((state, event.record))

    running.inspect = keep
    while not kept:
        running.deliver_next()
    (state, record) = kept[0]
    layout = plan_of(state.setup, CHUNK).product_layout(2).convolution
    own = keys[GUEST]
    changed = masks_with_one_more(own, record, row=3, per=layout.values_per_plaintext, bits=layout.slot_bits)
    answers = [answer(HOST, state, each, MaskedHostGradient) for each in (record, changed)]
    shares = [[layout.share(v) for v in opened(own, each.ciphertexts)] for each in answers]
    differences = [centre(b - a, layout.slot_bits) for a, b in zip(*shares, strict=True)]
    truth = features_of(state.setup)[CHUNK + 3].tolist()
    is_read = all(abs(difference - x) <= 1 for difference, x in zip(differences, truth, strict=True))
    assert is_read == is_weakened


def masks_with_one_more(own: PrivateKey, record: MaskedResiduals, row: int, per: int, bits: int) -> MaskedResiduals:
    """The record with the guest's mask of one row raised by one: a legal message that differs in one row."""
    values = decrypt_many(own, decode_ciphertexts(own.public, record.masks))
    values[row // per] += 1 << (bits * (row % per))
    encrypted = OwnerEncryptor(own).encrypt_many(values, Draws(b"a" * 32))
    return replace(record, masks=encode_ciphertexts(own.public, encrypted))


def test_weights_enter_every_mask() -> None:
    """The same messages with other private weights must not meet the same pads."""
    state, record = setup_in(TrainPhase.BASIS, GUEST), next_record(EncryptedBasis, 1)
    other = replace(
        state, memory=replace(state.memory, weights=(state.memory.weights[0] + 1, *state.memory.weights[1:]))
    )
    answers = [answer(GUEST, each, record, MaskedResiduals) for each in (state, other)]
    assert answers[0].masks != answers[1].masks and answers[0].residuals != answers[1].residuals


# --- what crosses the door ---


def test_split_link_sends_no_logits_and_trusted_guest_does() -> None:
    assert not sent(run_case(CASE, chunk_rows=CHUNK), PlainLogits)
    trusted = make_case(rows=400, privacy=Privacy.TRUSTED_GUEST)
    assert sent(run_case(trusted, chunk_rows=CHUNK), PlainLogits)


@pytest.mark.parametrize("lacking", ["spec", "parties"])
def test_trusted_guest_needs_its_leak_accepted_by_name(lacking: str) -> None:
    """And before anything is sent: the host's first record would already be too much."""
    case = make_case(privacy=Privacy.TRUSTED_GUEST)
    rest = tuple(leak for leak in ALL_LEAKS if leak is not Leak.HOST_ROWS_TO_GUEST)
    changes: dict[str, Any] = {"accepted_leaks": rest}
    if lacking == "spec":
        changes = {"spec": replace(case.spec, accept_leaks=rest), "accepted_leaks": ALL_LEAKS}
    running = make_driver(case)
    running.channels.clear()
    for party in (GUEST, HOST):
        running.send(party, TRAIN, case.alignment(party))
        running.send(party, TRAIN, case.task(party, **changes), case.dataset(party))
    running.run()
    assert not running.wire
    for party in (GUEST, HOST):
        (event,) = running.events_of(party, TaskFailed)
        assert isinstance(event, TaskFailed) and event.reason is Reason.LEAK_NOT_ACCEPTED
        assert "host_rows_to_guest" in event.detail


def test_no_private_bytes_leave_the_house(driver: Driver) -> None:
    """Canaries: rows, label, primes and weights of each party, as they rest in its memory."""
    canaries: dict[str, list[bytes]] = {}
    for party in (GUEST, HOST):
        state = setup_in(TrainPhase.REPORT if party == GUEST else TrainPhase.STEP, party)
        assert isinstance(state, GuestTraining | HostTraining)
        setup = state.setup
        features = setup.features.content
        canaries[party] = [features[i : i + 64] for i in range(0, len(features), 64)]
        canaries[party] += [setup.prime_p, setup.prime_q, state.current.own_shares]
        if setup.label is not None:
            canaries[party].append(setup.label.content[:64])
    wire = b"".join(delivery.data for delivery in driver.wire)
    events = b"".join(encode(event) for party in (GUEST, HOST) for event in driver.events[party])
    for found in canaries.values():
        for canary in found:
            assert len(canary) < 8 or (canary not in wire and canary not in events)


def test_few_columns_share_no_scalar_of_the_step() -> None:
    """Up to three inner products with known vectors would be the step itself."""
    for case in (make_case(guest_columns=2), make_case(host_columns=3)):
        finished = run_case(case)
        assert all(not record.scalars for record in sent(finished, HostReport))


def test_the_exact_residual_shares_hide_what_they_share() -> None:
    """e - rho is the residual, though neither is: a sanity check that the tests above look at the right numbers."""
    state = setup_in(TrainPhase.BASIS, GUEST)
    hosts = setup_in(TrainPhase.BASIS, HOST)
    plan = plan_of(state.setup, CHUNK)
    table, rank = link_table(CASE.spec.train), plan.rank(1)
    a = linear_predictor(features_of(state.setup), state.memory.weights)
    b = linear_predictor(features_of(hosts.setup), hosts.memory.weights)
    d = approximate_residuals(table.phi(a, rank), table.psi(b, rank), training_columns(CASE)[1])[:CHUNK]
    record = answer(GUEST, state, next_record(EncryptedBasis, 1), MaskedResiduals)
    layout = plan.split_layout(rank)
    own = private_key(hosts.setup)
    e = open_residuals(own, decode_ciphertexts(own.public, record.residuals), CHUNK, layout)
    convolution = layout.products.convolution
    rho = [
        (value >> (convolution.slot_bits * k)) % (1 << convolution.slot_bits)
        for value in opened(private_key(state.setup), record.masks)
        for k in range(convolution.values_per_plaintext)
    ]
    differences = [centre(int(x) - r, layout.slots.slot_bits) for x, r in zip(e, rho, strict=False)]
    assert np.abs(np.array(differences) - d).max() <= 1


def test_everything_that_tells_two_runs_apart_enters_the_masks() -> None:
    """A job that is tried again, another peer, another pass or other data: no two of them share a pad."""
    state = setup_in(TrainPhase.BASIS, GUEST)
    setup, memory, current = state.setup, state.memory, state.current
    runs = [
        (setup, memory, current),
        *((replace(setup, **{name: "another"}), memory, current) for name in ("job_id", "peer")),
        *(
            (replace(setup, **{name: b"another"}), memory, current)
            for name in ("spec_digest", "private_digest", "peer_modulus")
        ),
        (setup, replace(memory, transcript=b"another"), current),
        (setup, replace(memory, weights=tuple(weight + 1 for weight in memory.weights)), current),
        (setup, memory, replace(current, pass_index=current.pass_index + 1)),
        (setup, memory, replace(current, rank=current.rank + 1)),
    ]
    keys = [
        mask_key(b"s" * 32, purpose, *run, *place) for run in runs for purpose in ("a", "b") for place in ((0,), (1,))
    ]
    keys += [
        mask_key(b"t" * 32, "a", setup, memory, current, 0),
        mask_key(b"s" * 32, "a", setup, memory, current, 0, b""),
    ]
    assert len(set(keys)) == len(keys) == 4 * len(runs) + 2
    assert mask_key(b"s" * 32, "a", setup, memory, current, 0) == keys[0], "and an identical replay draws the same"
