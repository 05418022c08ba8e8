"""The register stage: all registries tell the same model, and each half stays in its house."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import pytest

from schemas.codec import decode, encode
from schemas.digests import digest_of
from schemas.evaluation import EvaluationReady
from schemas.jobs import JobSpec, Reason, Role, Stage
from schemas.models import HalfReference, ModelHalf, ModelRegistered
from schemas.record import Blob, Record
from schemas.registration import HalfStored, ModelAccepted, ModelAssembled
from schemas.registration_states import GuestRegistration, HostRegistration, RegisterEnded, RegisterWaiting
from schemas.tasks import (
    LocalFault,
    Measure,
    PeerFault,
    StopTask,
    TaskFailed,
    TaskResumed,
    TaskSucceeded,
    TaskSuspended,
    TimerFired,
)
from schemas.training import ModelReady
from streams.machine import Event
from streams.machines.register import RegisterMachine
from streams.machines.register.protocol import PEER_RECORDS, TRANSITIONS
from tests.machines.driver import Delivery, Driver, Entry, Tamper
from tests.machines.parties import JOB_ID, make_dataset, make_spec, role_of, start_task
from tests.machines.tables import check_entries

MEASURES = (Measure("auc", 0.75), Measure("ks", 0.4), Measure("log_loss", 0.5), Measure("positive_share", 0.22))


def make_half(party: str, spec: JobSpec) -> ModelHalf:
    return ModelHalf(
        party=party,
        role=role_of(party),
        model=spec.name,
        columns=(f"{party}_income", f"{party}_age"),
        means=(0.125, 3.0),
        scales=(1.0, 2.5),
        constant=(),
        feature_clip=8.0,
        weights=(123456789, -7),
        intercept=-5 if party == "guest" else None,
        logit_clip=8.0,
        spec_digest=digest_of(spec),
        data_fingerprint=hashlib.sha256(party.encode()).digest(),
    )


def make_evaluation() -> EvaluationReady:
    return EvaluationReady(JOB_ID, MEASURES, MEASURES[:2], 70, 30, Blob.of(b"the guest's report"))


def build(
    hosts: tuple[str, ...] = ("host",),
    *,
    seed: int | None = None,
    tamper: Tamper | None = None,
    restores: bool = False,
) -> Driver:
    spec = make_spec(hosts)
    parties = ("guest", *hosts)
    machines = {(p, "register"): RegisterMachine(p, f"isthmus of {p}") for p in parties}
    driver = Driver(dict(machines), seed=seed, tamper=tamper, restores=restores)
    for party in parties:
        driver.send(party, "register", ModelReady(JOB_ID, make_half(party, spec)))
        if party == "guest":
            driver.send(party, "register", make_evaluation())
        driver.send(party, "register", start_task(Stage.REGISTER, role_of(party), spec, make_dataset(["a"])))
    return driver


def registered(driver: Driver, party: str) -> ModelRegistered:
    ((key, model),) = driver.registry[party].items()
    assert isinstance(model, ModelRegistered)
    assert key == f"{model.name}/{model.version}" == f"credit/{JOB_ID}"
    return model


def failure(driver: Driver, party: str) -> TaskFailed:
    (event,) = driver.events_of(party, TaskFailed)
    assert isinstance(event, TaskFailed)
    assert driver.registry[party] == {}
    assert isinstance(driver.states[party, "register"], RegisterEnded)
    return event


def phase_of(state: Record) -> str:
    match state:
        case RegisterWaiting():
            return "waiting"
        case RegisterEnded():
            return "ended"
        case GuestRegistration() | HostRegistration():
            return str(state.phase)
    raise AssertionError(state)


def check_table(entries: Iterable[Entry]) -> set[tuple[str, str, type[Record]]]:
    return check_entries(entries, TRANSITIONS, lambda party: str(role_of(party)), phase_of)


@pytest.mark.parametrize("hosts", [("host",), ("host", "third"), ("z", "a", "m")])
def test_all_registries_tell_the_same_model(hosts: tuple[str, ...]) -> None:
    for seed in range(5):
        driver = build(hosts, seed=seed).run()
        models = [registered(driver, party) for party in ("guest", *hosts)]
        assert all(model == models[0] for model in models)
        assert [half.party for half in models[0].halves] == sorted(("guest", *hosts))
        check_table(driver.trace)


def test_the_model_digest_is_that_of_the_stored_halves() -> None:
    driver = build(("z", "a")).run()
    model = registered(driver, "guest")
    stored = []
    for half in model.halves:
        content = driver.stores[half.party][half.sha256]
        assert hashlib.sha256(content).digest() == half.sha256
        decoded = decode(content)
        assert decoded == make_half(half.party, make_spec(("z", "a")))
        assert content[2:10] == half.schema_fingerprint
        assert half.code_fingerprint == f"isthmus of {half.party}"
        stored.append(half.sha256)
    assert model.model_sha256 == hashlib.sha256(b"".join(stored)).digest()


def test_a_half_stays_in_its_house() -> None:
    driver = build().run()
    for party, other in (("guest", "host"), ("host", "guest")):
        half = make_half(party, make_spec())
        assert hashlib.sha256(encode(half)).digest() not in driver.stores[other]
        for delivery in driver.wire:
            assert f"{party}_income".encode() not in delivery.data
        assert f"{party}_income".encode() not in encode(registered(driver, other))


def test_hosts_see_only_what_the_guest_shares() -> None:
    driver = build().run()
    assert registered(driver, "host").metrics == MEASURES[:2]
    (event,) = driver.events_of("host", TaskSucceeded)
    assert isinstance(event, TaskSucceeded) and event.measures == MEASURES[:2]
    (own,) = driver.events_of("guest", TaskSucceeded)
    assert isinstance(own, TaskSucceeded) and own.measures == MEASURES
    for delivery in driver.wire:
        assert b"log_loss" not in delivery.data
        assert Blob.of(b"the guest's report").sha256 not in delivery.data


def test_the_guest_registers_last() -> None:
    """A crash of a host may leave a model in hosts' registries only, never in the guest's, where it would be used."""
    for kind in (HalfStored, ModelAssembled, ModelAccepted):
        for victim in ("host", "third"):

            def lose(
                delivery: Delivery, record: Record, kind: type[Record] = kind, victim: str = victim
            ) -> Iterable[Record]:
                lost = type(record) is kind and victim in (delivery.sender, delivery.receiver)
                return () if lost else (record,)

            driver = build(("host", "third"), tamper=lose).run()
            assert driver.registry["guest"] == {}
            assert "patience/" + victim in driver.timers["guest", "register"]
            driver.fire("guest", "register", "patience/" + victim)
            driver.run()
            (event,) = driver.events_of("guest", TaskSuspended)
            assert isinstance(event, TaskSuspended) and event.blame == victim


def test_a_silent_host_that_returns_resumes_the_task() -> None:
    driver = build(tamper=lambda d, r: () if isinstance(r, HalfStored) else (r,)).run()
    driver.fire("guest", "register", "patience/host")
    driver.run()
    driver.tamper = None
    driver.send_as("host", "guest", "register", decode(driver.wire[0].data))
    driver.run()
    assert len(driver.events_of("guest", TaskResumed)) == 1
    assert registered(driver, "guest") == registered(driver, "host")
    assert driver.timers["guest", "register"] == driver.timers["host", "register"] == {}


def test_order_of_arrival_and_restores_change_nothing() -> None:
    models = set()
    for seed in range(10):
        straight = build(("host", "third"), seed=seed).run()
        restored = build(("host", "third"), seed=seed, restores=True).run()
        assert straight.transcript() == restored.transcript()
        models.add(encode(registered(straight, "guest")))
    assert len(models) == 1


def test_duplicates_of_every_record_change_nothing() -> None:
    driver = build(("host", "third"), seed=1)
    seen: list[tuple[str, str, Record]] = []
    while driver.channels:
        driver.deliver_next()
        entry = driver.trace[-1]
        seen.append((entry.party, entry.sender, entry.record))
        for party, sender, record in seen:
            state = driver.states[party, "register"]
            step = driver.machines[party, "register"].step(state, Event(record, sender))
            assert step.outputs == () and encode(step.state) == encode(state), (state, record)
    assert registered(driver, "guest") == registered(driver, "third")


def test_every_role_phase_and_event_is_decided() -> None:
    spec = make_spec()
    states: dict[tuple[str, str], Record] = {}
    trace = [entry for seed in range(8) for entry in build(seed=seed).run().trace]
    machines = build().machines
    for entry in trace:
        for state in (entry.before, entry.after):
            states.setdefault((entry.party, phase_of(state)), state)
    reference = HalfReference("host", Role.HOST, b"?" * 32, b"", b"", "")
    model = ModelRegistered("m", "v", "j", b"", (), (), 1, 1, spec, b"")
    entries = []
    for (party, _), state in states.items():
        peer = "host" if party == "guest" else "guest"
        own: list[Record] = [
            start_task(Stage.REGISTER, role_of(party), spec, make_dataset(["a"])),
            StopTask(JOB_ID, None),
            TimerFired(JOB_ID, f"patience/{peer}", 1),
            LocalFault(JOB_ID, Reason.STORAGE_FAILED, "full"),
            PeerFault(JOB_ID, peer, Reason.PROTOCOL_VIOLATION, "gap"),
            ModelReady(JOB_ID, make_half(party, spec)),
            make_evaluation(),
        ]
        theirs: list[Record] = [
            HalfStored(JOB_ID, reference, b""),
            ModelAssembled(JOB_ID, model),
            ModelAccepted(JOB_ID, b""),
        ]
        assert {type(record) for record in theirs} == PEER_RECORDS
        for record in [*own, *theirs]:
            for sender in (party, peer, "stranger"):
                step = machines[party, "register"].step(state, Event(record, sender))
                assert step == machines[party, "register"].step(state, Event(record, sender))
                entries.append(
                    Entry(party, "register", sender, record, step.outputs, state, step.state, encode(step.state))
                )
    used = check_table(entries) | check_table(trace)
    assert used == {(row.role, str(row.phase), row.event) for row in TRANSITIONS}


@pytest.mark.parametrize(
    "change",
    [
        lambda half: replace(half, party="guest"),
        lambda half: replace(half, role=Role.GUEST),
        lambda half: replace(half, sha256=b"short"),
    ],
)
def test_a_half_that_is_not_the_senders_is_refused(change: object) -> None:
    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, HalfStored):
            return (replace(record, half=change(record.half)),)  # type: ignore[operator]
        return (record,)

    refusal = failure(build(tamper=tamper).run(), "guest")
    assert (refusal.reason, refusal.blame) == (Reason.PROTOCOL_VIOLATION, "host")


def test_a_half_of_another_spec_is_refused() -> None:
    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        return (replace(record, spec_digest=b"other") if isinstance(record, HalfStored) else record,)

    assert failure(build(tamper=tamper).run(), "guest").blame == "host"


def swap_half(model: ModelRegistered) -> ModelRegistered:
    """Put another half of the host's into the model, with a fitting model digest."""
    halves = tuple(replace(h, sha256=b"x" * 32) if h.party == "host" else h for h in model.halves)
    return replace(model, halves=halves, model_sha256=hashlib.sha256(b"".join(h.sha256 for h in halves)).digest())


@pytest.mark.parametrize(
    "change",
    [
        swap_half,
        lambda model: replace(model, model_sha256=b"?" * 32),
        lambda model: replace(model, halves=model.halves[::-1]),
        lambda model: replace(model, halves=model.halves[1:]),
        lambda model: replace(model, halves=(*model.halves, model.halves[-1])),
        lambda model: replace(model, name="other"),
        lambda model: replace(model, version="2"),
        lambda model: replace(model, job_id="job-2"),
        lambda model: replace(model, spec=replace(model.spec, label="other")),
        lambda model: replace(model, spec_digest=b""),
    ],
)
def test_a_host_registers_no_model_that_is_not_what_was_approved(change: object) -> None:
    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, ModelAssembled):
            return (replace(record, model=change(record.model)),)  # type: ignore[operator]
        return (record,)

    driver = build(tamper=tamper).run()
    refusal = failure(driver, "host")
    assert (refusal.reason, refusal.blame) == (Reason.PROTOCOL_VIOLATION, "guest")
    assert driver.registry["guest"] == {}


def test_an_acceptance_of_another_model_is_refused() -> None:
    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        return (replace(record, model_sha256=b"other") if isinstance(record, ModelAccepted) else record,)

    assert failure(build(tamper=tamper).run(), "guest").blame == "host"


@pytest.mark.parametrize("missing", [ModelReady, EvaluationReady])
def test_a_start_without_hand_overs_says_what_is_missing(missing: type[Record]) -> None:
    driver = build()
    for key, queue in list(driver.channels.items()):
        driver.channels[key] = type(queue)(d for d in queue if type(decode(d.data)) is not missing)
    driver.run()
    refusal = failure(driver, "guest")
    assert (refusal.reason, refusal.blame) == (Reason.INTERNAL_ERROR, "guest")


@pytest.mark.parametrize("steps", [0, 2, 4, 5, 6])
def test_stop_ends_quietly_in_any_phase(steps: int) -> None:
    driver = build().run(steps=steps)
    for party in ("guest", "host"):
        driver.channels.clear()
        told = len(driver.events[party])
        driver.stop(party, "register")
        driver.run()
        assert isinstance(driver.states[party, "register"], RegisterEnded)
        assert driver.timers[party, "register"] == {} and len(driver.events[party]) == told
