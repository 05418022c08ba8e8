"""Jobs from submission to their end, told as what each house sees and what crosses between them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.job_states import EndedJob, GuestJob, HostJob, NewJob
from schemas.jobs import (
    PIPELINE,
    ApproveJob,
    CancelJob,
    CommandRefused,
    DeclineJob,
    EndJob,
    JobApproved,
    JobAwaitingApproval,
    JobCancelled,
    JobFailed,
    JobRejected,
    JobSuspended,
    Leak,
    Mistake,
    PartyApproved,
    PartyDeclined,
    PartySpec,
    PartyStageSucceeded,
    Privacy,
    ProposeJob,
    Reason,
    Role,
    Stage,
    StartStage,
    SubmitJob,
    TrainSpec,
)
from schemas.record import Record
from schemas.tasks import (
    LocalFault,
    PeerFault,
    StartTask,
    StopTask,
    TaskFailed,
    TaskResumed,
    TaskSuspended,
    TimerFired,
)
from streams.dataset import DatasetProblem
from streams.machine import CancelTimer, Event, SetTimer, ToEvents, ToPeer
from streams.machines.job import JobMachine, Policy
from tests.machines.job_world import (
    ASKING,
    EAGER,
    GUEST,
    HOST,
    JOB,
    SPEC,
    STRANGER,
    World,
    dataset,
    machine,
    small_keys,
    succeeded,
    world,
)

SUBMIT = SubmitJob(JOB, SPEC)
LEAKY = replace(SPEC, accept_leaks=(Leak.SMALL_TABLE, Leak.RARE_COLUMN))


def running(stage: Stage = Stage.ALIGN) -> World:
    """A job in this stage at both parties."""
    there = world()
    there.tell(GUEST, SUBMIT)
    for earlier in PIPELINE[: PIPELINE.index(stage)]:
        there.finish_stage(earlier)
    return there


def last(there: World, party: str) -> Record:
    """The last event that a house saw."""
    return there.events[party][-1]


# --- the good way -------------------------------------------------------------------------------------------------


def test_a_job_runs_every_stage_at_every_party_and_succeeds_everywhere() -> None:
    there = world()
    there.tell(GUEST, SUBMIT)
    for stage in PIPELINE:
        assert there.commands[GUEST][-1][0] == there.commands[HOST][-1][0] == stage
        there.finish_stage(stage)
    stages = ["StageStarted"] * 4
    assert there.types(GUEST) == ["JobAccepted", "JobApproved", "JobScheduled", *stages, "JobSucceeded"]
    assert there.types(HOST) == ["JobAccepted", "JobApproved", *stages, "JobSucceeded"]
    assert there.states == {
        GUEST: EndedJob(JOB, Role.GUEST, SPEC, None),
        HOST: EndedJob(JOB, Role.HOST, SPEC, None),
    }
    assert {type(record) for _, record in there.commands[GUEST]} == {StartTask}
    for party in (GUEST, HOST):
        assert {CancelTimer("deadline"), CancelTimer("patience")} <= set(there.outputs[party])


def test_what_crosses_between_the_parties_is_the_protocol_and_nothing_else() -> None:
    there = world()
    there.tell(GUEST, SUBMIT)
    for stage in PIPELINE:
        there.finish_stage(stage)
    pairs = [(StartStage(JOB, stage), PartyStageSucceeded(JOB, stage)) for stage in PIPELINE]
    expected: list[tuple[str, str, Record]] = [
        (GUEST, HOST, ProposeJob(JOB, SPEC)),
        (HOST, GUEST, PartyApproved(JOB, dataset(HOST).profile, ())),
    ]
    for start, done in pairs:
        expected += [(GUEST, HOST, start), (HOST, GUEST, done)]
    assert there.crossed == [*expected, (GUEST, HOST, EndJob(JOB, None, "", ""))]


def test_a_task_is_started_with_the_own_profile_and_the_leaks_that_all_accepted() -> None:
    there = world(Policy(auto_approve=True, accept_leaks=tuple(Leak)))
    there.tell(GUEST, SubmitJob(JOB, LEAKY))
    for party, role in ((GUEST, Role.GUEST), (HOST, Role.HOST)):
        task = StartTask(JOB, Stage.ALIGN, role, LEAKY, dataset(party).profile, LEAKY.accept_leaks)
        assert there.commands[party] == [(Stage.ALIGN, task)]


def test_no_stage_starts_before_the_one_before_ended_everywhere() -> None:
    there = running(Stage.TRAIN)
    there.tell(HOST, succeeded(HOST, Stage.TRAIN))
    assert StartStage(JOB, Stage.EVALUATE) not in [record for _, _, record in there.crossed]
    there.tell(GUEST, succeeded(GUEST, Stage.TRAIN))
    assert there.crossed[-1] == (GUEST, HOST, StartStage(JOB, Stage.EVALUATE))


def test_every_report_may_come_twice() -> None:
    """The engine delivers once; a machine that does not need to rely on it is easier to believe."""
    once, twice = running(), running()
    for stage in PIPELINE:
        once.finish_stage(stage)
        for party in (GUEST, HOST, GUEST, HOST):
            twice.tell(party, succeeded(party, stage))
    assert twice.states == once.states
    assert twice.events == once.events
    assert twice.crossed == once.crossed


# --- consent ------------------------------------------------------------------------------------------------------


def test_a_host_that_asks_its_operator_waits_for_the_answer() -> None:
    there = world(ASKING)
    there.tell(GUEST, SUBMIT)
    assert there.types(HOST) == ["JobAccepted", "JobAwaitingApproval"]
    assert there.types(GUEST) == ["JobAccepted"]
    there.tell(HOST, ApproveJob(JOB))
    assert there.types(GUEST) == ["JobAccepted", "JobApproved", "JobScheduled", "StageStarted"]


def test_a_policy_answers_for_the_leaks_that_it_names_only() -> None:
    covered = world(Policy(auto_approve=True, accept_leaks=(Leak.RARE_COLUMN, Leak.SMALL_TABLE)))
    covered.tell(GUEST, SubmitJob(JOB, LEAKY))
    assert JobApproved(JOB, HOST, HOST, LEAKY.accept_leaks) in covered.events[HOST]
    uncovered = world(Policy(auto_approve=True, accept_leaks=(Leak.SMALL_TABLE,)))
    uncovered.tell(GUEST, SubmitJob(JOB, LEAKY))
    assert last(uncovered, HOST) == JobAwaitingApproval(JOB, HOST, LEAKY.accept_leaks)


def test_approving_without_naming_every_leak_changes_nothing_and_says_which_is_missing() -> None:
    there = world(ASKING)
    there.tell(GUEST, SubmitJob(JOB, LEAKY))
    before = there.states[HOST]
    there.tell(HOST, ApproveJob(JOB, (Leak.SMALL_TABLE,)))
    refused = last(there, HOST)
    assert isinstance(refused, CommandRefused)
    assert refused.mistakes[0].path == "accept_leaks"
    assert "rare_column" in refused.mistakes[0].message
    assert "small_table" not in refused.mistakes[0].message
    assert there.states[HOST] == before
    there.tell(HOST, ApproveJob(JOB, (Leak.RARE_COLUMN, Leak.SMALL_TABLE)))
    assert there.types(HOST)[-2:] == ["JobApproved", "StageStarted"]


def test_a_host_does_not_tell_what_else_its_policy_would_accept() -> None:
    there = world(Policy(auto_approve=True, accept_leaks=tuple(Leak)))
    there.tell(GUEST, SUBMIT)
    assert (HOST, GUEST, PartyApproved(JOB, dataset(HOST).profile, ())) in there.crossed


def test_a_declined_job_is_over_at_both_with_the_operators_words() -> None:
    there = world(ASKING)
    there.tell(GUEST, SUBMIT)
    there.tell(HOST, DeclineJob(JOB, "not before the audit"))
    words = (Mistake("", "not before the audit"),)
    assert last(there, HOST) == JobRejected(JOB, HOST, Reason.DECLINED, words)
    failed = last(there, GUEST)
    assert isinstance(failed, JobFailed)
    assert (failed.reason, failed.blame, failed.mistakes) == (Reason.DECLINED, HOST, words)
    assert not any(isinstance(record, EndJob) for _, _, record in there.crossed), "the host knows already"


def test_a_guest_does_not_start_on_an_approval_that_leaves_out_a_leak() -> None:
    there = world(ASKING)
    there.tell(GUEST, SubmitJob(JOB, LEAKY))
    there.tell(GUEST, PartyApproved(JOB, dataset(HOST).profile, (Leak.SMALL_TABLE,)), HOST)
    failed = last(there, GUEST)
    assert isinstance(failed, JobFailed)
    assert (failed.reason, failed.blame) == (Reason.LEAK_NOT_ACCEPTED, HOST)
    assert GUEST not in there.commands


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_a_wrong_spec_and_wrong_data_are_told_together_and_nobody_is_asked() -> None:
    problem = DatasetProblem((Mistake("guest.features[0]", "no column 'income'"),))
    there = world(resources={GUEST: problem})
    wrong = replace(SPEC, train=replace(TrainSpec(), algorithm="magic"), align=replace(SPEC.align, id_type="shoe size"))
    there.tell(GUEST, SubmitJob(JOB, wrong))
    rejected = last(there, GUEST)
    assert isinstance(rejected, JobRejected)
    assert rejected.reason is Reason.INVALID_SPEC
    assert [mistake.path for mistake in rejected.mistakes] == ["align.id_type", "train.algorithm", "guest.features[0]"]
    assert there.crossed == []


def test_wrong_data_alone_is_told_as_such() -> None:
    there = world(resources={GUEST: DatasetProblem((Mistake("label", "no column 'left'"),))})
    there.tell(GUEST, SUBMIT)
    assert last(there, GUEST) == JobRejected(JOB, GUEST, Reason.INVALID_DATA, (Mistake("label", "no column 'left'"),))


def test_a_job_submitted_at_the_wrong_party_is_sent_to_the_right_one() -> None:
    there = world()
    there.tell(HOST, SUBMIT)
    rejected = last(there, HOST)
    assert isinstance(rejected, JobRejected)
    assert [mistake.path for mistake in rejected.mistakes] == ["guest.party"]
    assert GUEST in rejected.mistakes[0].message
    assert there.crossed == []


def test_a_submission_without_loaded_data_is_refused_rather_than_run_blind() -> None:
    there = world(resources={GUEST: None})
    there.tell(GUEST, SUBMIT)
    rejected = last(there, GUEST)
    assert isinstance(rejected, JobRejected)
    assert rejected.mistakes[0].path == "guest.dataset"


def test_a_host_without_exchanged_keys_is_a_mistake_of_the_spec() -> None:
    own = JobMachine(GUEST, EAGER, peers=frozenset({STRANGER}))
    step = own.step(own.initial(JOB), Event(SUBMIT, GUEST, dataset(GUEST)))
    (output,) = step.outputs
    assert "hosts[0].party" in str(output)
    assert STRANGER in str(output)


def test_a_host_tells_the_guest_which_part_of_the_spec_it_cannot_serve_but_nothing_of_its_data() -> None:
    secret = "income of 4711 is 83000"
    problem = DatasetProblem(
        (
            Mistake("hosts[0].features[2]", f"no column 'income'; there are age, salary; {secret}"),
            Mistake("hosts[0].dataset", f"row 17: {secret}"),
            Mistake(f"hosts[0].dataset.rows[17].{secret}", "is not a number"),
            Mistake("hosts[0].dataset.ids[3]", "the id bob@example.org occurs twice"),
        )
    )
    there = world(resources={HOST: problem})
    there.tell(GUEST, SUBMIT)
    assert last(there, HOST) == JobRejected(JOB, HOST, Reason.INVALID_DATA, problem.mistakes)
    *_, (sender, receiver, declined) = there.crossed
    assert (sender, receiver) == (HOST, GUEST)
    assert isinstance(declined, PartyDeclined)
    assert [mistake.path for mistake in declined.mistakes] == ["hosts[0].features[2]", "hosts[0].dataset"]
    for word in ("4711", "income", "salary", "bob", "17"):
        assert word not in str(declined)
    failed = last(there, GUEST)
    assert isinstance(failed, JobFailed)
    assert (failed.reason, failed.blame, failed.mistakes) == (Reason.INVALID_DATA, HOST, declined.mistakes)


def test_a_host_does_not_trust_the_guests_validation() -> None:
    there = world()
    there.machines = {HOST: there.machines[HOST]}
    there.tell(HOST, ProposeJob(JOB, small_keys()), GUEST)
    rejected = last(there, HOST)
    assert isinstance(rejected, JobRejected)
    assert [mistake.path for mistake in rejected.mistakes] == ["train.key_bits"]
    assert there.crossed == [(HOST, GUEST, PartyDeclined(JOB, Reason.INVALID_SPEC, rejected.mistakes))]


def test_a_host_declines_a_job_that_does_not_name_it() -> None:
    there = world()
    elsewhere = replace(SPEC, hosts=(PartySpec(STRANGER, "d"),))
    there.give(HOST, ProposeJob(JOB, elsewhere), GUEST)
    rejected = last(there, HOST)
    assert isinstance(rejected, JobRejected)
    assert [mistake.path for mistake in rejected.mistakes] == ["hosts"]


def test_who_proposes_in_another_partys_name_is_declined_and_cannot_block_the_real_job() -> None:
    there = world()
    there.give(HOST, ProposeJob(JOB, SPEC), STRANGER)
    assert there.crossed[-1][:2] == (HOST, STRANGER)
    assert isinstance(there.crossed[-1][2], PartyDeclined)
    assert there.states[HOST] == NewJob(JOB)
    there.waiting.clear()
    there.tell(GUEST, SUBMIT)
    assert isinstance(there.states[HOST], HostJob)


def test_keys_for_tests_need_a_machine_that_was_told_so() -> None:
    own = JobMachine(GUEST, EAGER, least_key_bits=256)
    step = own.step(own.initial(JOB), Event(SubmitJob(JOB, small_keys()), GUEST, dataset(GUEST)))
    assert isinstance(step.state, GuestJob)


def test_a_job_that_the_federation_does_not_allow_is_refused_at_both_ends() -> None:
    train = replace(SPEC.train, privacy=Privacy.TRUSTED_GUEST)
    spec = replace(SPEC, train=train, accept_leaks=(Leak.HOST_ROWS_TO_GUEST,))
    agreed = frozenset({Privacy.SPLIT_LINK})
    guest, host = (JobMachine(party, EAGER, privacy=agreed) for party in (GUEST, HOST))
    refused = guest.step(guest.initial(JOB), Event(SubmitJob(JOB, spec), GUEST, dataset(GUEST)))
    (output,) = refused.outputs
    assert isinstance(output, ToEvents)
    assert isinstance(output.record, JobRejected)
    assert [mistake.path for mistake in output.record.mistakes] == ["train.privacy"]
    declined = host.step(host.initial(JOB), Event(ProposeJob(JOB, spec), GUEST, dataset(HOST)))
    assert isinstance(declined.state, EndedJob)
    assert declined.state.reason is Reason.INVALID_SPEC


# --- the same id again --------------------------------------------------------------------------------------------


def test_an_identical_submission_is_ignored_in_every_phase() -> None:
    there = running()
    before = dict(there.states)
    there.tell(GUEST, SUBMIT)
    assert there.states == before
    there.tell(GUEST, CancelJob(JOB, "enough"))
    count = len(there.events[GUEST])
    there.tell(GUEST, SUBMIT)
    assert len(there.events[GUEST]) == count


def test_another_spec_under_a_used_id_is_refused_and_does_not_disturb_the_job() -> None:
    there = running()
    before = dict(there.states)
    there.tell(GUEST, SubmitJob(JOB, replace(SPEC, label="other")))
    refused = last(there, GUEST)
    assert isinstance(refused, CommandRefused)
    assert (refused.command, refused.mistakes[0].path) == ("SubmitJob", "job_id")
    assert there.states == before
    for stage in PIPELINE:
        there.finish_stage(stage)
    assert "JobSucceeded" in there.types(GUEST)


# --- endings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("party", [GUEST, HOST])
@pytest.mark.parametrize("stage", PIPELINE)
def test_a_failed_task_ends_the_job_everywhere_and_stops_what_may_still_hold_something(
    party: str, stage: Stage
) -> None:
    there = running(stage)
    other = HOST if party == GUEST else GUEST
    detail = "column income has the value 83000"
    there.tell(party, TaskFailed(JOB, stage, party, Reason.TOO_FEW_ROWS, other, detail))
    assert last(there, party) == JobFailed(JOB, party, Reason.TOO_FEW_ROWS, other, f"{stage}: {detail}")
    failed = last(there, other)
    assert isinstance(failed, JobFailed)
    assert (failed.reason, failed.blame) == (Reason.TOO_FEW_ROWS, other)
    assert "83000" not in str(there.crossed), "a detail from inside a house must stay in it"
    for each in (GUEST, HOST):
        stopped = [name for name, record in there.commands[each] if isinstance(record, StopTask)]
        assert stopped == list(PIPELINE[PIPELINE.index(stage) :])
        assert isinstance(there.states[each], EndedJob)


@pytest.mark.parametrize("party", [GUEST, HOST])
def test_a_job_can_be_cancelled_at_either_party(party: str) -> None:
    there = running(Stage.TRAIN)
    there.tell(party, CancelJob(JOB, "wrong month"))
    assert last(there, party) == JobCancelled(JOB, party, "wrong month")
    assert [there.types(each)[-1] for each in (GUEST, HOST)] == ["JobCancelled"] * 2
    assert len([1 for _, _, record in there.crossed if isinstance(record, EndJob)]) == 1


def test_a_job_is_cancelled_while_the_hosts_operator_thinks() -> None:
    there = world(ASKING)
    there.tell(GUEST, SUBMIT)
    there.tell(GUEST, CancelJob(JOB, "enough"))
    assert there.types(HOST)[-1] == "JobCancelled"
    there.tell(HOST, ApproveJob(JOB))
    refused = last(there, HOST)
    assert isinstance(refused, CommandRefused)
    assert "over" in refused.mistakes[0].message


def test_a_guest_relays_an_ending_to_the_other_hosts_but_not_back() -> None:
    """The train stage takes one host for now; the coordinator is written for more."""
    many = replace(SPEC, hosts=(PartySpec(HOST, "d"), PartySpec("hooli", "d"), PartySpec("umbrella", "d")))
    own = machine(GUEST)
    state = GuestJob(JOB, many, dataset(GUEST).profile, Stage.ALIGN)
    step = own.step(state, Event(EndJob(JOB, Reason.INTERNAL_ERROR, "hooli", "x"), "hooli"))
    told = [output.party for output in step.outputs if isinstance(output, ToPeer)]
    assert told == [HOST, "umbrella"]


def test_a_guest_waits_for_every_host_in_consent_and_in_stages() -> None:
    many = replace(SPEC, hosts=(PartySpec(HOST, "d"), PartySpec("hooli", "d")))
    own = machine(GUEST)
    state: Record = GuestJob(JOB, many, dataset(GUEST).profile, Stage.JOB)
    for host in (HOST, "hooli"):
        assert isinstance(state, GuestJob)
        assert state.stage is Stage.JOB
        state = own.step(state, Event(PartyApproved(JOB, dataset(host).profile, ()), host)).state
    for party in ("hooli", GUEST, HOST):
        assert isinstance(state, GuestJob)
        assert state.stage is Stage.ALIGN
        record = succeeded(party, Stage.ALIGN) if party == GUEST else PartyStageSucceeded(JOB, Stage.ALIGN)
        state = own.step(state, Event(record, party)).state
    assert isinstance(state, GuestJob)
    assert state.stage is Stage.TRAIN


@pytest.mark.parametrize("party", [GUEST, HOST])
def test_a_fault_of_the_own_engine_ends_the_job_with_blame_on_the_own_party(party: str) -> None:
    there = running()
    there.tell(party, LocalFault(JOB, Reason.STORAGE_FAILED, "disk full at /srv"))
    assert last(there, party) == JobFailed(JOB, party, Reason.STORAGE_FAILED, party, "disk full at /srv")
    assert "/srv" not in str(there.crossed)


def test_a_fault_before_anything_is_known_is_told_to_the_house() -> None:
    there = world()
    there.tell(GUEST, LocalFault(JOB, Reason.INTERNAL_ERROR, "a bug"))
    assert there.events[GUEST] == [JobFailed(JOB, GUEST, Reason.INTERNAL_ERROR, GUEST, "a bug")]
    assert there.states[GUEST] == EndedJob(JOB, None, None, Reason.INTERNAL_ERROR)


def test_a_fault_of_a_peer_ends_the_job_with_blame_on_it_but_a_strangers_does_not() -> None:
    there = running()
    before = there.states[GUEST]
    there.tell(GUEST, PeerFault(JOB, STRANGER, Reason.PROTOCOL_VIOLATION, "a gap"))
    assert there.states[GUEST] == before
    there.tell(GUEST, PeerFault(JOB, HOST, Reason.PROTOCOL_VIOLATION, "a gap"))
    assert last(there, GUEST) == JobFailed(JOB, GUEST, Reason.PROTOCOL_VIOLATION, HOST, "a gap")


def test_a_peer_cannot_claim_success_or_blame_somebody_outside() -> None:
    there = running(Stage.TRAIN)
    there.give(HOST, EndJob(JOB, None, "", ""), GUEST)
    failed = last(there, HOST)
    assert isinstance(failed, JobFailed)
    assert (failed.reason, failed.blame) == (Reason.PROTOCOL_VIOLATION, GUEST)
    there = running(Stage.TRAIN)
    there.give(HOST, EndJob(JOB, Reason.INTERNAL_ERROR, "somebody", "x" * 10_000), GUEST)
    failed = last(there, HOST)
    assert isinstance(failed, JobFailed)
    assert failed.blame == GUEST
    assert len(failed.detail) < 1_000


# --- time ---------------------------------------------------------------------------------------------------------


def test_timers_are_set_from_the_spec() -> None:
    there = world(ASKING)
    there.tell(GUEST, SUBMIT)
    assert SetTimer("deadline", SPEC.deadline_seconds * 1000) in there.outputs[GUEST]
    assert SetTimer("patience", SPEC.patience_seconds * 1000) in there.outputs[GUEST]
    assert SetTimer("deadline", SPEC.deadline_seconds * 1000) in there.outputs[HOST]


def test_a_silent_host_suspends_the_job_once_and_its_answer_resumes_it() -> None:
    there = world(ASKING)
    there.tell(GUEST, SUBMIT)
    for generation in (1, 2):
        there.tell(GUEST, TimerFired(JOB, "patience", generation))
    suspended = JobSuspended(JOB, GUEST, Stage.JOB, Reason.PEER_SILENT, HOST)
    assert there.events[GUEST][1:] == [suspended]
    there.tell(HOST, ApproveJob(JOB))
    assert there.types(GUEST)[2:5] == ["JobApproved", "JobResumed", "JobScheduled"]
    assert CancelTimer("patience") in there.outputs[GUEST]


def test_a_suspended_task_suspends_the_job_and_resumes_it() -> None:
    there = running(Stage.TRAIN)
    for party, blame in ((GUEST, HOST), (HOST, GUEST)):
        for _ in range(2):
            there.tell(party, TaskSuspended(JOB, Stage.TRAIN, party, Reason.PEER_SILENT, blame))
        assert last(there, party) == JobSuspended(JOB, party, Stage.TRAIN, Reason.PEER_SILENT, blame)
        for _ in range(2):
            there.tell(party, TaskResumed(JOB, Stage.TRAIN, party))
        assert there.types(party)[-2:] == ["JobSuspended", "JobResumed"]


def test_a_host_that_does_not_finish_a_stage_is_named() -> None:
    there = running(Stage.TRAIN)
    there.tell(GUEST, TimerFired(JOB, "patience", 1))
    assert "JobSuspended" not in there.types(GUEST), "the own task is not done: nobody else is waited for"
    there.tell(GUEST, succeeded(GUEST, Stage.TRAIN))
    there.tell(GUEST, TimerFired(JOB, "patience", 2))
    assert last(there, GUEST) == JobSuspended(JOB, GUEST, Stage.TRAIN, Reason.PEER_SILENT, HOST)
    there.tell(HOST, succeeded(HOST, Stage.TRAIN))
    assert there.types(GUEST)[-2:] == ["JobResumed", "StageStarted"]


@pytest.mark.parametrize(
    ("prepare", "party", "blame"),
    [
        ([SUBMIT], GUEST, HOST),
        ([SUBMIT], HOST, HOST),
        ([SUBMIT, ApproveJob(JOB)], GUEST, GUEST),
        ([SUBMIT, ApproveJob(JOB)], HOST, HOST),
        ([SUBMIT, ApproveJob(JOB), succeeded(GUEST, Stage.ALIGN)], GUEST, HOST),
        ([SUBMIT, ApproveJob(JOB), succeeded(HOST, Stage.ALIGN)], HOST, GUEST),
        ([SUBMIT, ApproveJob(JOB), TaskSuspended(JOB, Stage.ALIGN, GUEST, Reason.PEER_SILENT, HOST)], GUEST, HOST),
        ([SUBMIT, ApproveJob(JOB), TaskSuspended(JOB, Stage.ALIGN, HOST, Reason.PEER_SILENT, GUEST)], HOST, GUEST),
    ],
)
def test_at_the_deadline_the_blame_is_on_the_party_that_was_waited_for(
    prepare: list[Record], party: str, blame: str
) -> None:
    there = world(ASKING)
    for record in prepare:
        at = HOST if isinstance(record, ApproveJob) else getattr(record, "party", GUEST)
        there.tell(at, record)
    there.tell(party, TimerFired(JOB, "deadline", 1))
    failed = last(there, party)
    assert isinstance(failed, JobFailed)
    assert (failed.reason, failed.blame) == (Reason.DEADLINE_EXCEEDED, blame)
    assert {there.types(each)[-1] for each in (GUEST, HOST)} == {"JobFailed"}


# --- who may say what ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("party", [GUEST, HOST])
def test_a_stranger_changes_nothing_whatever_it_sends(party: str) -> None:
    there = running(Stage.TRAIN)
    before = there.states[party]
    for record in (
        EndJob(JOB, Reason.CANCELLED, GUEST, ""),
        PartyStageSucceeded(JOB, Stage.TRAIN),
        StartStage(JOB, Stage.EVALUATE),
        CancelJob(JOB, "x"),
        succeeded(party, Stage.TRAIN),
        TimerFired(JOB, "deadline", 1),
    ):
        step = there.give(party, record, STRANGER)
        assert step.state == before
        assert step.outputs == ()


@pytest.mark.parametrize("record", [CancelJob(JOB, "x"), succeeded(HOST, Stage.TRAIN), TimerFired(JOB, "deadline", 1)])
def test_a_peer_cannot_speak_as_this_party(record: Record) -> None:
    there = running(Stage.TRAIN)
    there.tell(HOST, record, GUEST)
    failed = last(there, HOST)
    assert isinstance(failed, JobFailed)
    assert (failed.reason, failed.blame) == (Reason.PROTOCOL_VIOLATION, GUEST)


def test_control_records_in_the_own_command_topic_are_not_believed() -> None:
    """Clients may write to the command topic; what a peer says comes sealed, by another door."""
    there = running(Stage.TRAIN)
    before = there.states[GUEST]
    there.tell(GUEST, PartyStageSucceeded(JOB, Stage.TRAIN))
    there.tell(GUEST, EndJob(JOB, None, "", ""))
    assert there.states[GUEST] == before


@pytest.mark.parametrize("command", [CancelJob(JOB, "x"), ApproveJob(JOB), DeclineJob(JOB, "x")])
def test_commands_about_an_unknown_job_get_an_answer(command: Record) -> None:
    there = world()
    there.tell(GUEST, command)
    assert there.types(GUEST) == ["CommandRefused"]
    assert there.states[GUEST] == NewJob(JOB)


def test_a_leak_of_the_algorithm_has_to_be_in_the_spec() -> None:
    there = world()
    trusting = replace(SPEC, train=replace(TrainSpec(), privacy=Privacy.TRUSTED_GUEST))
    there.tell(GUEST, SubmitJob(JOB, trusting))
    rejected = last(there, GUEST)
    assert isinstance(rejected, JobRejected)
    assert [mistake.path for mistake in rejected.mistakes] == ["accept_leaks"]
