"""Auditors of two parties: who agrees on what, which record is named when they do not, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from schemas.audit import EnvelopesCrossed
from schemas.audit_statements import (
    AUDIT,
    ENTRY_BYTES,
    INTERVAL,
    AuditContradicted,
    AuditCountersigned,
    AuditStatement,
    DifferenceKind,
)
from schemas.audit_states import AuditedJob
from schemas.codec import encode
from schemas.digests import digest_of
from schemas.jobs import JobAccepted, Reason, Role
from schemas.record import Record
from schemas.tasks import PeerFault
from streams.kernels.cross_signing import AuditWord, signed_bytes
from streams.kernels.merkle import tree_root
from streams.kernels.trails import Entry, StreamName
from streams.machine import Event, RefusedError
from streams.machines.audit.lists import MOST_OPEN
from streams.machines.audit.machine import MOST_REPEATS, MOST_WAITING, REPEAT, SETTLE, SPEAK
from tests.machines.audit_cases import (
    ACME,
    BACK,
    GLOBEX,
    JOB,
    MANIFEST,
    OUT,
    Keys,
    Sealed,
    contradicted,
    countersigned,
    crossed,
    make_driver,
    make_machine,
    over,
    said,
    sealed,
    speak,
    tell,
)
from tests.machines.driver import Delivery, Driver
from tests.machines.job_world import SPEC


def run_job(
    at_acme: list[Sealed],
    at_globex: list[Sealed],
    *,
    steps: int = 50,
    is_over: bool = True,
    driver: Driver | None = None,
) -> Driver:
    """What acme sent to globex, by each party's list, in steps of so many records; then the job's end."""
    driver = driver or make_driver()
    for start in range(0, max(len(at_acme), len(at_globex)), steps):
        for party, records in ((ACME, at_acme), (GLOBEX, at_globex)):
            if part := records[start : start + steps]:
                tell(driver, party, crossed(party, OUT, part))
    if is_over:
        tell(driver, ACME, over(ACME))
        tell(driver, GLOBEX, over(GLOBEX))
    speak(driver)
    return driver


def refuse(driver: Driver, word: Record, sender: str = ACME) -> str:
    """Why globex does not take it."""
    machine = driver.machines[GLOBEX, AUDIT]
    with pytest.raises(RefusedError) as refused:
        machine.step(driver.states[GLOBEX, AUDIT], Event(word, sender))
    return str(refused.value)


def signed(word: AuditWord, party: str = ACME) -> AuditWord:
    return replace(word, signature=Keys(party).sign(signed_bytes(word)))


def test_both_cut_at_the_same_places_and_sign_what_the_other_signed() -> None:
    records = sealed(2 * INTERVAL + 44)
    driver = run_job(records, records, steps=30)
    roots = {
        count: tree_root([Entry(s, c, d.hex()).leaf for s, c, d in records[:count]])
        for count in (INTERVAL, 2 * INTERVAL, len(records))
    }
    for party in (ACME, GLOBEX):
        told = {(each.count, each.root, each.is_final) for each in said(driver, party)}
        assert told == {(count, root, count == len(records)) for count, root in roots.items()}
        assert max(each.count for each in countersigned(driver, party)) == len(records)
        assert contradicted(driver, party) == []
        (stream,) = driver.states[party, AUDIT].streams  # type: ignore[attr-defined]
        assert (stream.said, stream.confirmed, stream.agreed) == (len(records),) * 3
        assert len(stream.intervals) == 1, "what both have signed is kept as hashes"
        assert len(encode(driver.states[party, AUDIT])) < 700
    # Each has what the other said and answered, as it said it.
    assert countersigned(driver, GLOBEX)[-1] in [r for r in driver.results[ACME] if isinstance(r, AuditCountersigned)]


def test_a_running_job_is_signed_by_count_and_its_rest_at_the_end() -> None:
    driver = run_job(sealed(INTERVAL + 5), sealed(INTERVAL + 5), is_over=False)
    assert [each.count for each in said(driver, ACME)] == [INTERVAL]
    tell(driver, ACME, over(ACME))
    speak(driver)
    assert [each.count for each in said(driver, ACME)] == [INTERVAL, INTERVAL + 5]
    assert countersigned(driver, GLOBEX)[-1].count == INTERVAL + 5, "also while its own job goes on"


def test_what_is_said_holds_the_spec_that_was_accepted_and_the_manifest() -> None:
    driver = make_driver()
    for party, role in ((ACME, Role.GUEST), (GLOBEX, Role.HOST)):
        tell(driver, party, JobAccepted(JOB, party, role, SPEC, None))
    run_job(sealed(3), sealed(3), driver=driver)
    assert {(each.spec, each.manifest) for each in said(driver, ACME)} == {(digest_of(SPEC), MANIFEST)}
    other = make_driver()
    tell(other, ACME, JobAccepted(JOB, ACME, Role.GUEST, SPEC, None))
    tell(other, GLOBEX, JobAccepted(JOB, GLOBEX, Role.HOST, replace(SPEC, name="other"), None))
    run_job(sealed(3), sealed(3), driver=other)
    assert {each.kind for each in contradicted(other, GLOBEX)} == {DifferenceKind.OTHER_SPEC}


Edit = Callable[[list[Sealed]], object]
FAKE = b"\xef" * 32


@pytest.mark.parametrize("at", [0, 7, INTERVAL - 1, INTERVAL, 2 * INTERVAL + 3])
@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (lambda at, r: r.pop(at), DifferenceKind.SKIPPED),
        (lambda at, r: r.insert(at, r[at]), DifferenceKind.INSERTED),
        (lambda at, r: r.insert(at + 1, (r[at][0], 1, FAKE)), DifferenceKind.INSERTED),
        (lambda at, r: r.__setitem__(at, (r[at][0], 0, FAKE)), DifferenceKind.ALTERED),
    ],
)
def test_a_host_that_drops_doubles_or_alters_a_record_is_found_and_the_record_named(
    edit: Callable[[int, list[Sealed]], object], kind: DifferenceKind, at: int
) -> None:
    honest, altered = sealed(2 * INTERVAL + 44), sealed(2 * INTERVAL + 44)
    edit(at, altered)
    driver = run_job(honest, altered)
    speak(driver, SETTLE, SPEAK)
    first = next(index for index, record in enumerate(altered) if record != honest[index])
    named = altered[first] if kind is DifferenceKind.INSERTED else honest[first]
    for party in (ACME, GLOBEX):
        (word,) = contradicted(driver, party)
        assert (word.kind, (word.sequence, word.chunk_index)) == (kind, named[:2]), party
        assert Keys(ACME).has_signed(party, signed_bytes(word), word.signature)
        assert word in driver.results[ACME] and word in driver.results[GLOBEX], "the other side has it"
        agreed = max((each.count for each in countersigned(driver, party)), default=0)
        assert agreed <= first, "nothing that lies behind the difference is signed"


def test_what_crosses_after_the_end_is_signed_as_well() -> None:
    driver = run_job(sealed(9), sealed(9))
    assert countersigned(driver, GLOBEX)[-1].count == 9
    run_job(sealed(4, start=9), sealed(4, start=9), driver=driver)
    assert [countersigned(driver, party)[-1].count for party in (ACME, GLOBEX)] == [13, 13]


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_difference_after_what_both_have_signed_is_named_also_if_one_does_not_know_that(*, is_lost: bool) -> None:
    driver = make_driver()
    if is_lost:
        driver.tamper = lambda delivery, record: (
            [] if isinstance(record, AuditCountersigned) and record.party == ACME else [record]
        )
    run_job(sealed(9), sealed(9), driver=driver)
    run_job(sealed(4, start=9), [*sealed(2, start=9), (11, 0, FAKE), *sealed(1, start=12)], driver=driver)
    for party in (ACME, GLOBEX):
        assert [(word.kind, word.sequence) for word in contradicted(driver, party)] == [(DifferenceKind.ALTERED, 11)]


def test_a_list_that_is_too_short_and_altered_is_contradicted_once() -> None:
    driver = run_job(sealed(13), [*sealed(5), (5, 0, FAKE), *sealed(4, start=6)])
    speak(driver, SETTLE, SPEAK)
    tell(driver, GLOBEX, crossed(GLOBEX, OUT, sealed(3, start=10)))
    speak(driver, SETTLE, SPEAK)
    for party in (ACME, GLOBEX):
        assert [(word.kind, word.sequence) for word in contradicted(driver, party)] == [(DifferenceKind.ALTERED, 5)]


def test_a_contradiction_is_told_once_whatever_follows() -> None:
    driver = run_job(sealed(INTERVAL), sealed(INTERVAL, "x"), is_over=False)
    assert len(contradicted(driver, ACME)) == len(contradicted(driver, GLOBEX)) == 1
    more = sealed(INTERVAL, start=INTERVAL)
    run_job(more, more, driver=driver)
    assert len(contradicted(driver, ACME)) == len(contradicted(driver, GLOBEX)) == 1


def test_a_list_that_is_too_short_is_contradicted_when_there_was_time_and_heals() -> None:
    records = sealed(20)
    driver = run_job(records, records[:15])
    assert contradicted(driver, ACME) == contradicted(driver, GLOBEX) == [], "records may be under way"
    speak(driver, SETTLE)
    for party in (ACME, GLOBEX):
        (word,) = contradicted(driver, party)
        assert (word.kind, word.sequence) == (DifferenceKind.NOT_TAKEN, 15)
    speak(driver, SETTLE, SPEAK)
    assert len(contradicted(driver, GLOBEX)) == 1, "told once"
    tell(driver, GLOBEX, crossed(GLOBEX, OUT, records[15:]))
    speak(driver)
    assert [countersigned(driver, party)[-1].count for party in (ACME, GLOBEX)] == [20, 20]


def test_records_that_nobody_sent_are_named_when_there_was_time() -> None:
    driver = run_job(sealed(15), sealed(20))
    speak(driver, SETTLE)
    for party in (ACME, GLOBEX):
        (word,) = contradicted(driver, party)
        assert (word.kind, word.sequence) == (DifferenceKind.NOT_SENT, 15)


def test_a_party_whose_peer_is_ahead_waits_and_then_signs() -> None:
    records = sealed(INTERVAL)
    driver = make_driver()
    tell(driver, GLOBEX, crossed(GLOBEX, OUT, records[:1]))
    tell(driver, ACME, crossed(ACME, OUT, records))
    speak(driver)
    assert countersigned(driver, GLOBEX) == []
    tell(driver, GLOBEX, crossed(GLOBEX, OUT, records[1:]))
    speak(driver)
    assert [each.count for each in countersigned(driver, GLOBEX)] == [INTERVAL]


# --- what is lost, comes twice, or comes late ---


def test_statements_that_were_lost_are_said_again_until_they_are_answered() -> None:
    driver = make_driver()
    lost: list[Record] = []

    def lose(delivery: Delivery, record: Record) -> list[Record]:
        lost.append(record)
        return [] if len(lost) <= 4 else [record]

    driver.tamper = lose
    run_job(sealed(9), sealed(9), driver=driver)
    assert countersigned(driver, ACME) == []
    speak(driver, REPEAT, SPEAK)
    assert [countersigned(driver, party)[-1].count for party in (ACME, GLOBEX)] == [9, 9]
    assert REPEAT not in driver.timers[ACME, AUDIT]
    assert len(said(driver, ACME)) == 1, "said again, written down once"


def test_a_peer_that_never_answers_is_not_told_for_ever() -> None:
    driver = make_driver()
    driver.tamper = lambda delivery, record: []
    run_job(sealed(9), sealed(9), driver=driver)
    speak(driver, REPEAT)
    assert len([d for d in driver.wire if d.sender == ACME]) == 1 + MOST_REPEATS


def test_a_job_that_is_not_known_yet_is_passed_over_and_leaves_nothing() -> None:
    driver = run_job(sealed(9), [], is_over=False)
    tell(driver, ACME, over(ACME))
    speak(driver)
    assert len(said(driver, ACME)) == 1 and driver.states[GLOBEX, AUDIT] == AuditedJob(JOB)
    run_job([], sealed(9), driver=driver)
    speak(driver, REPEAT, SPEAK)
    assert [countersigned(driver, party)[-1].count for party in (ACME, GLOBEX)] == [9, 9]


def test_a_statement_that_comes_twice_is_answered_twice_and_written_down_once() -> None:
    driver = make_driver()
    driver.tamper = lambda delivery, record: [record, record]
    run_job(sealed(9), sealed(9), driver=driver)
    assert [len(countersigned(driver, party)) for party in (ACME, GLOBEX)] == [1, 1]
    answers = len(driver.wire)
    driver.send_as(ACME, GLOBEX, AUDIT, said(driver, ACME)[-1])
    driver.run()
    speak(driver)
    assert len(driver.wire) == answers + 2, "the statement, and its answer: the first one may have been lost"
    assert [len(countersigned(driver, party)) for party in (ACME, GLOBEX)] == [1, 1]


def test_a_house_that_is_away_for_long_costs_little_and_agrees_in_the_end() -> None:
    """Neither entries of all intervals are kept, nor all statements that wait."""
    records = sealed((2 * MOST_OPEN + 5) * INTERVAL + 3)
    driver = make_driver()
    tell(driver, GLOBEX, crossed(GLOBEX, OUT, records[:1]))
    for start in range(0, len(records), 1000):
        tell(driver, ACME, crossed(ACME, OUT, records[start : start + 1000]))
        speak(driver)
    for party in (ACME, GLOBEX):
        (stream,) = driver.states[party, AUDIT].streams  # type: ignore[attr-defined]
        assert len(stream.waiting) <= MOST_WAITING
        assert len(encode(driver.states[party, AUDIT])) < (MOST_OPEN + 3) * (INTERVAL * ENTRY_BYTES + 700)
    for start in range(1, len(records), 1000):
        tell(driver, GLOBEX, crossed(GLOBEX, OUT, records[start : start + 1000]))
    tell(driver, ACME, over(ACME))
    tell(driver, GLOBEX, over(GLOBEX))
    speak(driver)
    assert [countersigned(driver, party)[-1].count for party in (ACME, GLOBEX)] == [len(records)] * 2
    assert contradicted(driver, ACME) == contradicted(driver, GLOBEX) == []


def test_a_step_takes_the_same_from_a_state_that_was_restored() -> None:
    records = sealed(2 * INTERVAL + 44)
    kept, restored = (run_job(records, records, driver=make_driver(restores=each)) for each in (False, True))
    assert kept.transcript() == restored.transcript()


# --- what is refused ---


@pytest.fixture
def known() -> tuple[Driver, AuditStatement]:
    """Two parties in the middle of a job, and a statement that globex would take."""
    driver = run_job(sealed(INTERVAL + 20), sealed(INTERVAL + 20), is_over=False)
    records = sealed(INTERVAL + 20)
    leaves = [Entry(s, c, d.hex()).leaf for s, c, d in records]
    word = signed(
        AuditStatement(
            JOB, ACME, *OUT, MANIFEST, b"", INTERVAL, INTERVAL + 20, tree_root(leaves), True,
            b"".join(leaves[INTERVAL:]), b"",
        )
    )  # fmt: skip
    assert isinstance(word, AuditStatement)
    driver.machines[GLOBEX, AUDIT].step(driver.states[GLOBEX, AUDIT], Event(word, ACME))
    return driver, word


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"manifest": b"x" * 32}, "acme signed under the manifest 7878787878787878, and globex knows 6d616e6966657374"),
        ({"party": GLOBEX}, "acme sent a word that is not its own"),
        ({"sender": "initech"}, "acme speaks of a stream in which globex and acme are not the two ends"),
        ({"receiver": "initech"}, "acme speaks of a stream in which globex and acme are not the two ends"),
        ({"origin": "x" * 9999}, "acme speaks of a stream between stages that do not speak to each other"),
        ({"stage": "align"}, "acme speaks of a stream between stages that do not speak to each other"),
        ({"count": 0}, "acme speaks of a count of records that cannot be"),
        ({"count": 2**62}, "acme speaks of a count of records that cannot be"),
        ({"start": 0}, "acme sent what is no AuditStatement: it is not about one interval of 128 records"),
        ({"entries": b"x" * 900_000}, "acme sent what is no AuditStatement: its entries are not as many as it says"),
        ({"root": b"x" * 900_000}, "acme sent what is no AuditStatement: its root has another length"),
        ({"spec": b"x" * 900_000}, "acme sent what is no AuditStatement: the digest of the spec has another length"),
    ],
)
def test_a_statement_that_cannot_be_is_refused_in_the_name_of_its_sender(
    known: tuple[Driver, AuditStatement], change: dict[str, object], words: str
) -> None:
    driver, word = known
    told = refuse(driver, signed(replace(word, **change)))  # type: ignore[arg-type]
    assert told.startswith(words) and len(told) < 300


@pytest.mark.parametrize(
    "change", [{"count": INTERVAL + 19, "entries": b"x" * 19 * ENTRY_BYTES}, {"is_final": False}, {"spec": b"s" * 32}]
)
def test_a_statement_that_was_changed_is_refused(
    known: tuple[Driver, AuditStatement], change: dict[str, object]
) -> None:
    driver, word = known
    assert refuse(driver, replace(word, **change)) == "the signature under a word of acme is not acme's"  # type: ignore[arg-type]
    assert "is not acme's" in refuse(driver, signed(word, GLOBEX))
    assert "has another length" in refuse(driver, replace(word, signature=b""))


def test_fewer_records_than_before_are_called_an_old_backup(known: tuple[Driver, AuditStatement]) -> None:
    driver, word = known
    tell(driver, ACME, over(ACME))
    speak(driver)
    leaves = [Entry(s, c, d.hex()).leaf for s, c, d in sealed(5)]
    older = replace(word, start=0, count=5, root=tree_root(leaves), entries=b"".join(leaves))
    told = refuse(driver, signed(older))
    assert told.startswith(f"acme speaks of 5 records of {OUT}, and spoke of {INTERVAL + 20} before")
    assert "acme was restored from an old backup" in told


def test_a_counter_signature_that_cannot_be_is_refused(known: tuple[Driver, AuditStatement]) -> None:
    driver, _ = known
    tell(driver, GLOBEX, over(GLOBEX))
    driver.tamper = lambda delivery, record: [r for r in [record] if not isinstance(r, AuditCountersigned)]
    speak(driver)
    own = said(driver, GLOBEX)[-1]
    word = AuditCountersigned(JOB, ACME, *OUT, MANIFEST, own.count, b"r" * 32, b"d" * 32, b"")
    assert "counter-signed another root" in refuse(driver, signed(word))
    ahead = refuse(driver, signed(replace(word, count=own.count + 1)))
    assert "globex was restored from an old backup" in ahead and "acme counter-signed" in ahead
    assert "the digest of the statement has another length" in refuse(
        driver, signed(replace(word, statement=b"x" * 99))
    )


def test_contradictions_without_end_are_refused(known: tuple[Driver, AuditStatement]) -> None:
    driver, _ = known
    word = signed(
        AuditContradicted(JOB, ACME, *BACK, MANIFEST, 1, b"", DifferenceKind.EARLIER, 0, 0, 0, b"", b"", signature=b"")
    )
    machine, state = driver.machines[GLOBEX, AUDIT], driver.states[GLOBEX, AUDIT]
    for _ in range(16):
        state = machine.step(state, Event(word, ACME)).state
    with pytest.raises(RefusedError, match="acme contradicts more often about one stream than globex takes note of"):
        machine.step(state, Event(word, ACME))


def test_anything_else_that_a_peer_says_is_refused_and_a_fault_names_it(known: tuple[Driver, AuditStatement]) -> None:
    driver, _ = known
    foreign = EnvelopesCrossed(JOB, GLOBEX, "train", MANIFEST, ())
    assert refuse(driver, foreign) == "acme sent a EnvelopesCrossed, which is not about what crossed"
    fault = PeerFault(JOB, ACME, Reason.PROTOCOL_VIOLATION, "a record that cannot be decoded")
    assert refuse(driver, fault, GLOBEX) == "acme sent a record that cannot be decoded"
    assert make_machine(ACME).initial(JOB) == AuditedJob(JOB)


def test_a_peer_cannot_make_up_more_streams_than_there_are(known: tuple[Driver, AuditStatement]) -> None:
    driver, word = known
    machine, state = driver.machines[GLOBEX, AUDIT], driver.states[GLOBEX, AUDIT]
    for sender, receiver in ((ACME, GLOBEX), (GLOBEX, ACME)):
        for stage in ("job", "align", "train", "evaluate", "register", "cohort", "score", "audit", "x"):
            for count in range(INTERVAL + 30, INTERVAL + 60):
                name = StreamName(sender, receiver, stage, stage)._asdict()
                made_up = signed(replace(word, **name, count=count, entries=b""))
                try:
                    state = machine.step(state, Event(made_up, ACME)).state
                except RefusedError:
                    assert stage in ("cohort", "score", "audit", "x")
    assert isinstance(state, AuditedJob)
    assert len(state.streams) == 10 and len(encode(state)) < 100_000
