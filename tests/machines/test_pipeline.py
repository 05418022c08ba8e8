"""All four stages of a job in one process: what align hands on trains, is measured, and is registered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from schemas.codec import decode, encode
from schemas.evaluation import EvaluationReport, ReportStored
from schemas.jobs import PIPELINE, JobSpec, Leak, Stage, TrainSpec
from schemas.models import ModelHalf, ModelRegistered
from schemas.tasks import TaskFailed, TaskSucceeded
from streams.dataset import Dataset
from streams.kernels.fixed_point import LOGIT_BITS
from streams.kernels.scoring import score_half
from streams.machine import Machine
from streams.machines.align import AlignMachine
from streams.machines.cohort import CohortMachine
from streams.machines.evaluate import EvaluateMachine
from streams.machines.evaluate.start import arrays_of
from streams.machines.register import RegisterMachine
from streams.machines.train import TrainMachine
from tests.machines.driver import Driver
from tests.machines.parties import JOB_ID, make_dataset, make_spec, role_of, secret_of, start_task

PARTIES = ("guest", "host")
COMMON, STRANGERS = 260, 25


def make_job() -> tuple[JobSpec, dict[str, Dataset]]:
    """A spec with small keys, and two tables that share most of their people and no order."""
    draw = np.random.default_rng(5)
    matrix = {party: draw.normal(size=(COMMON + STRANGERS, 4)) for party in PARTIES}
    signal = matrix["guest"] @ [0.8, -0.5, 0.2, 0.0] + matrix["host"] @ [0.7, 0.4, -0.6, 0.1]
    label = (draw.random(COMMON + STRANGERS) < 1 / (1 + np.exp(-signal))).astype(np.int8)
    datasets = {}
    for party in PARTIES:
        names = [f"person-{n}" if n < COMMON else f"{party}-only-{n}" for n in range(COMMON + STRANGERS)]
        order = draw.permutation(COMMON + STRANGERS)
        labels = label[order] if party == "guest" else None
        datasets[party] = make_dataset([names[k] for k in order.tolist()], matrix[party][order], labels)
    train = TrainSpec(max_passes=5, rank=3, coarse_passes=2, key_bits=512, guest_logit_clip=8, host_logit_clip=4)
    return replace(make_spec(), train=train, accept_leaks=tuple(Leak)), datasets


def run_job(spec: JobSpec, datasets: dict[str, Dataset], *, seed: int | None, restores: bool = False) -> Driver:
    """Stage after stage, each when the one before ended everywhere, as the coordinators do it."""
    machines: dict[tuple[str, str], Machine] = {}
    for party in PARTIES:
        secret = secret_of(party)
        for machine in (
            AlignMachine(party, secret, 64),
            TrainMachine(party, secret, 512, 60),
            CohortMachine(party),
            EvaluateMachine(party, 50),
            RegisterMachine(party, "test"),
        ):
            machines[party, machine.stage] = machine
    driver = Driver(machines, seed=seed, restores=restores)
    for stage in PIPELINE:
        for party in PARTIES:
            task = replace(start_task(stage, role_of(party), spec, datasets[party]), accepted_leaks=spec.accept_leaks)
            driver.send(party, stage, task, None if stage is Stage.REGISTER else datasets[party])
        driver.run()
        for party in PARTIES:
            assert not driver.events_of(party, TaskFailed)
            assert len(driver.events_of(party, TaskSucceeded)) == PIPELINE.index(stage) + 1
    return driver


@pytest.fixture(scope="module")
def job() -> tuple[JobSpec, dict[str, Dataset]]:
    return make_job()


@pytest.fixture(scope="module")
def finished(job: tuple[JobSpec, dict[str, Dataset]]) -> Driver:
    return run_job(*job, seed=1)


def model_of(driver: Driver, party: str) -> ModelRegistered:
    (model,) = driver.registry[party].values()
    assert isinstance(model, ModelRegistered)
    return model


def report_of(driver: Driver) -> EvaluationReport:
    (stored,) = driver.events_of("guest", ReportStored)
    assert isinstance(stored, ReportStored)
    report = decode(stored.report.content)
    assert isinstance(report, EvaluationReport)
    return report


def test_the_joint_model_beats_the_guest_and_meets_the_pooled_one(
    job: tuple[JobSpec, dict[str, Dataset]], finished: Driver
) -> None:
    _, datasets = job
    report = report_of(finished)
    measures = {measure.name: measure.value for measure in report.measures}
    assert measures["n_train"] + measures["n_holdout"] == COMMON
    held_out = [row.id for row in report.rows]
    place = {party: {name: k for k, name in enumerate(datasets[party].ids)} for party in PARTIES}
    training = sorted(set(place["guest"]) & set(place["host"]) - set(held_out))

    def pooled(names: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.hstack([datasets[party].values[[place[party][name] for name in names]] for party in PARTIES])

    label = datasets["guest"].label
    assert label is not None
    mean, scale = pooled(training).mean(axis=0), pooled(training).std(axis=0)
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000)
    reference.fit((pooled(training) - mean) / scale, label[[place["guest"][name] for name in training]])
    scores = reference.decision_function((pooled(held_out) - mean) / scale)
    truth = [row.label for row in report.rows]
    assert abs(measures["auc"] - roc_auc_score(truth, scores)) < 0.01  # 78 rows, rank 3, five passes
    assert measures["auc"] > measures["guest_auc"] + 0.05


def test_stored_halves_score_what_the_report_says(job: tuple[JobSpec, dict[str, Dataset]], finished: Driver) -> None:
    """From the registry alone: fetch each half by its digest, score, add, and meet the guest's report."""
    _, datasets = job
    report, parts = report_of(finished), []
    for reference in model_of(finished, "guest").halves:
        half = decode(finished.stores[reference.party][reference.sha256])
        assert isinstance(half, ModelHalf)
        dataset = datasets[reference.party]
        place = {name: k for k, name in enumerate(dataset.ids)}
        parts.append(score_half(dataset.values[[place[row.id] for row in report.rows]], arrays_of(half)))
    logits = np.ldexp((parts[0] + parts[1]).astype(np.float64), -LOGIT_BITS)
    told = np.array([row.probability for row in report.rows])
    assert np.abs(1 / (1 + np.exp(-logits)) - told).max() < 2.0**-12


def test_both_registries_tell_the_same_model_whatever_the_order_and_the_restarts(
    job: tuple[JobSpec, dict[str, Dataset]], finished: Driver
) -> None:
    again = run_job(*job, seed=2, restores=True)
    models = {encode(model_of(driver, party)) for driver in (finished, again) for party in PARTIES}
    assert len(models) == 1
    assert encode(report_of(finished)) == encode(report_of(again))
    assert list(finished.registry["host"]) == [f"credit/{JOB_ID}"]
