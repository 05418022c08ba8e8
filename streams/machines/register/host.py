"""A host of a registration: checks that the model holds its half, and registers."""

from __future__ import annotations

from schemas.registration import ModelAccepted, ModelAssembled
from schemas.registration_states import HostRegistration, RegisterEnded
from streams.machine import Event, Step, ToPeer, ToRegistry
from streams.machines.register.model import check_model, registry_key
from streams.machines.task import Task, stop_waiting, violation


def step(state: HostRegistration, event: Event, task: Task) -> Step:
    """Decide what a record does to the host's task. Raises `RefusalError`."""
    match event.record:
        case ModelAssembled(_, model):
            check_model(state.job_id, state.spec, state.own, model)
            outputs = (
                ToPeer(event.sender, ModelAccepted(state.job_id, model.model_sha256)),
                *stop_waiting((event.sender,)),
                ToRegistry(registry_key(model), model),
                task.succeeded(event, {measure.name: measure.value for measure in model.metrics}),
            )
            return Step(RegisterEnded(state.job_id, state.half), outputs)
    raise violation(event.sender, f"{type(event.record).__name__} does not belong in phase {state.phase}")
