"""The score host: coarse answers, reasons that tell a column at most, quotas, books of everything that was answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.scoring import Purpose, ScoreAnswer, ScoreAsk, ScoreReason, ScoresAnswered
from streams.features import PersonFeatures
from streams.kernels.scorecard import POINT_QUANTUM, bits_quantum, restore_share, share_logit
from streams.kernels.scoring import quantise_logits, restore_logits, score_half
from streams.machines.score.halves import Problem, to_kernel
from streams.machines.score.host import (
    STALE_MS,
    Answered,
    Asked,
    Bucket,
    Quota,
    admit,
    answer,
    audit,
    draw,
    find_ask_mistake,
    quantum_of,
)
from streams.machines.score.resolution import Refusal
from tests.machines.route_cases import GUEST, NAME, NOW_MS, NOW_US, Shelf, Version, change_row, make_rows

ONE = Version("job-1")
TWO = Version("job-2", seed=2)
IDS = ("anna", "berta", "carl")
ROWS, TABLE = make_rows(ONE.host_half, IDS)
SHELF = Shelf(ONE, TWO)


def ask_for(person: str, request_id: str = "", **changes: object) -> Asked:
    ask = ScoreAsk(
        request_id=request_id or f"r-{person}",
        token=person.encode().ljust(16, b"."),
        model=NAME,
        version="job-1",
        purpose=Purpose.LIVE,
        asked_at_us=NOW_US - 3_000,
        wait_until_ms=NOW_MS + 500,
    )
    return Asked(replace(ask, **changes), 2)  # type: ignore[arg-type]


def find_persons(tokens: Sequence[bytes]) -> list[str | None]:
    return [name if (name := token.rstrip(b".").decode()) in IDS else None for token in tokens]


def respond(
    *asked: Asked,
    rows: Mapping[str, PersonFeatures | None] | Problem = ROWS,
    granted: int = 1_000,
    quantum: int = POINT_QUANTUM,
    now_us: int = NOW_US,
) -> list[Answered]:
    groups, answered = admit(asked, granted, now_us, SHELF.find_host_model)
    for found in groups:
        answered += answer(found, find_persons(found.tokens), rows, quantum, now_us)
    return answered


def reason_of(asked: Asked, **options: object) -> tuple[ScoreReason, str]:
    ((_, said),) = respond(asked, **options)  # type: ignore[arg-type]
    assert (said.value, said.quantum) == (0, 0)
    return said.reason, said.detail


def test_an_answer_is_the_evaluations_logit_in_units_of_the_quantum() -> None:
    logits = quantise_logits(score_half(TABLE, to_kernel(ONE.host_half))).tolist()
    for quantum in (POINT_QUANTUM, bits_quantum(0), bits_quantum(10)):
        said = [found.answer for found in respond(*map(ask_for, IDS), quantum=quantum)]
        assert [one.value for one in said] == [share_logit(logit, quantum) for logit in logits]
    first = respond(ask_for("anna"), quantum=bits_quantum(10))[0].answer
    assert first == ScoreAnswer(
        request_id="r-anna",
        model=NAME,
        version="job-1",
        purpose=Purpose.LIVE,
        reason=ScoreReason.NONE,
        value=logits[0],
        quantum=bits_quantum(10),
        asked_at_us=NOW_US - 3_000,
        answered_at_us=NOW_US,
        detail="",
    )


@given(st.integers(1, 30), st.integers(0, 6), st.integers(0, 2**32))
def test_a_hosts_online_logits_are_those_of_the_kernel_to_the_last_bit(rows: int, columns: int, seed: int) -> None:
    """At the finest quantum; coarser ones are made of it by one more rounding, which has tests of its own."""
    version = Version("job-1", seed=seed, columns=columns)
    shelf = Shelf(version)
    ids = tuple(f"p{place}" for place in range(rows))
    found, table = make_rows(version.host_half, ids, seed)
    groups, refused = admit([ask_for(name) for name in ids], rows, NOW_US, shelf.find_host_model)
    assert refused == []
    told = [one.answer for one in answer(groups[0], ids, found, bits_quantum(10), NOW_US)]
    expected = quantise_logits(score_half(table, to_kernel(version.host_half)))
    assert [restore_share(one.value, one.quantum) for one in told] == restore_logits(expected).tolist()


def test_precision_is_what_the_settings_say() -> None:
    assert [quantum_of(precision) for precision in ("points", 0, 10)] == [POINT_QUANTUM, 1 << 30, 1 << 20]
    with pytest.raises(ValueError, match="fractional bits"):
        quantum_of(11)


def test_answers_go_where_the_question_says() -> None:
    asked = [ask_for("anna"), Asked(ask_for("berta").ask, 0)]
    assert [found.asked.partition for found in respond(*asked)] == [2, 0]


# --- reasons ---


def test_a_token_of_nobody_and_a_person_without_features_are_no_such_person() -> None:
    assert reason_of(ask_for("zoe")) == (ScoreReason.NO_SUCH_PERSON, "")
    assert reason_of(ask_for("anna"), rows={"anna": None}) == (ScoreReason.NO_SUCH_PERSON, "")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, ScoreReason.MISSING_FEATURE),
        (..., ScoreReason.MISSING_FEATURE),
        (True, ScoreReason.MISTYPED_FEATURE),
        ("0", ScoreReason.MISTYPED_FEATURE),
        (float("nan"), ScoreReason.MISTYPED_FEATURE),
        (float("-inf"), ScoreReason.MISTYPED_FEATURE),
    ],
)
def test_a_missing_or_mistyped_value_is_a_reason_with_its_column(value: object, reason: ScoreReason) -> None:
    rows = change_row(ROWS, "berta", shop_1=value)
    said = [found.answer for found in respond(*map(ask_for, IDS), rows=rows)]  # type: ignore[arg-type]
    assert [(one.reason, one.detail) for one in said] == [
        (ScoreReason.NONE, ""),
        (reason, "shop_1"),
        (ScoreReason.NONE, ""),
    ]
    alone = [found.answer.value for found in respond(ask_for("anna"), ask_for("carl"))]
    assert [said[0].value, said[2].value] == alone


def test_a_source_that_fails_is_everybodys_reason() -> None:
    failed = Problem(ScoreReason.SOURCE_FAILED)
    assert [found.answer.reason for found in respond(*map(ask_for, IDS), rows=failed)] == [failed.reason] * 3


def test_a_version_that_the_host_does_not_have_is_unknown() -> None:
    assert reason_of(ask_for("anna", version="job-9")) == (ScoreReason.UNKNOWN_MODEL, "")


def test_why_a_half_cannot_be_had_is_the_hosts_own_business() -> None:
    away = Refusal(ScoreReason.MODEL_UNAVAILABLE, "canary: the bucket at 10.0.0.7 is gone")
    _, answered = admit([ask_for("anna")], 1, NOW_US, lambda name, version: away)
    assert (answered[0].answer.reason, answered[0].answer.detail) == (ScoreReason.MODEL_UNAVAILABLE, "")


def test_a_question_whose_guest_stopped_waiting_long_ago_is_not_looked_up() -> None:
    old = ask_for("anna", wait_until_ms=NOW_MS - STALE_MS - 1)
    groups, _ = admit([old], 1, NOW_US, SHELF.find_host_model)
    assert groups == []
    assert reason_of(old) == (ScoreReason.LATE, "")
    ((_, said),) = respond(ask_for("anna", wait_until_ms=NOW_MS - STALE_MS))
    assert said.reason is ScoreReason.NONE, "clocks of two parties may differ by some seconds"


def test_one_question_has_one_answer_whatever_becomes_of_it() -> None:
    asked = [
        ask_for("anna"),
        ask_for("zoe"),
        ask_for("berta", version="job-2"),
        ask_for("carl", version="job-9"),
        ask_for("anna", "r-parity", purpose=Purpose.PARITY),
        ask_for("berta", "r-shadow", purpose=Purpose.SHADOW),
        ask_for("carl", "r-old", wait_until_ms=0),
        ask_for("carl", "r-over"),
    ]
    rows = {**ROWS, **{name: row for name, row in make_rows(TWO.host_half, IDS)[0].items() if name == "berta"}}
    answered = respond(*asked, rows=rows, granted=7)
    told = {(found.answer.request_id, found.answer.purpose): found for found in answered}
    assert len(answered) == len(told) == len(asked)
    for item in asked:
        found = told[item.ask.request_id, item.ask.purpose]
        assert found.asked is item
        assert found.answer.version == item.ask.version
        assert found.answer.asked_at_us == item.ask.asked_at_us
    assert told["r-over", Purpose.LIVE].answer.reason is ScoreReason.QUOTA_EXCEEDED


def test_parity_questions_are_never_looked_up_with_live_ones() -> None:
    groups, _ = admit([ask_for("anna"), ask_for("anna", "p", purpose=Purpose.PARITY)], 2, NOW_US, SHELF.find_host_model)
    assert [(found.is_parity, len(found.items)) for found in groups] == [(False, 1), (True, 1)]


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "r" * 201},
        {"request_id": "a\0"},
        {"token": b"short"},
        {"token": b"l" * 17},
        {"model": "m" * 201},
        {"version": "v" * 201},
    ],
)
def test_questions_that_books_cannot_hold_are_mistakes(changes: dict[str, object]) -> None:
    assert find_ask_mistake(ask_for("anna", **changes).ask)  # type: ignore[arg-type]
    assert find_ask_mistake(ask_for("anna").ask) == ""
    assert find_ask_mistake(replace(ask_for("anna").ask, request_id=""))


# --- quota ---


def test_beyond_the_quota_questions_are_refused_in_their_order() -> None:
    said = [found.answer for found in respond(*map(ask_for, IDS), granted=2)]
    by_id = {one.request_id: one.reason for one in said}
    assert by_id == {
        "r-anna": ScoreReason.NONE,
        "r-berta": ScoreReason.NONE,
        "r-carl": ScoreReason.QUOTA_EXCEEDED,
    }


def test_a_bucket_is_full_at_first_and_fills_with_time() -> None:
    quota = Quota(per_second=100, burst=50)
    bucket, granted = draw(quota, None, NOW_US, 70)
    assert granted == 50
    bucket, granted = draw(quota, bucket, NOW_US + 99_999, 70)
    assert granted == 9, "a token that is not full yet is not given"
    bucket, granted = draw(quota, bucket, NOW_US + 110_000, 1)
    assert granted == 1, "what was left over counts"
    bucket, granted = draw(quota, bucket, NOW_US + 3_600_000_000, 70)
    assert granted == 50, "more than the burst is never saved up"


def test_a_clock_that_is_put_back_costs_a_guest_nothing() -> None:
    quota = Quota(per_second=100, burst=50)
    bucket, _ = draw(quota, Bucket(10.0, NOW_US), NOW_US - 60_000_000, 4)
    assert bucket == Bucket(6.0, NOW_US - 60_000_000)


@given(st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(0, 200)), min_size=1, max_size=40))
def test_no_guest_gets_more_than_burst_and_rate_allow(steps: list[tuple[int, int]]) -> None:
    quota, bucket, now, total = Quota(per_second=50, burst=80), None, NOW_US, 0
    for pause_us, wanted in steps:
        now += pause_us
        bucket, granted = draw(quota, bucket, now, wanted)
        assert 0 <= granted <= wanted
        total += granted
    assert total <= quota.burst + quota.per_second * (now - NOW_US) / 1e6 + 1e-6


# --- books, repetition, secrecy ---


def test_the_books_say_exactly_what_was_answered() -> None:
    for found in respond(ask_for("anna"), ask_for("zoe"), ask_for("carl", version="job-9")):
        entry, said = audit(GUEST, found), found.answer
        assert (entry.guest, entry.token) == (GUEST, found.asked.ask.token)
        for name in ("request_id", "model", "version", "purpose", "reason", "value", "quantum", "asked_at_us"):
            assert getattr(entry, name) == getattr(said, name), name
        assert entry.answered_at_us == said.answered_at_us


def test_answering_again_gives_the_same_but_for_the_time() -> None:
    asked = [ask_for(name) for name in (*IDS, "zoe")]
    later = respond(*asked, now_us=NOW_US + 200_000)
    timeless = [replace(found.answer, answered_at_us=0) for found in respond(*asked)]
    assert timeless == [replace(found.answer, answered_at_us=0) for found in later]


def test_nothing_of_the_hosts_persons_features_and_exact_logits_goes_to_the_guest() -> None:
    names, values = ONE.host_half.columns, (0.123456789, 98765.4321, 5.5511e-3, 0.25)
    rows: dict[str, PersonFeatures | None] = {"anna": PersonFeatures(dict(zip(names, values, strict=True)))}
    ((_, said),) = respond(ask_for("anna"), rows=rows)
    sent = encode(ScoresAnswered((said,)))
    assert b"r-anna" in sent
    exact = int(score_half(np.array([values]), to_kernel(ONE.host_half))[0])
    assert abs(exact) > 2**14
    secrets = [b".anna", b"anna.", *(np.float64(value).tobytes() for value in values)]
    secrets += [np.int64(exact).tobytes()[:4], str(exact).encode()]
    for secret in secrets:
        assert secret not in sent
    # Twenty points double the odds: what is told is one of so few values.
    assert abs(said.value) <= 4 * 20 / np.log(2) + 1
