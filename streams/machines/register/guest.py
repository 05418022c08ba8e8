"""The guest of a registration: puts the model together, and registers when every host has."""

from __future__ import annotations

from dataclasses import replace

from schemas.registration import HalfStored, ModelAccepted, ModelAssembled
from schemas.registration_states import GuestRegistration, RegisterEnded, RegisterPhase
from streams.machine import Event, Output, Step, ToPeer, ToRegistry
from streams.machines.register.model import assemble, check_half, registry_key
from streams.machines.task import Task, stop_waiting, violation, wait_for


def step(state: GuestRegistration, event: Event, task: Task) -> Step:
    """Decide what a record does to the guest's task. Raises `RefusalError`."""
    match state.phase, event.record:
        case _, HalfStored() as stored:
            return take_half(state, event.sender, stored)
        case RegisterPhase.CONFIRMING, ModelAccepted() as accepted:
            return _take_acceptance(state, accepted, event, task)
    raise violation(event.sender, f"{type(event.record).__name__} does not belong in phase {state.phase}")


def take_half(state: GuestRegistration, sender: str, stored: HalfStored) -> Step:
    """A host offers its half; with the last one the model is complete. Raises `RefusalError`."""
    check_half(state.spec, sender, stored)
    known = {half.party: half for half in state.halves}
    if sender in known:
        if known[sender] != stored.half:
            raise violation(sender, f"{sender} offered two different halves")
        return Step(state)
    halves = tuple(sorted((*state.halves, stored.half), key=lambda half: half.party))
    state = replace(state, halves=halves)
    if len(halves) < len(state.spec.hosts):
        return Step(state, stop_waiting((sender,)))
    model = assemble(state.job_id, state.spec, (state.own, *halves), state.evaluation)
    outputs: list[Output] = []
    for half in halves:
        outputs += [
            ToPeer(half.party, ModelAssembled(state.job_id, model)),
            wait_for(half.party, state.spec.patience_seconds),
        ]
    return Step(replace(state, phase=RegisterPhase.CONFIRMING, model=model), tuple(outputs))


def _take_acceptance(state: GuestRegistration, accepted: ModelAccepted, event: Event, task: Task) -> Step:
    model = state.model
    assert model is not None
    if accepted.model_sha256 != model.model_sha256:
        raise violation(event.sender, f"{event.sender} accepted another model than the one that was assembled")
    if event.sender in state.accepted:
        return Step(state)
    state = replace(state, accepted=tuple(sorted((*state.accepted, event.sender))))
    outputs = stop_waiting((event.sender,))
    if len(state.accepted) < len(state.spec.hosts):
        return Step(state, outputs)
    measures = {measure.name: measure.value for measure in state.evaluation.measures}
    outputs = (*outputs, ToRegistry(registry_key(model), model), task.succeeded(event, measures))
    return Step(RegisterEnded(state.job_id, state.half), outputs)
