"""Two houses compare their accounts: honest ones agree whatever was repeated, and what was tampered with is named."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

import consumers.score_accounts as score_accounts
from consumers.score_accounts import HORIZON_MS, RefusedError, StaleError
from infra.history_tables import answers
from infra.statement_store import AGREED, ASKING, DIFFERS, WAITING
from schemas.scoring import AnswerAudited, AnswerLate, ScoreAudited, ScoreReason
from schemas.statements import LeavesTold, LeavesWanted, ScoreStatement
from streams.kernels.statements import signed_bytes
from tests.consumers.score_houses import (
    BANK,
    BEGIN_MS,
    BUREAU,
    LENGTH_MS,
    SECOND_US,
    House,
    answered,
    late,
    make_houses,
    settle,
    used,
)


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[tuple[House, House]]:
    pair = make_houses(tmp_path)
    yield pair
    for house in pair:
        house.history.close()


def requests(count: int) -> list[AnswerAudited]:
    return [answered(f"r{number:03d}", number) for number in range(count)]


def book_honestly(houses: tuple[House, House], given: list[AnswerAudited]) -> None:
    bank, bureau = houses
    bureau.book(*given)
    bank.book(*(used(answer) for answer in given))


def test_honest_houses_agree_and_say_it_once(houses: tuple[House, House]) -> None:
    book_honestly(houses, requests(300))
    said = settle(*houses)
    assert [type(record) for _, _, record in said] == [ScoreStatement, ScoreStatement]
    for house in houses:
        report = house.report()
        assert (report.status, report.own_count, report.peer_count) == (AGREED, 300, 300)
        assert report.own_sum == report.peer_sum == sum(range(300))
        assert report.differences == ()
        assert house.statements.changed_intervals(LENGTH_MS, 0, house.now_ms) == {}, "nothing is counted again"
    assert settle(*houses) == [], "nothing new, nothing said"


def test_refusals_are_accounts_of_their_own(houses: tuple[House, House]) -> None:
    refused = [answered(f"x{number}", reason=ScoreReason.NO_SUCH_PERSON) for number in range(5)]
    book_honestly(houses, [*requests(10), *refused, answered("v2", version="2")])
    settle(*houses)
    for house in houses:
        found = [(one.account["answered"], one.account["version"], one.own_count) for one in house.statements.report()]
        assert sorted(found) == [(False, "1", 5), (True, "1", 10), (True, "2", 1)]
        assert {one.status for one in house.statements.report()} == {AGREED}


@pytest.mark.parametrize("seed", range(3))
def test_honest_houses_agree_under_random_repetitions_delays_and_crashes(
    houses: tuple[House, House], seed: int
) -> None:
    """Asked again after a crash at another time, answered again, perhaps differently; used once, else late."""
    chance = random.Random(seed)
    bank, bureau = houses
    given: list[AnswerAudited] = []
    for number in range(80):
        asked = BEGIN_MS * 1000 + chance.randrange(3 * LENGTH_MS) * 1000
        for again in range(chance.choice((1, 1, 1, 2, 3))):
            answer = answered(
                f"r{number}",
                number if again == 0 or chance.random() < 0.7 else number + 1,
                asked_at_us=asked + again * chance.randrange(90 * SECOND_US),
                reason=chance.choice((ScoreReason.NONE, ScoreReason.NONE, ScoreReason.NO_SUCH_PERSON)),
            )
            given += [answer] * chance.choice((1, 1, 2))
    at_host, at_guest = list(given), list(given)
    chance.shuffle(at_host)
    chance.shuffle(at_guest)
    seen: set[str] = set()
    bank.now_ms = bureau.now_ms = BEGIN_MS + LENGTH_MS
    while at_host or at_guest:
        for house, left in ((bureau, at_host), (bank, at_guest)):
            size = chance.randrange(60)
            records: list[AnswerAudited | AnswerLate | ScoreAudited] = []
            for answer in left[:size]:
                is_first = answer.request_id not in seen
                if house is bank:
                    seen.add(answer.request_id)
                    records.append(used(answer) if is_first else late(answer))
                else:
                    records.append(answer)
            house.book(*records)
            del left[:size]
            if chance.random() < 0.3:
                house.restarted()
        bank.now_ms = bureau.now_ms = bank.now_ms + 20_000
        settle(bank, bureau, copies=chance.choice((1, 2)))
    bank.now_ms = bureau.now_ms = bank.now_ms + 10 * LENGTH_MS
    settle(bank, bureau)
    for house in houses:
        reports = house.statements.report()
        assert {one.status for one in reports} == {AGREED}
        assert all(one.differences == () for one in reports)
    assert sum(one.own_count or 0 for one in bank.statements.report()) == len(
        {(one.request_id, one.value, one.reason is ScoreReason.NONE) for one in given}
    )


def drop(bureau: House, given: list[AnswerAudited]) -> None:
    bureau.book(*(answer for answer in given if answer.request_id != "r007"))


def double(bureau: House, given: list[AnswerAudited]) -> None:
    bureau.book(*given, answered("never-asked", 7))


def alter(bureau: House, given: list[AnswerAudited]) -> None:
    bureau.book(*(replace(one, value=one.value + (one.request_id == "r007")) for one in given))


def answer_twice(bureau: House, given: list[AnswerAudited]) -> None:
    bureau.book(*given, answered("r007", 5000))


def drop_everything(bureau: House, given: list[AnswerAudited]) -> None:
    bureau.book()


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (drop, [("r007", "missing_at_host")]),
        (double, [("never-asked", "missing_at_guest")]),
        (alter, [("r007", "different")]),
        (answer_twice, [("r007", "different")]),
        (drop_everything, [(f"r{number:03d}", "missing_at_host") for number in range(200)]),
    ],
)
def test_a_host_that_tampers_with_its_books_is_found_with_the_requests(
    houses: tuple[House, House],
    tamper: Callable[[House, list[AnswerAudited]], None],
    expected: list[tuple[str, str]],
) -> None:
    bank, bureau = houses
    given = requests(200)
    bank.book(*(used(answer) for answer in given))
    tamper(bureau, given)
    said = settle(bank, bureau, copies=2)
    # A host without a single answer hears of the account only now.
    said += settle(bank, bureau)
    told = [record for _, receiver, record in said if isinstance(record, LeavesTold) and receiver == BANK]
    statements = [record.digest for _, _, record in said if isinstance(record, ScoreStatement)]
    assert len(statements) == len(set(statements)) == 2, "each house speaks once, also when it is asked for leaves"
    if tamper is not drop_everything:
        assert len({record.bucket for record in told}) == 1, "no more is told than what differs"
    for house, blamed in ((bank, BUREAU), (bureau, BANK)):
        report = house.report()
        assert report.status == DIFFERS
        assert list(report.differences) == [(name, kind, blamed) for name, kind in expected]


def test_a_bucket_of_many_requests_is_told_in_parts(
    houses: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_accounts, "LEAVES_AT_ONCE", 3)
    bank, bureau = houses
    given = requests(3000)
    bank.book(*(used(answer) for answer in given))
    bureau.book(*given[:1234], *given[1236:])
    said = settle(bank, bureau)
    assert sum(isinstance(record, LeavesTold) for _, _, record in said) > 4
    assert [name for name, _, _ in bank.report().differences] == sorted({"r1234", "r1235"})


def test_books_that_are_completed_later_agree_in_the_end(houses: tuple[House, House]) -> None:
    bank, bureau = houses
    given = requests(50)
    bureau.book(*given)
    bank.book(*(used(answer) for answer in given[:30]))
    settle(bank, bureau)
    assert (bank.report().status, len(bank.report().differences)) == (DIFFERS, 20)
    bank.book(*(late(answer) for answer in given[30:]))
    settle(bank, bureau)
    for house in houses:
        assert (house.report().status, house.report().differences) == (AGREED, ())


def test_an_interval_that_is_not_over_or_not_complete_is_not_spoken_of(houses: tuple[House, House]) -> None:
    book_honestly(houses, requests(3))
    bank = houses[0]
    assert bank.accounts.build_due(BEGIN_MS + LENGTH_MS - 1) == []
    assert bank.unsent() == []
    bank.accounts.build_due(BEGIN_MS + LENGTH_MS)
    assert len(bank.unsent()) == 1


def test_a_crash_before_sending_repeats_the_statement(houses: tuple[House, House]) -> None:
    book_honestly(houses, requests(3))
    bank = houses[0]
    bank.accounts.build_due(bank.now_ms)
    first = [record for _, record, _ in bank.accounts.unsent()]
    bank.restarted()
    bank.now_ms += 5_000
    bank.accounts.build_due(bank.now_ms)
    assert [record for _, record, _ in bank.accounts.unsent()] == first


def test_a_question_that_was_lost_is_asked_again(houses: tuple[House, House]) -> None:
    bank, bureau = houses
    bank.book(*(used(answer) for answer in requests(20)))
    bureau.book(*requests(19))
    (statement,) = [record for _, record in bureau.look()]
    bank.look()
    (lost,) = [record for _, record in bank.receive(BUREAU, statement)]
    assert isinstance(lost, LeavesWanted)
    bank.restarted()
    assert bank.look() == []
    assert bank.report().status == ASKING
    bank.now_ms += score_accounts.ASK_AGAIN_MS + 1
    assert bank.look() == [(BUREAU, lost)]
    settle(bank, bureau)
    bank.now_ms += score_accounts.ASK_AGAIN_MS + 1
    settle(bank, bureau)
    assert bank.report().status == DIFFERS


def test_a_peer_that_says_nothing_is_waited_for(houses: tuple[House, House]) -> None:
    book_honestly(houses, requests(3))
    bank = houses[0]
    bank.look()
    report = bank.report()
    assert (report.status, report.own_count, report.peer_count) == (WAITING, 3, None)


# --- what is not taken -----------------------------------------------------------------------------------------------


@pytest.fixture
def said(houses: tuple[House, House]) -> ScoreStatement:
    """The bureau's statement, for the bank."""
    book_honestly(houses, requests(20))
    ((_, statement),) = houses[1].look()
    assert isinstance(statement, ScoreStatement)
    return statement


def sign_again(bureau: House, statement: ScoreStatement) -> ScoreStatement:
    return replace(statement, signature=bureau.secrets.sign(signed_bytes(statement)))


def test_a_bad_signature_is_refused(houses: tuple[House, House], said: ScoreStatement) -> None:
    bank, bureau = houses
    forged = [
        replace(said, signature=bytes(64)),
        replace(said, signature=b""),
        replace(said, value_sum=said.value_sum + 1),
        replace(said, made_at_ms=said.made_at_ms + 1),
        replace(said, signature=bank.secrets.sign(signed_bytes(said))),
    ]
    for statement in forged:
        with pytest.raises(RefusedError, match="signature under a statement is not bureau's"):
            bank.receive(BUREAU, statement)
    assert bank.statements.report() == []
    bank.receive(BUREAU, sign_again(bureau, said))
    assert bank.report().peer_count == 20


def test_a_replayed_statement_is_refused_and_a_copy_does_no_harm(
    houses: tuple[House, House], said: ScoreStatement
) -> None:
    bank, bureau = houses
    bank.receive(BUREAU, said)
    bank.receive(BUREAU, said)
    bureau.now_ms += 1000
    bureau.book(answered("r999", 9))
    ((_, later),) = bureau.look()
    bank.receive(BUREAU, later)
    with pytest.raises(StaleError, match="a replay, or two stories"):
        bank.receive(BUREAU, said)
    assert bank.report().peer_count == 21


def test_two_stories_of_one_time_are_refused(houses: tuple[House, House], said: ScoreStatement) -> None:
    bank, bureau = houses
    bank.receive(BUREAU, said)
    other = sign_again(bureau, replace(said, value_sum=said.value_sum + 1))
    with pytest.raises(RefusedError, match="two stories") as refused:
        bank.receive(BUREAU, other)
    assert not isinstance(refused.value, StaleError)


def test_a_statement_about_another_time_is_refused(houses: tuple[House, House], said: ScoreStatement) -> None:
    bank, bureau = houses
    future = replace(
        said, interval_start_ms=said.interval_start_ms + 600_000, interval_end_ms=said.interval_end_ms + 600_000
    )
    with pytest.raises(RefusedError, match="is not over"):
        bank.receive(BUREAU, sign_again(bureau, future))
    with pytest.raises(RefusedError, match="is not over"):
        bank.receive(BUREAU, sign_again(bureau, replace(said, made_at_ms=said.interval_end_ms - 600_000)))
    for start_ms, end_ms in ((BEGIN_MS, BEGIN_MS + 1000), (BEGIN_MS - 1000, BEGIN_MS + LENGTH_MS - 1000)):
        odd = replace(said, interval_start_ms=start_ms, interval_end_ms=end_ms)
        with pytest.raises(RefusedError, match=r"agree on score\.statement_seconds"):
            bank.receive(BUREAU, sign_again(bureau, odd))
    bank.now_ms += HORIZON_MS + LENGTH_MS
    with pytest.raises(RefusedError, match="too long ago"):
        bank.receive(BUREAU, said)


def test_a_statement_in_anothers_name_is_refused(houses: tuple[House, House], said: ScoreStatement) -> None:
    bank, bureau = houses
    with pytest.raises(RefusedError, match="bureau sent a statement of bank"):
        bank.receive(BUREAU, sign_again(bureau, replace(said, sender=BANK)))
    with pytest.raises(RefusedError, match="an account between shop and bureau"):
        bank.receive(BUREAU, sign_again(bureau, replace(said, guest="shop")))
    with pytest.raises(RefusedError, match="stranger speaks of an account"):
        bank.receive("stranger", said)
    with pytest.raises(RefusedError, match="contradicts itself"):
        bank.receive(BUREAU, sign_again(bureau, replace(said, count=3)))
    with pytest.raises(RefusedError, match="a name of 300 characters"):
        bank.receive(BUREAU, sign_again(bureau, replace(said, model="m" * 300)))
    with pytest.raises(RefusedError, match="not about accounts"):
        bank.receive(BUREAU, answered("r"))


def test_leaves_other_than_those_that_were_signed_are_refused(houses: tuple[House, House]) -> None:
    """A host cannot sign one account and explain another, to hide which request it is about."""
    bank, bureau = houses
    bank.book(*(used(answer) for answer in requests(20)))
    alter(bureau, requests(20))
    ((_, statement),) = bureau.look()
    bank.look()
    ((_, wanted),) = bank.receive(BUREAU, statement)
    ((_, told),) = [one for one in bureau.receive(BANK, wanted) if isinstance(one[1], LeavesTold)]
    assert isinstance(told, LeavesTold)
    with pytest.raises(RefusedError, match="that it did not sign"):
        bank.receive(BUREAU, replace(told, leaves=()))
    with pytest.raises(RefusedError, match="do not belong there"):
        bank.receive(BUREAU, replace(told, until="a"))
    bank.receive(BUREAU, replace(told, digest=bytes(32)))
    assert bank.report().status == ASKING, "leaves of another statement change nothing"
    bank.receive(BUREAU, told)
    assert bank.report().differences == (("r007", "different", BUREAU),)


def test_books_that_were_altered_in_the_database_are_found(houses: tuple[House, House]) -> None:
    """Not only the topic can be tampered with."""
    bank, bureau = houses
    book_honestly(houses, requests(20))
    with bureau.history.transaction() as connection:
        here = answers.c.request_id == "r007"
        connection.execute(update(answers).where(here).values(leaf=b"\7" * 32, value=1_000_000))
    settle(bank, bureau)
    assert bank.report().differences == (("r007", "different", BUREAU),)
    assert bank.report().peer_sum == 1_000_000 + sum(range(20)) - 7
