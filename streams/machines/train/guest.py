"""The guest's side of a pass, record by record. See `protocol.py` for the order of things."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from schemas.jobs import Privacy, Stage
from schemas.training import (
    ContinueTraining,
    EncryptedBasis,
    EncryptedResiduals,
    EncryptedShares,
    HostGradientShares,
    MaskedHostGradient,
    MaskedResiduals,
    PlainLogits,
)
from schemas.training_states import GuestTraining, PassState, TrainPhase
from streams.kernels.entropy import Draws, job_seed
from streams.kernels.fixed_point import RESIDUAL_BITS, weighted_sums
from streams.kernels.guest_fit import fit_guest
from streams.kernels.packing import weighted_shares
from streams.kernels.paillier import decode_ciphertexts, encode_ciphertexts, join_ciphertexts
from streams.kernels.residual_product import (
    add_products,
    encode_shares,
    encrypt_values,
    mask_products,
    open_products,
    own_half,
)
from streams.kernels.sigmoid import residuals
from streams.kernels.split_link import combine_rows, mask_residuals
from streams.machine import Step, ToPeer, ToStage
from streams.machines.train.masks import extend_digest, mask_key
from streams.machines.train.outcome import OwnParty, describe_pass, tell_progress
from streams.machines.train.plan import TrainPlan, link_table
from streams.machines.train.tools import (
    features_of,
    join_integers,
    label_of,
    own_encryptor,
    own_logits,
    own_width,
    peer_key,
    penalty_of,
    plan_of,
    private_key,
    refresher_of,
    split_integers,
)
from streams.machines.train.wire import read_ciphertexts, read_logits, refuse


def fit_alone(own: OwnParty, state: GuestTraining) -> Step:
    """Fit the guest's columns to convergence: the host's weights are zero, so this is exact and needs no message."""
    setup = state.setup
    fit = fit_guest(features_of(setup), label_of(setup), penalty_of(setup))
    if setup.spec.train.privacy is Privacy.SPLIT_LINK:
        # The tables take two seconds: now, while the host makes its own, and not when its first chunk is here.
        refresher_of(job_seed(own.secret, setup.job_id), setup)
    memory = replace(state.memory, weights=fit.weights, iterate=fit.weights)
    state = replace(state, phase=TrainPhase.RESIDUALS, memory=memory, current=PassState(0, 0), losses=(fit.loss,))
    return Step(state, (ToStage(Stage.TRAIN, ContinueTraining(setup.job_id, 0, 0)),))


def send_residuals(own: OwnParty, state: GuestTraining) -> Step:
    """Flow E, pass 0: encrypt the next chunk of residuals."""
    setup, current = state.setup, state.current
    plan = plan_of(setup, own.most_chunk_rows)
    logits = own_logits(setup, state.memory.weights, plan.chunk(0, current.sent))
    step = _encrypt_residuals(own, state, plan, logits, current.sent)
    assert isinstance(step.state, GuestTraining)
    sent = step.state.current.sent
    if sent < plan.chunks(0):
        onward = ToStage(Stage.TRAIN, ContinueTraining(setup.job_id, current.pass_index, sent))
        return Step(step.state, (*step.outputs, onward))
    return step


def take_logits(own: OwnParty, state: GuestTraining, record: PlainLogits) -> Step:
    """Flow E in `trusted_guest`: the host's logits of a chunk give its residuals."""
    setup, current = state.setup, state.current
    plan = plan_of(setup, own.most_chunk_rows)
    rows = plan.chunk(0, current.received)
    theirs = read_logits(setup, record, record.logits, rows.stop - rows.start)
    inputs = extend_digest(current.inputs, "logits", record.chunk, record.logits)
    state = replace(state, current=replace(current, received=current.received + 1, inputs=inputs))
    mine = own_logits(setup, state.memory.weights, rows)
    return _encrypt_residuals(own, state, plan, mine + theirs, record.chunk)


def take_basis(own: OwnParty, state: GuestTraining, record: EncryptedBasis) -> Step:
    """Flow S: combine the host's basis with ours, mask, and send the shares of a chunk's residuals."""
    setup, memory, current = state.setup, state.memory, state.current
    plan = plan_of(setup, own.most_chunk_rows)
    rows = plan.chunk(current.rank, record.chunk)
    count = rows.stop - rows.start
    layout = plan.split_layout(current.rank)
    received = read_ciphertexts(setup, record, peer_key(setup), record.ciphertexts, count)
    current = replace(
        current,
        received=current.received + 1,
        inputs=extend_digest(current.inputs, "basis", record.chunk, record.ciphertexts),
    )
    seed = job_seed(own.secret, setup.job_id)
    phi = link_table(setup.spec.train).phi(own_logits(setup, memory.weights, rows), current.rank)
    offsets = phi[:, 0] - (label_of(setup)[rows].astype(np.int64) << RESIDUAL_BITS)
    groups = combine_rows(received, phi[:, 1:], offsets, layout, peer_key(setup))
    key = mask_key(seed, "residual masks", setup, memory, current, record.chunk, current.inputs)
    fresh, shares = mask_residuals(groups, count, refresher_of(seed, setup), layout, key)
    draws = Draws(mask_key(seed, "mask encryption", setup, memory, current, record.chunk, current.inputs))
    masks = encrypt_values(own_encryptor(setup), shares, layout.products, draws)
    new = weighted_shares(features_of(setup)[rows], shares, layout.slots.slot_bits)
    old = split_integers(current.share_sums, layout.products) or [0] * own_width(setup)
    modulus = 1 << layout.products.share_bits
    sums = [(a + int(b)) % modulus for a, b in zip(old, new, strict=True)]
    current = replace(current, share_sums=join_integers(sums, layout.products))
    memory = replace(memory, rows_done=memory.rows_done + count)
    message = MaskedResiduals(
        setup.job_id,
        current.pass_index,
        record.chunk,
        encode_ciphertexts(peer_key(setup), fresh),
        encode_ciphertexts(private_key(setup).public, masks),
    )
    progress = tell_progress(own, setup, memory, plan, describe_pass(current.pass_index, current.rank))
    return Step(replace(state, memory=memory, current=current), (ToPeer(setup.peer, message), progress))


def take_shares(own: OwnParty, state: GuestTraining, record: EncryptedShares) -> Step:
    """Flow S: multiply the own columns with the host's encrypted shares of a chunk."""
    setup, current = state.setup, state.current
    plan = plan_of(setup, own.most_chunk_rows)
    if record.chunk >= current.received:
        raise refuse(setup, record, f"shares of chunk {record.chunk}, whose residuals were not sent yet")
    rows = plan.chunk(current.rank, record.chunk)
    layout = plan.product_layout(current.rank)
    public = peer_key(setup)
    count = layout.convolution.plaintext_count(rows.stop - rows.start)
    received = read_ciphertexts(setup, record, public, record.ciphertexts, count)
    old = decode_ciphertexts(public, current.products)
    products = add_products(old, received, features_of(setup)[rows], layout, public)
    current = replace(
        current,
        returned=current.returned + 1,
        returned_inputs=extend_digest(current.returned_inputs, "shares", record.chunk, record.ciphertexts),
        products=join_ciphertexts(public, products),
    )
    is_all = current.returned == plan.chunks(current.rank)
    return Step(replace(state, current=current, phase=TrainPhase.PRODUCTS if is_all else state.phase))


def answer_products(own: OwnParty, state: GuestTraining, record: MaskedHostGradient) -> Step:
    """Open the one slot of each padded product of the host, and ask the same of the host where residuals are shared."""
    setup, current = state.setup, state.current
    plan = plan_of(setup, own.most_chunk_rows)
    layout = plan.product_layout(current.rank)
    private = private_key(setup)
    received = read_ciphertexts(setup, record, private.public, record.ciphertexts, setup.peer_columns)
    returned = extend_digest(current.returned_inputs, "host gradient", record.ciphertexts)
    current = replace(current, returned_inputs=returned)
    shares = encode_shares(open_products(private, received, layout), layout)
    request = b""
    if current.rank:
        seed = job_seed(own.secret, setup.job_id)
        public = peer_key(setup)
        products = decode_ciphertexts(public, current.products)
        key = mask_key(seed, "guest gradient", setup, state.memory, current, current.inputs, returned)
        fresh, pads = mask_products(products, refresher_of(seed, setup), layout, key)
        request = encode_ciphertexts(public, fresh)
        half = own_half(pads, split_integers(current.share_sums, layout), layout)
        current = replace(current, own_shares=join_integers(half, layout), products=b"", share_sums=b"")
    message = HostGradientShares(setup.job_id, current.pass_index, shares, request)
    return Step(replace(state, current=current, phase=TrainPhase.REPORT), (ToPeer(setup.peer, message),))


def _encrypt_residuals(
    own: OwnParty, state: GuestTraining, plan: TrainPlan, logits: NDArray[np.int64], chunk: int
) -> Step:
    setup, memory, current = state.setup, state.memory, state.current
    rows, layout = plan.chunk(0, chunk), plan.product_layout(0)
    d = residuals(logits, label_of(setup)[rows])
    seed = job_seed(own.secret, setup.job_id)
    draws = Draws(mask_key(seed, "residual encryption", setup, memory, current, chunk, current.inputs))
    encrypted = encrypt_values(own_encryptor(setup), d, layout, draws)
    # The guest knows these residuals, so its own gradient is exact.
    old = split_integers(current.share_sums, layout) or [0] * own_width(setup)
    modulus = 1 << layout.share_bits
    sums = [(a + b) % modulus for a, b in zip(old, weighted_sums(features_of(setup)[rows], d), strict=True)]
    current = replace(current, sent=chunk + 1, share_sums=join_integers(sums, layout))
    memory = replace(memory, rows_done=memory.rows_done + rows.stop - rows.start)
    message = EncryptedResiduals(
        setup.job_id, current.pass_index, chunk, encode_ciphertexts(private_key(setup).public, encrypted)
    )
    progress = tell_progress(own, setup, memory, plan, describe_pass(current.pass_index, 0))
    phase = TrainPhase.PRODUCTS if current.sent == plan.chunks(0) else state.phase
    new = replace(state, memory=memory, current=current, phase=phase)
    return Step(new, (ToPeer(setup.peer, message), progress))
