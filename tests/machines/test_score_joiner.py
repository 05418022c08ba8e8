"""The joiner's rules: one outcome for each request, whatever comes, in whatever order, however often."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.scoring import Outcome, Purpose, RoutedScore, ScoreAnswer, ScoreReason
from streams.kernels.scorecard import LEAST_QUANTUM, MOST_QUANTUM, POINT_QUANTUM, count_points, probability_of
from streams.machines.score import deltas
from streams.machines.score.ledger import GRACE_MS, HOLD_MS, JoinRules
from tests.machines.score_bench import NOW_MS, Bench, answered, only, refused, routed

REMEMBER_MS = 120_000
TWO = ("anna", "bert")


# --- outcomes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_early", [False, True])
def test_a_request_that_all_hosts_answered_is_scored(is_early: bool) -> None:
    bench = Bench()
    if is_early:
        bench.answer(answered()).route(routed())
    else:
        bench.route(routed()).answer(answered())
    audited = only(bench.commit().audited)
    # 20 points of 20 that double the odds: ln 2, but for the rounding of the quantum.
    logit = (1 << 20) + 726_818
    assert (audited.outcome, audited.reason, audited.party, audited.logit) == (Outcome.SCORED, "none", "", logit)
    assert audited.points == count_points(logit, 600, 20) == 649
    assert (audited.band, audited.decision) == ("high", "accept")
    assert [(each.host, each.value, each.quantum) for each in audited.answers] == [("host", 20, POINT_QUANTUM)]
    [joined] = bench.joined
    assert joined.probability == probability_of(logit) and joined.points == 649
    assert (joined.answered_at_us, joined.joined_at_us) == (NOW_MS * 1000 + 7, NOW_MS * 1000)


@pytest.mark.parametrize(
    "reason", [ScoreReason.NO_SUCH_PERSON, ScoreReason.MISSING_FEATURE, ScoreReason.MODEL_UNAVAILABLE]
)
@pytest.mark.parametrize("alone", [1 << 19, None])
def test_a_host_that_cannot_answer_degrades_or_refuses(reason: ScoreReason, alone: int | None) -> None:
    bench = Bench().route(routed(alone_logit=alone)).answer(refused(reason, detail="age")).commit()
    audited = only(bench.audited)
    assert audited.outcome is (Outcome.REFUSED if alone is None else Outcome.DEGRADED)
    assert (audited.reason, audited.party, audited.detail, audited.logit) == (reason, "host", "age", alone)
    assert [each.reason for each in audited.answers] == [reason]
    [joined] = bench.joined
    assert joined.points == (None if alone is None else count_points(alone, 600, 20))
    assert (joined.probability is None) == (alone is None) == (joined.band == "")


@pytest.mark.parametrize("alone", [1 << 19, None])
def test_a_host_that_is_silent_degrades_or_expires_when_the_waiting_is_over(alone: int | None) -> None:
    bench = Bench().route(routed(alone_logit=alone)).commit()
    assert bench.fire(NOW_MS + 499).commit().audited == []
    audited = only(bench.fire(NOW_MS + 500).commit().audited)
    assert audited.outcome is (Outcome.EXPIRED if alone is None else Outcome.DEGRADED)
    assert (audited.reason, audited.party, audited.answers) == (ScoreReason.LATE, "host", ())


def test_waiting_ends_in_the_draft_in_which_it_began() -> None:
    bench = Bench().route(routed(deadline_ms=NOW_MS + 3, wait_until_ms=NOW_MS + 3)).fire(NOW_MS + 3).commit()
    assert only(bench.audited).reason is ScoreReason.LATE
    bench.check_state()


def test_a_hosts_quota_refuses_though_the_guest_could_score_alone() -> None:
    bench = Bench().route(routed(hosts=TWO)).answer(refused(ScoreReason.NO_SUCH_PERSON), host="anna")
    audited = only(bench.answer(refused(ScoreReason.QUOTA_EXCEEDED), host="bert").commit().audited)
    assert (audited.outcome, audited.reason, audited.party) == (Outcome.REFUSED, ScoreReason.QUOTA_EXCEEDED, "bert")


def test_the_routers_refusal_is_the_outcome() -> None:
    item = routed(reason=ScoreReason.NO_SUCH_PERSON, party="guest", detail="x", guest_logit=None, alone_logit=None)
    audited = only(Bench().route(item).commit().audited)
    assert (audited.outcome, audited.reason, audited.party, audited.detail, audited.logit) == (
        Outcome.REFUSED, ScoreReason.NO_SUCH_PERSON, "guest", "x", None,
    )  # fmt: skip
    late = replace(item, reason=ScoreReason.DEADLINE_EXCEEDED)
    assert only(Bench().route(late).commit().audited).outcome is Outcome.EXPIRED


def test_a_request_taken_up_after_its_deadline_expires_though_the_answer_is_there() -> None:
    bench = Bench().answer(answered())
    bench.now_ms = NOW_MS + 1_001
    audited = only(bench.route(routed()).commit().audited)
    assert (audited.outcome, audited.reason, audited.party) == (
        Outcome.EXPIRED, ScoreReason.DEADLINE_EXCEEDED, "guest",
    )  # fmt: skip
    assert audited.answers == () and len(bench.late) == 1
    at_the_deadline = Bench(now_ms=NOW_MS + 1_000).answer(answered()).route(routed()).commit()
    assert only(at_the_deadline.audited).outcome is Outcome.SCORED


def test_too_many_that_wait_are_refused_and_room_is_made_by_answers() -> None:
    bench = Bench(JoinRules("guest", most_waiting=2)).route(*(routed(f"r{n}") for n in range(3))).commit()
    audited = only(bench.audited)
    assert (audited.request_id, audited.outcome, audited.reason, audited.party) == (
        "r2", Outcome.REFUSED, ScoreReason.OVERLOADED, "guest",
    )  # fmt: skip
    bench.answer(answered("r0")).route(routed("r3")).commit()
    assert [each.request_id for each in bench.audited] == ["r2", "r0"]
    # Who need not wait takes no room.
    bench.answer(answered("r4")).route(routed("r4")).commit()
    assert bench.audited[-1].outcome is Outcome.SCORED
    bench.abort().restart().route(routed("r5")).commit()
    assert bench.audited[-1].reason is ScoreReason.OVERLOADED


def test_all_hosts_are_waited_for_and_the_first_by_name_is_blamed() -> None:
    for order in (TWO, TWO[::-1]):
        bench = Bench().route(routed(hosts=TWO))
        for host in order:
            bench.answer(refused(ScoreReason.SOURCE_FAILED, detail=host), host=host)
        audited = only(bench.commit().audited)
        assert (audited.party, audited.detail, [each.host for each in audited.answers]) == ("anna", "anna", [*TWO])
    late = only(Bench().route(routed(hosts=TWO)).answer(answered(), host="bert").fire(NOW_MS + 500).commit().audited)
    assert (late.reason, late.party, [each.host for each in late.answers]) == (ScoreReason.LATE, "anna", ["bert"])


def test_a_model_without_hosts_is_scored_at_once() -> None:
    audited = only(Bench().route(routed(hosts=())).commit().audited)
    assert (audited.outcome, audited.logit) == (Outcome.SCORED, 1 << 20)


def test_points_below_the_first_band_have_none() -> None:
    bands = tuple(band for band in routed().bands if band.name == "high")
    audited = only(Bench().route(routed(hosts=(), guest_logit=0, bands=bands)).commit().audited)
    assert (audited.points, audited.band, audited.decision) == (600, "", "")


def test_a_shadow_is_told_in_the_audit_only_and_apart_from_the_live_score() -> None:
    shadow = routed(purpose=Purpose.SHADOW, version="v2")
    bench = Bench().route(routed(), shadow).answer(answered(purpose=Purpose.SHADOW, version="v2")).commit()
    assert (only(bench.audited).purpose, bench.joined) == (Purpose.SHADOW, [])
    bench.answer(answered()).commit()
    assert [joined.purpose for joined in bench.joined] == [Purpose.LIVE]
    assert bench.outcomes() == {("r", Purpose.LIVE): 1, ("r", Purpose.SHADOW): 1}


def test_a_parity_score_is_a_result_like_others() -> None:
    bench = Bench().route(routed(purpose=Purpose.PARITY)).answer(answered(purpose=Purpose.PARITY)).commit()
    assert [joined.purpose for joined in bench.joined] == [Purpose.PARITY]


# --- copies and strangers ------------------------------------------------------------------------------------------


def test_the_first_item_counts_and_copies_change_nothing() -> None:
    bench = Bench().route(routed()).commit().route(routed(guest_logit=0, version="v2")).answer(answered()).commit()
    assert only(bench.audited).guest_logit == 1 << 20
    bench.route(routed(), routed(routed_at_us=5)).commit().restart().route(routed()).commit()
    assert bench.outcomes() == {("r", Purpose.LIVE): 1}


def test_answers_that_cannot_be_applied_are_noted() -> None:
    bench = Bench().route(routed())
    bench.answer(answered(), host="stranger").answer(answered(version="v2")).answer(answered(model="other"))
    assert bench.commit().audited == [] and len(bench.late) == 3
    bench.answer(answered(value=1)).answer(answered(value=2)).commit()
    assert [each.value for each in only(bench.audited).answers] == [1]
    assert [each.value for each in bench.late[3:]] == [2]
    assert bench.late[3].received_at_us == NOW_MS * 1000


def test_of_early_answers_the_first_that_fits_is_used_and_the_others_are_noted() -> None:
    bench = Bench().answer(answered(version="v2"), answered(value=1), answered(value=2)).commit()
    assert [each.value for each in bench.late] == [2]
    bench.restart().route(routed()).commit()
    assert [each.value for each in only(bench.audited).answers] == [1]
    assert [each.version for each in bench.late[1:]] == ["v2"]
    assert bench.log.ledger.early == {} == bench.restored().ledger.early


def test_an_early_answer_is_let_go_in_the_end_once() -> None:
    bench = Bench().answer(answered()).commit().fire(NOW_MS + HOLD_MS - 1).commit()
    assert bench.late == []
    bench.fire(NOW_MS + HOLD_MS).commit()
    assert len(bench.late) == 1
    bench.check_state()
    bench.restart().fire(NOW_MS + 3 * HOLD_MS).commit()
    assert len(bench.late) == 1


def test_early_answers_are_bounded() -> None:
    bench = Bench(JoinRules("guest", most_early=2)).answer(*(answered(f"r{n}") for n in range(4))).commit()
    assert [each.request_id for each in bench.late] == ["r2", "r3"]
    assert len(bench.log.ledger.early) == 2
    bench.route(routed("r0")).answer(answered("r5")).commit()
    assert sorted(bench.log.ledger.early) == ["live/r1", "live/r5"]


@pytest.mark.parametrize(
    "answer",
    [
        answered(quantum=LEAST_QUANTUM - 1),
        answered(quantum=MOST_QUANTUM + 1),
        answered(value=1 << 62),
        answered(detail="x" * 10_000),
        answered(purpose=Purpose.UNKNOWN),
    ],
)
def test_an_answer_that_no_half_gives_is_complained_about(answer: ScoreAnswer) -> None:
    bench = Bench().route(routed()).answer(answer).commit()
    assert len(bench.complaints) == 1 and not bench.audited and not bench.late


@pytest.mark.parametrize(
    "item",
    [
        routed(guest_logit=None),
        routed(guest_logit=1 << 50),
        routed(detail="x" * 60_000),
        routed(purpose=Purpose.UNKNOWN),
    ],
)
def test_an_item_of_which_nothing_can_be_made_is_complained_about(item: RoutedScore) -> None:
    bench = Bench().route(item).commit()
    assert len(bench.complaints) == 1 and bench.audited == []
    bench.check_state()


# --- time ----------------------------------------------------------------------------------------------------------


def test_after_a_rest_answers_in_the_log_are_waited_for_but_not_beyond_the_deadline() -> None:
    item = routed(deadline_ms=NOW_MS + 100_000)
    bench = Bench(now_ms=NOW_MS + 90_000).route(item).commit()
    assert bench.fire(NOW_MS + 90_000 + GRACE_MS - 1).commit().audited == []
    assert only(bench.answer(answered()).commit().audited).outcome is Outcome.SCORED
    short = Bench(now_ms=NOW_MS + 900).route(routed()).commit()
    assert only(short.fire(NOW_MS + 1_000).commit().audited).reason is ScoreReason.LATE


def request_log(*appended_ms: int) -> list[RoutedScore]:
    """Requests with a second to their deadlines, as they lie in one partition of the request topic."""
    return [
        routed(f"r{n}", hosts=(), request_offset=n, appended_at_ms=at, deadline_ms=at + 1_000)
        for n, at in enumerate(appended_ms)
    ]


def test_a_request_that_lay_in_a_backlog_for_an_hour_has_one_outcome() -> None:
    log = request_log(*range(NOW_MS, NOW_MS + 10_000, 1_000))
    bench = Bench(now_ms=NOW_MS + 3_600_000).route(*log).commit()
    # A router that was killed reads them again.
    bench.route(*log).commit().restart().route(*log[3:]).commit()
    assert {each.outcome for each in bench.audited} == {Outcome.EXPIRED}
    assert bench.outcomes() == {(item.request_id, Purpose.LIVE): 1 for item in log}


def test_a_copy_whose_key_was_forgotten_has_no_second_outcome() -> None:
    log = request_log(NOW_MS, NOW_MS + 1_000, NOW_MS + 10 * REMEMBER_MS)
    bench = Bench().route(*log).commit().fire(NOW_MS + REMEMBER_MS // 2 - 1).commit()
    assert len(bench.log.ledger.finished) == 3
    bench.fire(NOW_MS + REMEMBER_MS // 2).route(replace(log[2], request_id="r3", request_offset=3)).commit()
    assert "live/r0" not in bench.log.ledger.finished and "live/r2" in bench.log.ledger.finished
    # Read again by a router: nothing. Published again by the application: an echo.
    bench.route(*log).commit()
    assert bench.complaints == []
    echo = replace(log[0], request_offset=4, appended_at_ms=NOW_MS + 10 * REMEMBER_MS)
    bench.route(echo).commit()
    assert len(bench.audited) == 4 and bench.outcomes()["r0", Purpose.LIVE] == 1
    assert bench.complaints == [f"request 'r0' was published {10 * REMEMBER_MS - 1_000} ms after its own deadline"]


def test_partitions_of_the_request_topic_do_not_forget_for_each_other() -> None:
    [slow] = request_log(NOW_MS)
    fast = replace(slow, request_id="f", request_partition=1, appended_at_ms=NOW_MS + 10 * REMEMBER_MS)
    fast = replace(fast, deadline_ms=fast.appended_at_ms + 1_000)
    bench = Bench().route(fast).commit().route(slow).commit().route(slow, fast).commit()
    assert bench.outcomes() == {("f", Purpose.LIVE): 1, ("r0", Purpose.LIVE): 1} and bench.complaints == []
    assert sorted(bench.log.ledger.finished) == ["live/f", "live/r0"]


@pytest.mark.parametrize("later_ms", [1_000, 100 * REMEMBER_MS])
def test_what_a_router_writes_after_later_requests_is_no_copy(later_ms: int) -> None:
    """It had to load a model first, say; in a backlog the requests of hours go by in the meantime."""
    first, second = request_log(NOW_MS, NOW_MS + later_ms)
    bench = Bench().route(second).commit().fire(NOW_MS + REMEMBER_MS // 2 - 1).commit()
    bench.route(first, second).commit()
    assert bench.outcomes() == {("r0", Purpose.LIVE): 1, ("r1", Purpose.LIVE): 1} and bench.complaints == []


def test_marks_follow_each_part_of_the_log_in_its_time() -> None:
    first, second, third = request_log(NOW_MS, NOW_MS + 1_000, NOW_MS + 100 * REMEMBER_MS)
    bench = Bench().route(first).commit().fire(NOW_MS + 50_000).route(third).commit()
    bench.fire(NOW_MS + REMEMBER_MS // 2).commit()
    assert {partition: mark.offset for partition, mark in bench.log.ledger.marks.items()} == {0: 0}
    bench.route(second).commit()
    assert bench.outcomes()["r1", Purpose.LIVE] == 1
    bench.fire(NOW_MS + 50_000 + REMEMBER_MS // 2).commit()
    assert bench.log.ledger.marks[0].offset == 2 and sorted(bench.log.ledger.finished) == ["live/r2"]
    bench.check_state()


# --- the state -----------------------------------------------------------------------------------------------------


def test_a_draft_that_is_dropped_leaves_nothing() -> None:
    bench = Bench().route(routed("a"), routed("b", deadline_ms=NOW_MS + 1)).answer(answered("c")).commit()
    before = (dict(bench.log.ledger.waiting), dict(bench.log.ledger.early), sorted(bench.log.ledger.due))
    bench.route(routed("d"), routed("c")).answer(answered("a"), answered("e")).fire(NOW_MS + HOLD_MS).abort()
    assert (bench.log.ledger.waiting, bench.log.ledger.early, sorted(bench.log.ledger.due)) == before
    bench.fire(NOW_MS + 5_000).commit()
    assert bench.outcomes() == {("a", Purpose.LIVE): 1, ("b", Purpose.LIVE): 1}


def test_what_is_written_stays_small_over_many_requests() -> None:
    bench = Bench(JoinRules("guest", remember_ms=10_000))
    most, written = 0, 0
    for n in range(6_000):
        bench.now_ms = at = NOW_MS + 10 * n
        item = routed(f"r{n}", request_offset=n, appended_at_ms=at, deadline_ms=at + 1_000, wait_until_ms=at + 500)
        bench.route(item).commit()
        if n % 10:
            bench.answer(answered(f"r{n}")).commit()
        bench.fire().commit()
        most = max(most, len(bench.state))
        written = max(written, len(bench.log.ledger.finished))
    # 11 s of requests, 5 until marks follow, a few steps, at 100 a second and three deltas each.
    assert written <= 1_800 and most <= 3 * 1_800
    ledger = bench.log.ledger
    assert len(ledger.due) <= 60 and len(ledger.waiting) <= 6 and not ledger.early
    assert len(bench.log._homes) <= 6 and len(bench.log._ends[0]) == len(bench.log._steps[0]) <= 20
    assert len(bench.audited) == 6_000 - len(ledger.waiting)
    bench.check_state()


def test_a_request_with_a_late_deadline_does_not_keep_the_deltas_of_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deltas, "SPRAWL_ENTRIES", 100)
    bench = Bench(JoinRules("guest", remember_ms=1_000))
    bench.route(routed("slow", deadline_ms=NOW_MS + 10_000_000, wait_until_ms=NOW_MS + 10_000_000)).commit()
    bench.answer(answered("early")).commit()
    rewrites = 0
    for n in range(2_000):
        bench.now_ms = at = NOW_MS + 10 * n
        bench.route(routed(f"r{n}", hosts=(), request_offset=n, appended_at_ms=at, deadline_ms=at + 10)).commit()
        if bench.log.is_sprawling:
            bench.rewrite().check_state()
            rewrites += 1
            assert len(bench.state) == 1
    assert rewrites > 2 and len(bench.state) < 1_000
    bench.restart().answer(answered("slow")).route(routed("early", deadline_ms=NOW_MS + 20_000)).commit()
    assert [each.outcome for each in bench.audited[-2:]] == [Outcome.SCORED] * 2
    assert len(bench.audited) == 2_002


def test_a_change_that_is_too_large_for_one_record_becomes_several_deltas() -> None:
    items = [routed(f"r{n}", detail="x" * 5_000) for n in range(500)]
    bench = Bench().route(*items).answer(*(answered(f"e{n}") for n in range(2_000))).commit()
    sizes = [len(value) for value in bench.state.values()]
    assert len(sizes) > 3 and max(sizes) < 900_000
    bench.check_state()
    names = [f"{n}-{'x' * 1_000}" for n in range(1_500)]
    bench.route(*(routed(name, hosts=()) for name in names)).commit()
    assert max(len(value) for value in bench.state.values()) < 900_000
    bench.check_state()
    bench.restart().answer(*(answered(f"r{n}") for n in range(500))).commit()
    assert len(bench.audited) == 2_000 and len(bench.log.ledger.early) == 2_000


# --- everything at once --------------------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[RoutedScore], list[tuple[str, ScoreAnswer]], list[int]]:
    """What lies on the routed topic, what on the answers topic, and what happens while they are read.

    The request log has copies of earlier requests in it, and long pauses; the router reads parts of it again.
    """
    requests: list[RoutedScore] = []
    at = NOW_MS
    for offset in range(draw(st.integers(1, 8))):
        at += draw(st.sampled_from([0, 1, 400, 5_000, REMEMBER_MS, 3 * REMEMBER_MS]))
        if requests and draw(st.sampled_from([False, True])):
            original: RoutedScore = draw(st.sampled_from(requests))
            item = replace(original, request_offset=offset, appended_at_ms=at)
        else:
            item = routed(
                f"r{offset}",
                request_offset=offset,
                appended_at_ms=at,
                deadline_ms=at + draw(st.sampled_from([-REMEMBER_MS - 1, -1, 20, 1_000, REMEMBER_MS])),
                wait_until_ms=at + draw(st.sampled_from([1, 500])),
                hosts=draw(st.sampled_from([(), ("anna",), TWO])),
                alone_logit=draw(st.sampled_from([None, 5])),
            )
        requests.append(item)
    shadowed = draw(st.lists(st.sampled_from([False, True]), min_size=len(requests), max_size=len(requests)))
    log: list[RoutedScore] = []
    end = 0
    while end < len(requests):
        # A new router goes on at or before where the last one was.
        start = end - draw(st.integers(0, end))
        end = len(requests) - draw(st.integers(0, len(requests) - end - 1))
        version = draw(st.sampled_from(["v1", "v2"]))
        for item in requests[start:end]:
            log.append(replace(item, version=version))
            if shadowed[item.request_offset]:
                log.append(replace(item, version="v3", purpose=Purpose.SHADOW))
    answers = draw(
        st.lists(
            st.tuples(
                st.sampled_from([*TWO, "stranger"]),
                st.builds(
                    lambda item, reason, value, version: answered(
                        item.request_id, purpose=item.purpose, version=version, reason=reason, value=value
                    ),
                    st.sampled_from(log),
                    st.sampled_from([ScoreReason.NONE, ScoreReason.NO_SUCH_PERSON, ScoreReason.QUOTA_EXCEEDED]),
                    st.integers(-3, 3),
                    st.sampled_from(["v1", "v2", "v3"]),
                ),
            ),
            max_size=20,
        )
    )
    return log, answers, draw(st.lists(st.integers(0, 9), max_size=60))


@settings(max_examples=400, deadline=None)
@given(worlds())
def test_every_request_has_exactly_one_outcome_and_every_answer_is_told_of_exactly_once(
    world: tuple[list[RoutedScore], list[tuple[str, ScoreAnswer]], list[int]],
) -> None:
    log, answers, steps = world
    bench = Bench()
    read, committed = [0, 0], [0, 0]
    for step in [*steps, *[0] * len(log), *[1] * len(answers), 2]:
        if step in (0, 3) and read[0] < len(log):
            bench.route(log[read[0]])
            read[0] += 1
        elif step in (1, 4) and read[1] < len(answers):
            host, answer = answers[read[1]]
            bench.answer(answer, host=host)
            read[1] += 1
        elif step in (2, 5):
            bench.commit().check_state()
            committed = list(read)
        elif step in (6, 7):
            bench = bench.abort() if step == 6 else bench.restart()
            read = list(committed)
        elif step in (8, 9):
            bench.fire(bench.now_ms + (300 if step == 8 else HOLD_MS))
    # What an abort at the end of the steps has left unread, and then the end of all waiting.
    bench.route(*log[read[0] :])
    for host, answer in answers[read[1] :]:
        bench.answer(answer, host=host)
    bench.commit().fire(bench.now_ms + 100 * REMEMBER_MS).commit().check_state()
    assert not bench.log.ledger.waiting and not bench.log.ledger.early
    firsts: dict[tuple[str, Purpose], RoutedScore] = {}
    for item in log:
        firsts.setdefault((item.request_id, item.purpose), item)
    expected = {key: 1 for key, item in firsts.items() if item.appended_at_ms <= item.deadline_ms + REMEMBER_MS}
    assert bench.outcomes() == expected
    for audited in bench.audited:
        assert audited.version == firsts[audited.request_id, audited.purpose].version
    live = Counter(key for key in expected if key[1] is not Purpose.SHADOW)
    assert Counter((joined.request_id, joined.purpose) for joined in bench.joined) == live
    told = Counter((a.request_id, a.purpose, each.host) for a in bench.audited for each in a.answers)
    told += Counter((each.request_id, each.purpose, each.host) for each in bench.late)
    assert told == Counter((answer.request_id, answer.purpose, host) for host, answer in answers)
