"""The register of cohorts: what jobs of the same rows may reveal together, and who is refused for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schemas.cohort_states import CohortLedger
from schemas.cohorts import AskCohort, CohortEntry, CohortGranted, CohortRefused, SettleCohort
from schemas.jobs import Leak, Reason, Role, Stage
from schemas.record import Blob, Record
from schemas.tasks import LocalFault
from streams.kernels.cohorts import tag_rows
from streams.kernels.leak_budget import MINIMUM_SUPPORT
from streams.machine import Event, Step, ToStage
from streams.machines.cohort import CohortMachine

BANK, SHOP = "bank", "shop"
LEDGER = "ledger-1"
PEOPLE = [f"person-{n}" for n in range(2000)]
COLUMNS = 4
#: So many rows must two cohorts of this width differ in.
NEEDED = MINIMUM_SUPPORT * COLUMNS
MACHINE = CohortMachine(BANK)


def cohort_of(people: Sequence[str], ones: Sequence[str] = ()) -> Blob:
    labels = np.isin(people, ones).astype(np.int8)
    return Blob.of(tag_rows(b"k" * 32, people, labels))


def ask(
    job: str, people: Sequence[str], *, limit: float = 1e9, accepted: tuple[Leak, ...] = (), **entry: Any
) -> AskCohort:
    rows = entry.pop("rows", None) or cohort_of(people)
    asked = CohortEntry(job, SHOP, rows, len(people), "string", COLUMNS, passes=10, bits=1000)
    return AskCohort(LEDGER, Role.GUEST, "people", "churn", replace(asked, **entry), limit, accepted)


def tell(state: Record, *records: Record) -> tuple[CohortLedger, Record | None]:
    """The ledger after these, and the answer to the last, which must go to the train task of the job."""
    answer = None
    for record in records:
        step = MACHINE.step(state, Event(record, BANK))
        state, answer = step.state, None
        for output in step.outputs:
            assert isinstance(output, ToStage) and output.stage == Stage.TRAIN
            assert isinstance(output.record, CohortGranted | CohortRefused) and output.key == output.record.job_id
            answer = output.record
    assert isinstance(state, CohortLedger)
    return state, answer


def ledger_of(*asks: AskCohort) -> CohortLedger:
    """A ledger in which all of these were granted."""
    state: Record = MACHINE.initial(LEDGER)
    for each in asks:
        state, answer = tell(state, each)
        assert answer == CohortGranted(each.entry.job)
    assert isinstance(state, CohortLedger)
    return state


def test_the_first_job_is_written_down_in_the_step_that_grants_it() -> None:
    first = ask("a", PEOPLE)
    state = ledger_of(first)
    assert state.entries == (first.entry,)
    assert (state.role, state.dataset, state.label) == (Role.GUEST, "people", "churn")


@pytest.mark.parametrize("differing", [1, 10, NEEDED - 1])
@pytest.mark.parametrize("where", ["fewer", "more", "both", "labels"])
def test_a_cohort_that_differs_in_few_rows_is_refused_with_job_and_number(differing: int, where: str) -> None:
    people = PEOPLE[:1000]
    first = ask("job-of-march", people)
    others = {
        "fewer": people[differing:],
        "more": PEOPLE[: 1000 + differing],
        "both": [*people[differing // 2 :], *PEOPLE[1000 : 1000 + differing - differing // 2]],
        "labels": people,
    }[where]
    rows = cohort_of(people, people[:differing]) if where == "labels" else None
    state, answer = tell(ledger_of(first), ask("b", others, rows=rows))
    assert isinstance(answer, CohortRefused)
    assert (answer.job_id, answer.leak) == ("b", Leak.OVERLAPPING_COHORT)
    assert "job job-of-march" in answer.detail and f" {differing} rows" in answer.detail
    assert f"at least {NEEDED}" in answer.detail and "'churn'" in answer.detail
    assert state.entries == (first.entry,), "a job that was refused spends nothing"


def test_cohorts_that_differ_in_enough_rows_or_in_none_or_share_none_are_granted() -> None:
    people = PEOPLE[:1000]
    first = ask("a", people)
    for others in (people[NEEDED:], PEOPLE[: 1000 + NEEDED], people, people[::-1], PEOPLE[1000:1050]):
        ledger_of(first, ask("b", others))


def test_the_wider_job_decides_how_many_rows_are_enough() -> None:
    people, others = PEOPLE[:1000], PEOPLE[NEEDED:1000]
    for widths in ((COLUMNS, COLUMNS + 1), (COLUMNS + 1, COLUMNS)):
        first, second = (
            ask(job, rows, columns=width) for job, rows, width in zip("ab", (people, others), widths, strict=True)
        )
        _, answer = tell(ledger_of(first), second)
        assert isinstance(answer, CohortRefused) and answer.leak is Leak.OVERLAPPING_COHORT


def test_the_nearest_of_the_earlier_jobs_is_named_wherever_it_is_in_the_ledger() -> None:
    far = ask("far", PEOPLE[:1000], accepted=tuple(Leak))
    near = ask("near", PEOPLE[3:1000], accepted=tuple(Leak))
    for state in (ledger_of(far, near), ledger_of(near, far)):
        _, answer = tell(state, ask("c", PEOPLE[4:1000]))
        assert isinstance(answer, CohortRefused) and "job near in 1 rows" in answer.detail


def test_jobs_of_the_same_rows_share_one_budget_even_when_labels_changed() -> None:
    people = PEOPLE[:1000]
    state = ledger_of(ask("a", people), ask("b", people, limit=2000))
    _, answer = tell(state, ask("c", people, limit=2999))
    assert isinstance(answer, CohortRefused) and answer.leak is Leak.SMALL_TABLE
    assert (
        "1000 bits to shop" in answer.detail and "2 earlier jobs of the same rows (a, b) revealed 2000" in answer.detail
    )
    assert "limit of 2999 bits" in answer.detail
    _, answer = tell(state, ask("c", people, limit=3000))
    assert answer == CohortGranted("c")
    relabelled = cohort_of(people, people[:NEEDED])
    _, answer = tell(state, ask("d", people, rows=relabelled, limit=2999))
    assert isinstance(answer, CohortRefused) and answer.leak is Leak.SMALL_TABLE


def test_other_rows_have_a_budget_of_their_own() -> None:
    ledger_of(ask("a", PEOPLE[:1000], limit=1000), ask("b", PEOPLE[1000:], limit=1000))


@pytest.mark.parametrize("leak", [Leak.OVERLAPPING_COHORT, Leak.SMALL_TABLE])
def test_each_leak_is_accepted_by_its_own_name_and_the_job_counts_all_the_same(leak: Leak) -> None:
    people = PEOPLE[:1000]
    state = ledger_of(ask("a", people))
    others = people[1:] if leak is Leak.OVERLAPPING_COHORT else people
    limit = 1e9 if leak is Leak.OVERLAPPING_COHORT else 1999.0
    rest = tuple(each for each in Leak if each is not leak)
    _, answer = tell(state, ask("b", others, limit=limit, accepted=rest))
    assert isinstance(answer, CohortRefused) and answer.leak is leak
    state, answer = tell(state, ask("b", others, limit=limit, accepted=(leak,)))
    assert answer == CohortGranted("b") and [entry.job for entry in state.entries] == ["a", "b"]


def test_ids_of_another_type_cannot_be_compared_and_are_refused() -> None:
    state = ledger_of(ask("a", PEOPLE[:1000]))
    _, answer = tell(state, ask("b", PEOPLE[1000:], id_type="email"))
    assert isinstance(answer, CohortRefused) and answer.leak is Leak.OVERLAPPING_COHORT
    assert "email" in answer.detail and "align.id_type string" in answer.detail


def test_asking_again_gets_the_same_answer_and_one_entry() -> None:
    first = ask("a", PEOPLE, limit=1000)
    state, answer = tell(ledger_of(first), first)
    assert answer == CohortGranted("a") and state.entries == (first.entry,)


def test_a_job_id_that_is_used_again_for_other_rows_is_another_job() -> None:
    state, answer = tell(ledger_of(ask("a", PEOPLE[:1000])), ask("a", PEOPLE[1:1000]))
    assert isinstance(answer, CohortRefused) and len(state.entries) == 1


def test_what_a_job_came_to_replaces_what_it_might_have_come_to() -> None:
    people = PEOPLE[:1000]
    state = ledger_of(ask("a", people), ask("b", people))
    state, answer = tell(state, SettleCohort(LEDGER, "a", 3, 300))
    assert answer is None
    assert [(entry.job, entry.passes, entry.bits) for entry in state.entries] == [("a", 3, 300), ("b", 10, 1000)]
    _, answer = tell(state, ask("c", people, limit=2300))
    assert answer == CohortGranted("c")
    _, answer = tell(state, ask("c", people, limit=2299))
    assert isinstance(answer, CohortRefused)


def test_settling_never_gives_more_than_was_asked_for_and_no_pass_leaves_no_trace() -> None:
    state, _ = tell(ledger_of(ask("a", PEOPLE)), SettleCohort(LEDGER, "a", 99, 9999))
    assert (state.entries[0].passes, state.entries[0].bits) == (10, 1000)
    state, _ = tell(state, SettleCohort(LEDGER, "a", 0, 0), SettleCohort(LEDGER, "unheard-of", 1, 1))
    assert state.entries == ()


def test_strangers_and_faults_change_nothing() -> None:
    state = ledger_of(ask("a", PEOPLE))
    assert MACHINE.step(state, Event(ask("b", PEOPLE), SHOP)) == Step(state)
    assert MACHINE.step(state, Event(SettleCohort(LEDGER, "a", 0, 0), SHOP)) == Step(state)
    assert MACHINE.step(state, Event(LocalFault(LEDGER, Reason.STORAGE_FAILED, "x"), BANK)) == Step(state)


def test_a_cohort_of_another_size_is_told_apart_without_fetching_its_rows() -> None:
    """The store may be far away, and a ledger long."""
    entry = replace(ask("a", PEOPLE[:1000]).entry, rows=Blob(b"x" * 32, 8000))
    state = CohortLedger(LEDGER, Role.GUEST, "people", "churn", (entry,))
    _, answer = tell(state, ask("b", PEOPLE[: 1000 + NEEDED]))
    assert answer == CohortGranted("b")
    with pytest.raises(LookupError):
        tell(state, ask("b", PEOPLE[: 999 + NEEDED]))
