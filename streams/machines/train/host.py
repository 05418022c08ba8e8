"""A host's side of a pass, record by record. See `protocol.py` for the order of things."""

from __future__ import annotations

from dataclasses import replace

from schemas.jobs import Stage
from schemas.training import (
    ContinueTraining,
    EncryptedBasis,
    EncryptedResiduals,
    EncryptedShares,
    HostGradientShares,
    HostReport,
    MaskedHostGradient,
    MaskedResiduals,
    ModelReady,
    PlainLogits,
    StepDecided,
)
from schemas.training_states import HostTraining, TrainEnded, TrainPhase
from streams.kernels.entropy import Draws, job_seed
from streams.kernels.packing import weighted_shares
from streams.kernels.paillier import decode_ciphertexts, encode_ciphertexts, join_ciphertexts
from streams.kernels.residual_product import (
    add_products,
    encode_shares,
    encrypt_values,
    join_halves,
    mask_products,
    open_products,
    own_half,
)
from streams.kernels.split_link import encrypt_basis, open_residuals
from streams.machine import Event, Output, Step, ToPeer, ToStage
from streams.machines.task import stop_waiting
from streams.machines.train import gates, stepping
from streams.machines.train.masks import extend_digest, mask_key
from streams.machines.train.outcome import OwnParty, describe_pass, tell_progress
from streams.machines.train.plan import TrainPlan, link_table
from streams.machines.train.tools import (
    features_of,
    join_integers,
    own_encryptor,
    own_logits,
    peer_key,
    plan_of,
    private_key,
    refresher_of,
    split_integers,
)
from streams.machines.train.wire import check_numbers, read_ciphertexts, read_shares, refuse


def send_chunk(own: OwnParty, state: HostTraining) -> Step:
    """Encrypt the basis values of the next chunk (or, in `trusted_guest`, send its logits), and come back for more."""
    setup, memory, current = state.setup, state.memory, state.current
    plan = plan_of(setup, own.most_chunk_rows)
    logits = own_logits(setup, memory.weights, plan.chunk(current.rank, current.sent))
    message: EncryptedBasis | PlainLogits
    if current.rank:
        seed = job_seed(own.secret, setup.job_id)
        draws = Draws(mask_key(seed, "basis encryption", setup, memory, current, current.sent))
        psi = link_table(setup.spec.train).psi(logits, current.rank)
        encrypted = encrypt_basis(own_encryptor(setup), psi, plan.split_layout(current.rank), draws)
        data = encode_ciphertexts(private_key(setup).public, encrypted)
        message = EncryptedBasis(setup.job_id, current.pass_index, current.sent, data)
    else:
        data = logits.astype("<i8").tobytes()
        message = PlainLogits(setup.job_id, current.pass_index, current.sent, data)
    current = replace(current, sent=current.sent + 1)
    outputs: tuple[Output, ...] = (ToPeer(setup.peer, message),)
    if current.sent < plan.chunks(current.rank):
        onward = ContinueTraining(setup.job_id, current.pass_index, current.sent)
        outputs = (*outputs, ToStage(Stage.TRAIN, onward))
    return Step(replace(state, current=current), outputs)


def take_residuals(own: OwnParty, state: HostTraining, record: EncryptedResiduals) -> Step:
    """Flow E: multiply the own columns with the guest's encrypted residuals of a chunk."""
    plan = plan_of(state.setup, own.most_chunk_rows)
    current = state.current
    inputs = extend_digest(current.inputs, "residuals", record.chunk, record.ciphertexts)
    state = replace(state, current=replace(current, inputs=inputs))
    state = _multiply(state, plan, record, record.ciphertexts)
    return _after_chunk(own, state, plan, ())


def take_masked(own: OwnParty, state: HostTraining, record: MaskedResiduals) -> Step:
    """Flow S: open the own shares of a chunk's residuals, and multiply the own columns with both parties' shares."""
    setup, memory, current = state.setup, state.memory, state.current
    plan = plan_of(setup, own.most_chunk_rows)
    if record.chunk >= current.sent:
        raise refuse(setup, record, f"residuals of chunk {record.chunk}, whose basis was not sent yet")
    rows = plan.chunk(current.rank, record.chunk)
    count = rows.stop - rows.start
    layout = plan.split_layout(current.rank)
    private = private_key(setup)
    groups = -(-count // layout.slots.rows_per_plaintext)
    received = read_ciphertexts(setup, record, private.public, record.residuals, groups)
    inputs = extend_digest(current.inputs, "masked residuals", record.chunk, record.residuals, record.masks)
    current = replace(current, inputs=inputs)
    shares = open_residuals(private, received, count, layout)
    new = weighted_shares(features_of(setup)[rows], shares, layout.slots.slot_bits)
    old = split_integers(current.share_sums, layout.products) or [0] * len(setup.columns)
    modulus = 1 << layout.products.share_bits
    sums = [(a + int(b)) % modulus for a, b in zip(old, new, strict=True)]
    current = replace(current, share_sums=join_integers(sums, layout.products))
    state = _multiply(replace(state, current=current), plan, record, record.masks)
    seed = job_seed(own.secret, setup.job_id)
    draws = Draws(mask_key(seed, "share encryption", setup, memory, current, record.chunk, inputs))
    encrypted = encrypt_values(own_encryptor(setup), shares, layout.products, draws)
    data = encode_ciphertexts(private.public, encrypted)
    message = EncryptedShares(setup.job_id, current.pass_index, record.chunk, data)
    return _after_chunk(own, state, plan, (ToPeer(setup.peer, message),))


def take_gradient(own: OwnParty, state: HostTraining, record: HostGradientShares) -> Step:
    """The own gradient is known; open the guest's padded products, and report what the step rule needs."""
    setup, memory, current = state.setup, state.memory, state.current
    plan = plan_of(setup, own.most_chunk_rows)
    layout = plan.product_layout(current.rank)
    returned = read_shares(setup, record, record.shares, len(setup.columns), layout)
    sums = join_halves(returned, split_integers(current.own_shares, layout), layout)
    shares = b""
    if current.rank:
        # The products are X^T rho, the own half is X^T e plus the pads, and d = e - rho.
        sums = [-value for value in sums]
        private = private_key(setup)
        guest_width = setup.peer_columns + 1
        received = read_ciphertexts(setup, record, private.public, record.guest_gradient, guest_width)
        shares = encode_shares(open_products(private, received, layout), layout)
    elif record.guest_gradient:
        raise refuse(setup, record, "asked for products of a gradient that the guest knows")
    memory = stepping.add_gradient(setup, memory, sums, layout.drop_bits)
    scalars = stepping.shared_scalars(setup, memory, plan)
    report = HostReport(setup.job_id, current.pass_index, shares, scalars, stepping.largest_mean(memory, plan))
    digest = extend_digest(current.returned_inputs, "gradient", record.shares, record.guest_gradient)
    current = replace(current, returned_inputs=digest)
    new = replace(state, memory=memory, current=current, phase=TrainPhase.STEP)
    return Step(new, (ToPeer(setup.peer, report),))


def take_decision(own: OwnParty, state: HostTraining, record: StepDecided, event: Event) -> Step:
    """Move as the guest decided, and begin the next pass or end. More passes than the spec says are a violation."""
    setup, current = state.setup, state.current
    plan = plan_of(setup, own.most_chunk_rows)
    passes = current.pass_index + 1
    check_numbers(setup, record, record.coefficients, 0 if plan.few_columns else passes, "coefficients")
    if not record.is_last and passes >= setup.spec.train.max_passes:
        raise refuse(setup, record, f"the spec allows {setup.spec.train.max_passes} passes")
    next_rank = 0 if record.is_last else plan.rank(passes)
    if record.next_rank != next_rank:
        raise refuse(setup, record, f"rank {record.next_rank} for pass {passes}; the spec says {next_rank}")
    memory = stepping.take_step(own, setup, state.memory, record.coefficients, plan)
    decision = extend_digest(b"", "decision", repr(record.coefficients), record.next_rank, int(record.is_last))
    memory, current = stepping.next_pass(memory, current, next_rank, decision)
    memory = replace(memory, rows_done=passes * plan.rows)
    detail = describe_pass(current.pass_index - 1, state.current.rank)
    progress = tell_progress(own, setup, memory, plan, detail)
    if not record.is_last:
        phase = TrainPhase.BASIS if next_rank else TrainPhase.LOGITS
        onward = ToStage(Stage.TRAIN, ContinueTraining(setup.job_id, current.pass_index, 0))
        return Step(replace(state, memory=memory, current=current, phase=phase), (progress, onward))
    half = ModelReady(setup.job_id, stepping.make_half(own, setup, memory))
    budget = gates.budget_of(plan, len(setup.columns), None, is_guest=False)
    measures = stepping.measure(setup, memory, plan, budget)
    handed = (ToStage(Stage.EVALUATE, half), ToStage(Stage.REGISTER, half))
    ended = own.task(setup.job_id).succeeded(event, measures)
    return Step(TrainEnded(setup.job_id), (progress, *handed, *stop_waiting([setup.peer]), ended))


def _multiply(
    state: HostTraining, plan: TrainPlan, record: EncryptedResiduals | MaskedResiduals, data: bytes
) -> HostTraining:
    """Add the own columns times the guest's encrypted values of the record's chunk."""
    setup, current = state.setup, state.current
    rows, layout, public = plan.chunk(current.rank, record.chunk), plan.product_layout(current.rank), peer_key(setup)
    count = layout.convolution.plaintext_count(rows.stop - rows.start)
    received = read_ciphertexts(setup, record, public, data, count)
    old = decode_ciphertexts(public, current.products)
    products = add_products(old, received, features_of(setup)[rows], layout, public)
    memory = replace(state.memory, rows_done=state.memory.rows_done + rows.stop - rows.start)
    current = replace(current, received=current.received + 1, products=join_ciphertexts(public, products))
    return replace(state, memory=memory, current=current)


def _after_chunk(own: OwnParty, state: HostTraining, plan: TrainPlan, outputs: tuple[Output, ...]) -> Step:
    """Tell how far it is; after the last chunk pad the products and ask the guest for their one slot."""
    setup, memory, current = state.setup, state.memory, state.current
    progress = tell_progress(own, setup, memory, plan, describe_pass(current.pass_index, current.rank))
    outputs = (*outputs, progress)
    if current.received < plan.chunks(current.rank):
        return Step(state, outputs)
    seed = job_seed(own.secret, setup.job_id)
    public, layout = peer_key(setup), plan.product_layout(current.rank)
    key = mask_key(seed, "host gradient", setup, memory, current, current.inputs)
    products = decode_ciphertexts(public, current.products)
    fresh, pads = mask_products(products, refresher_of(seed, setup), layout, key)
    half = own_half(pads, split_integers(current.share_sums, layout), layout)
    current = replace(current, own_shares=join_integers(half, layout), products=b"", share_sums=b"")
    message = MaskedHostGradient(setup.job_id, current.pass_index, encode_ciphertexts(public, fresh))
    return Step(replace(state, current=current, phase=TrainPhase.SHARES), (*outputs, ToPeer(setup.peer, message)))
