"""Small alignments for tests: tables, machines with their tasks waiting, and what came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schemas.alignment import (
    AlignmentReady,
)
from schemas.alignment_states import AlignEnded, AlignWaiting, GuestAlignment, HostAlignment
from schemas.jobs import Stage
from schemas.record import Record
from schemas.tasks import (
    TaskFailed,
    TaskSucceeded,
)
from streams.dataset import Dataset
from streams.machines.align import AlignMachine
from streams.machines.align.protocol import TRANSITIONS
from tests.machines.driver import Driver, Entry, Tamper
from tests.machines.parties import JOB_ID, make_dataset, make_spec, role_of, row_ids, secret_of, start_task
from tests.machines.tables import check_entries

GUEST_IDS = [f"person-{n}" for n in range(23)]
HOST_IDS = [f"person-{n}" for n in range(40, 7, -1)]
THIRD_IDS = [f"person-{n}" for n in (1, 9, 11, 13, 15, 17, 99, 20)]
CHUNK = 4


def datasets_for(**ids: Sequence[str]) -> dict[str, Dataset]:
    return {party: make_dataset(names) for party, names in ids.items()}


def two_tables() -> dict[str, Dataset]:
    return datasets_for(guest=GUEST_IDS, host=HOST_IDS)


def build(
    datasets: dict[str, Dataset],
    *,
    seed: int | None = None,
    tamper: Tamper | None = None,
    restores: bool = False,
    chunk_points: int = CHUNK,
    job_id: str = JOB_ID,
    secrets: dict[str, bytes] | None = None,
) -> Driver:
    """Machines that have their StartTasks waiting."""
    hosts = sorted(set(datasets) - {"guest"})
    spec = make_spec(hosts)
    machines = {
        (party, "align"): AlignMachine(party, (secrets or {}).get(party, secret_of(party)), chunk_points)
        for party in datasets
    }
    driver = Driver(dict(machines), job_id=job_id, seed=seed, tamper=tamper, restores=restores)
    for party, dataset in datasets.items():
        task = start_task(Stage.ALIGN, role_of(party), spec, dataset, job_id)
        driver.send(party, "align", task, dataset)
    return driver


def joint_rows(driver: Driver, party: str) -> AlignmentReady:
    """What the party's train and evaluate stages were given."""
    (to_train,) = driver.handed_over[party, "train"]
    (to_evaluate,) = driver.handed_over[party, "evaluate"]
    assert to_train == to_evaluate
    assert isinstance(to_train, AlignmentReady)
    return to_train


def joint_ids(driver: Driver, datasets: dict[str, Dataset], party: str) -> list[str]:
    return row_ids(datasets, party, joint_rows(driver, party).rows.content)


def failure(driver: Driver, party: str) -> TaskFailed:
    (event,) = driver.events_of(party, TaskFailed)
    assert isinstance(event, TaskFailed)
    assert not driver.events_of(party, TaskSucceeded)
    assert isinstance(driver.states[party, "align"], AlignEnded)
    return event


def phase_of(state: Record) -> str:
    match state:
        case AlignWaiting():
            return "waiting"
        case AlignEnded():
            return "ended"
        case GuestAlignment() | HostAlignment():
            return str(state.phase)
    raise AssertionError(state)


def check_table(entries: Iterable[Entry]) -> set[tuple[str, str, type[Record]]]:
    return check_entries(entries, TRANSITIONS, lambda party: str(role_of(party)), phase_of)
