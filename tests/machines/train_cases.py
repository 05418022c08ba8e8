"""Small jobs of the train stage: two parties' rows, a driver around two machines, and the plaintext they must meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.alignment import AlignmentReady, PartyRows
from schemas.codec import decode, encode
from schemas.cohort_states import CohortLedger
from schemas.cohorts import COHORT
from schemas.jobs import (
    ColumnProfile,
    DataProfile,
    EvaluateSpec,
    JobSpec,
    Leak,
    PartySpec,
    Role,
    Stage,
    TrainSpec,
)
from schemas.models import ModelHalf
from schemas.record import Blob, Record
from schemas.tasks import StartTask, TaskSucceeded
from schemas.training import ModelReady
from streams.dataset import Dataset
from streams.identifiers import Identifiers
from streams.kernels.fixed_point import FX, RESIDUAL_BITS, add_intercept, linear_predictor, weighted_sums
from streams.kernels.guest_fit import add_penalty, fit_guest, penalties
from streams.kernels.holdout import split_rows
from streams.kernels.link_table import approximate_residuals
from streams.kernels.sigmoid import residuals
from streams.kernels.standardisation import fit_standardisation, standardise
from streams.kernels.step_rule import (
    Momentum,
    add_scalars,
    apply_step,
    fit_preconditioner,
    largest_mean_gradient,
    new_scalars,
    next_coefficients,
    next_momentum,
    round_scalar,
    should_stop,
)
from streams.machine import Machine
from streams.machines.cohort import CohortMachine
from streams.machines.train import TrainMachine
from streams.machines.train.plan import TrainPlan, link_table, make_plan
from tests.machines.driver import Driver

GUEST, HOST = "bank", "shop"
JOB = "job-1"
SECRETS = {GUEST: b"guest secret " * 3, HOST: b"host secret " * 3}
ALL_LEAKS = tuple(Leak)
#: What `Driver.transcript` and the machines use.
TRAIN = Stage.TRAIN.value

SPEC = JobSpec(
    name="churn",
    guest=PartySpec(GUEST, "people"),
    label="y",
    hosts=(PartySpec(HOST, "baskets"),),
    train=TrainSpec(
        max_passes=6, rank=3, coarse_passes=2, key_bits=512, tolerance=1e-4, guest_logit_clip=8, host_logit_clip=4
    ),
    evaluate=EvaluateSpec(holdout_fraction=0.25),
    accept_leaks=ALL_LEAKS,
)


@dataclass(frozen=True)
class Case:
    """One job's data. Row k of `guest`, `host` and `label` is joint row k before each party shuffles its own table."""

    spec: JobSpec
    guest: NDArray[np.float64]
    host: NDArray[np.float64]
    label: NDArray[np.int8]
    seed: int = 0
    #: The people's names in joint order; their numbers where nothing is said.
    names: tuple[str, ...] = ()

    def dataset(self, party: str) -> Dataset:
        """The party's table, in an order of its own."""
        values = self.guest if party == GUEST else self.host
        order = self.order(party)
        names = tuple(f"{party}_{index}" for index in range(values.shape[1]))
        profile = DataProfile(len(values), tuple(ColumnProfile(name) for name in names), fingerprint(party))
        label = self.label[order] if party == GUEST else None
        people = self.names or tuple(str(index) for index in range(len(self.label)))
        return Dataset(Identifiers.of(people[index] for index in order), names, values[order], label, profile)

    def order(self, party: str) -> NDArray[np.int64]:
        """Which joint row is where in the party's table."""
        return np.random.RandomState(self.seed + len(party)).permutation(len(self.label))

    def alignment(self, party: str) -> AlignmentReady:
        """What the align stage would hand on."""
        places = np.argsort(self.order(party)).astype("<u4")
        n = len(places)
        tables = (PartyRows(GUEST, n), PartyRows(HOST, n))
        return AlignmentReady(JOB, Blob.of(places.tobytes()), n, tables, fingerprint(party))

    def task(self, party: str, **changes: Any) -> StartTask:
        """The party's StartTask."""
        role = Role.GUEST if party == GUEST else Role.HOST
        task = StartTask(JOB, Stage.TRAIN, role, self.spec, self.dataset(party).profile, self.spec.accept_leaks)
        return replace(task, **changes)


def fingerprint(party: str) -> bytes:
    """A dataset's fingerprint."""
    return party.encode().ljust(32, b".")


def make_case(
    rows: int = 96, guest_columns: int = 5, host_columns: int = 4, seed: int = 1, strength: float = 0.5, **train: Any
) -> Case:
    """A job with a real signal at both parties."""
    rng = np.random.RandomState(seed)
    guest, host = rng.normal(size=(rows, guest_columns)), rng.normal(size=(rows, host_columns))
    host[:, 0] += 0.5 * guest[:, 0]
    signal = guest @ rng.normal(size=guest_columns) * strength + host @ rng.normal(size=host_columns) * strength
    label = (rng.uniform(size=rows) < 1 / (1 + np.exp(-signal))).astype(np.int8)
    return Case(replace(SPEC, train=replace(SPEC.train, **train)), guest, host, label, seed)


def make_driver(
    case: Case,
    secrets: dict[str, bytes] = SECRETS,
    chunk_rows: int = 20,
    ledgers: Mapping[str, CohortLedger] | None = None,
    **options: Any,
) -> Driver:
    """Two machines with their registers of cohorts, aligned and started; `Driver.run` does the rest."""
    least = min(case.spec.train.key_bits, 2048)
    machines: dict[tuple[str, str], Machine] = {(party, COHORT): CohortMachine(party) for party in (GUEST, HOST)}
    for party in (GUEST, HOST):
        machines[party, TRAIN] = TrainMachine(party, secrets[party], least, chunk_rows)
    driver = Driver(machines, JOB, **options)
    for party, ledger in (ledgers or {}).items():
        driver.states[party, COHORT] = ledger
    for party in (GUEST, HOST):
        driver.send(party, TRAIN, case.alignment(party))
        driver.send(party, TRAIN, case.task(party), case.dataset(party))
    return driver


def run_case(case: Case, **options: Any) -> Driver:
    """The whole job."""
    return make_driver(case, **options).run()


def ledgers_after(driver: Driver, earlier: str = "job-0") -> dict[str, CohortLedger]:
    """The parties' ledgers, with the driver's job under another name: for a job that comes later."""
    found = {}
    for party in (GUEST, HOST):
        ledger = driver.states[party, COHORT]
        assert isinstance(ledger, CohortLedger)
        entries = (replace(entry, job=earlier) if entry.job == JOB else entry for entry in ledger.entries)
        found[party] = replace(ledger, entries=tuple(entries))
    return found


def halves_of(driver: Driver) -> dict[str, ModelHalf]:
    """The trained halves, as handed to the evaluate stage. Fails with the story when there is none."""
    halves = {}
    for party in (GUEST, HOST):
        handed = driver.handed_over.get((party, "evaluate"), [])
        assert len(handed) == 1 and isinstance(handed[0], ModelReady), driver.events[party]
        assert driver.handed_over[party, "register"] == handed
        halves[party] = handed[0].half
    return halves


def measures_of(driver: Driver, party: str) -> dict[str, float]:
    """The numbers of the party's TaskSucceeded."""
    (event,) = driver.events_of(party, TaskSucceeded)
    assert isinstance(event, TaskSucceeded)
    return {measure.name: measure.value for measure in event.measures}


def weights_of(driver: Driver) -> NDArray[np.float64]:
    """All weights: the guest's, its intercept, the host's."""
    halves = halves_of(driver)
    intercept = halves[GUEST].intercept
    assert intercept is not None and halves[HOST].intercept is None
    return np.ldexp(np.array([*halves[GUEST].weights, intercept, *halves[HOST].weights], dtype=np.float64), -24)


def restore(record: Record, blobs: dict[bytes, bytes]) -> Record:
    """The record after a round trip through Avro."""
    return decode(encode(record), lambda blob: blobs[blob.sha256])


@dataclass
class Simulation:
    """The same job on plaintext integers: residuals are known, gradients are exact."""

    weights: NDArray[np.float64]
    gradients: list[tuple[tuple[float, ...], ...]]
    largest_means: list[float]


def simulate(case: Case, most_passes: int | None = None) -> Simulation:
    """Everything that the two machines do, without encryption, masks, cut shares and messages."""
    train = case.spec.train
    columns, label = training_columns(case)
    n = len(label)
    plan: TrainPlan = make_plan(train, n, case.guest.shape[1], case.host.shape[1], 1)
    penalty = [
        penalties(columns[0].shape[1], train.l2, intercept=True),
        penalties(columns[1].shape[1], train.l2, intercept=False),
    ]
    blocks = [fit_preconditioner(x, p) for x, p in zip(columns, penalty, strict=True)]
    weights = [fit_guest(columns[0], label, penalty[0]).weights, (0,) * columns[1].shape[1]]
    momenta = [Momentum(w, w) for w in weights]
    gradients: list[list[tuple[float, ...]]] = [[], []]
    gram: list[tuple[float, ...]] = []
    steps: list[tuple[float, ...]] = []
    story: list[tuple[tuple[float, ...], ...]] = []
    means: list[float] = []
    for number in range(most_passes or train.max_passes):
        a, b = (linear_predictor(x, w) for x, w in zip(columns, weights, strict=True))
        rank = plan.rank(number)
        table = link_table(train)
        d = approximate_residuals(table.phi(a, rank), table.psi(b, rank), label) if rank else residuals(a + b, label)
        for p in range(2):
            sums = weighted_sums(columns[p], d)
            gradients[p].append(add_penalty(sums, FX + RESIDUAL_BITS, weights[p], penalty[p]))
        story.append((gradients[0][-1], gradients[1][-1]))
        top = [largest_mean_gradient(gradients[p][-1], n) for p in range(2)]
        means.append(max(top))
        if plan.few_columns:
            momenta = [next_momentum(momenta[p], gradients[p][-1], blocks[p], 2) for p in range(2)]
            weights = [momentum.point for momentum in momenta]
        else:
            gram.append(add_scalars([new_scalars(gradients[p], blocks[p]) for p in range(2)]))
            steps.append(tuple(round_scalar(value) for value in next_coefficients(gram, steps, 2)))
            weights = [apply_step(weights[p], gradients[p], steps[-1], blocks[p]) for p in range(2)]
        full = rank == plan.full_rank and number > 0
        if should_stop(top, train.tolerance, passes=number + 1, max_passes=train.max_passes, full_rank=full):
            break
    last = [momentum.weights for momentum in momenta] if plan.few_columns else weights
    return Simulation(np.ldexp(np.array([*last[0], *last[1]], dtype=np.float64), -24), story, means)


def training_columns(case: Case) -> tuple[list[NDArray[np.int32]], NDArray[np.int8]]:
    """Both parties' standardised training rows, the guest's with its intercept, in joint order; and the label."""
    joint = np.arange(len(case.label), dtype="<u4").tobytes()
    rows = split_rows(joint, case.spec.evaluate.holdout_fraction)[0]
    columns = []
    for values in (case.guest[rows], case.host[rows]):
        columns.append(standardise(values, fit_standardisation(values), case.spec.train.feature_clip))
    return [add_intercept(columns[0]), columns[1]], case.label[rows]
