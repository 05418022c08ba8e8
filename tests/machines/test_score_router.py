"""The router: one version for each request, questions that tell nothing, logits to the last bit, a reason otherwise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.jobs import ServeSpec
from schemas.scoring import Purpose, RoutedScore, ScoreReason, ScoresAsked
from streams.features import PersonFeatures
from streams.kernels.ristretto import normalise_id
from streams.kernels.scorecard import name_person
from streams.kernels.scoring import Half, score_half
from streams.kernels.sigmoid import SIGMOID_LIMIT
from streams.machines.score.halves import Problem, to_kernel
from streams.machines.score.models import make_guest_model
from streams.machines.score.request_check import MOST_AHEAD_MS, MOST_DEADLINE_MS
from streams.machines.score.resolution import Refusal, Resolved, is_canary, parse_reference
from streams.machines.score.router import TakenUp, conclude, group, take_up
from tests.machines.route_cases import (
    BANDS,
    GUEST,
    HOST,
    KEYS,
    NAME,
    NAMES,
    NOW_MS,
    NOW_US,
    Shelf,
    Version,
    arrive,
    change_row,
    give,
    make_request,
    make_rows,
)

ONE = Version("job-1")
TWO = Version("job-2", seed=2)
IDS = ("anna", "berta", "carl")
ROWS, TABLE = make_rows(ONE.guest_half, IDS)
Rows = Mapping[str, PersonFeatures | None]


@pytest.fixture
def shelf() -> Shelf:
    made = Shelf(ONE, TWO)
    made.point("live", "job-1")
    return made


def take(shelf: Shelf, *requests: object, now_us: int = NOW_US) -> TakenUp:
    return take_up(arrive(*requests), now_us, shelf.resolve, shelf.find_guest_model, NAMES)  # type: ignore[arg-type]


def route(shelf: Shelf, *requests: object, rows: Rows | Problem = ROWS, now_us: int = NOW_US) -> list[RoutedScore]:
    up = take(shelf, *requests, now_us=now_us)
    return [*up.refused, *(item for found in group(up.taken) for item in conclude(found, rows, GUEST))]


def refusal_of(shelf: Shelf, *, rows: Rows | Problem = ROWS, **changes: object) -> tuple[ScoreReason, str]:
    (item,) = route(shelf, make_request(**changes), rows=rows)  # type: ignore[arg-type]
    assert item.guest_logit is None and item.alone_logit is None
    assert item.party == GUEST
    return item.reason, item.detail


# --- what is routed ---


def test_a_request_becomes_a_question_for_the_host_and_an_item_for_the_joiner(shelf: Shelf) -> None:
    up = take(shelf, make_request())
    ((host, ask),) = up.asks
    assert host == HOST
    assert (ask.request_id, ask.model, ask.version, ask.purpose) == ("r-1", NAME, "job-1", Purpose.LIVE)
    assert ask.token == name_person(KEYS[HOST], "anna")
    assert (ask.asked_at_us, ask.wait_until_ms) == (NOW_US, NOW_MS + 500)
    (item,) = route(shelf, make_request())
    assert item == RoutedScore(
        request_id="r-1",
        pseudonym=name_person(NAMES.pseudonym_key, "anna"),
        model=NAME,
        version="job-1",
        alias="live",
        purpose=Purpose.LIVE,
        requested_at_ms=NOW_MS - 5,
        deadline_ms=NOW_MS + 2_000,
        request_partition=3,
        request_offset=40,
        appended_at_ms=NOW_MS - 2,
        routed_at_us=NOW_US,
        hosts=(HOST,),
        guest_logit=int(score_half(TABLE[:1], to_kernel(ONE.guest_half))[0]),
        alone_logit=item.alone_logit,
        wait_until_ms=NOW_MS + 500,
        reason=ScoreReason.NONE,
        party="",
        detail="",
        base_points=600,
        points_to_double_odds=20,
        bands=BANDS,
    )


def test_a_name_alone_means_its_live_alias_and_a_version_means_itself(shelf: Shelf) -> None:
    items = route(shelf, make_request("a", model=NAME), make_request("b", model=f"{NAME}/job-2"), rows=_both())
    assert [(item.request_id, item.version, item.alias) for item in items] == [
        ("a", "job-1", "live"),
        ("b", "job-2", ""),
    ]


def test_the_joiner_waits_no_longer_than_the_deadline(shelf: Shelf) -> None:
    (item,) = route(shelf, make_request(deadline_ms=NOW_MS + 3))
    assert item.wait_until_ms == NOW_MS + 3
    assert take(shelf, make_request(deadline_ms=NOW_MS + 3)).asks[0][1].wait_until_ms == NOW_MS + 3


def test_every_host_of_the_model_is_asked_under_a_token_of_its_own() -> None:
    shelf = Shelf(Version("job-1", hosts=("shop", "post")))
    shelf.point("live", "job-1")
    up = take(shelf, make_request())
    assert [host for host, _ in up.asks] == ["post", "shop"]
    assert len({ask.token for _, ask in up.asks}) == 2
    assert up.taken[0].model.hosts == ("post", "shop")


def test_ids_are_normalised_as_the_model_was_aligned() -> None:
    shelf = Shelf(Version("job-1", id_type="email"))
    shelf.point("live", "job-1")
    up = take(shelf, make_request(entity_id="  Anna@Example.COM "))
    assert up.taken[0].entity_id == normalise_id("anna@example.com", "email")
    assert up.asks[0][1].token == name_person(KEYS[HOST], "anna@example.com")


# --- reasons ---


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"request_id": ""}, "request_id has 0 characters"),
        ({"request_id": "r" * 201}, "request_id has 201 characters"),
        ({"request_id": "a\0b"}, "NUL"),
        ({"entity_id": ""}, "entity_id has 0 characters"),
        ({"entity_id": "e" * 201}, "entity_id has 201 characters"),
        ({"entity_id": "   "}, "entity_id: the identifier is empty"),
        ({"deadline_ms": NOW_MS - 5}, "deadline_ms is not after"),
        ({"deadline_ms": NOW_MS - 5 + MOST_DEADLINE_MS + 1}, "deadline_ms is more than"),
        ({"requested_at_ms": NOW_MS + MOST_AHEAD_MS + 1, "deadline_ms": NOW_MS + 2 * MOST_AHEAD_MS}, "ahead"),
        ({"model": "no such name"}, "model is not like"),
        ({"model": f"{NAME}@live@live"}, "model is not like"),
        ({"model": f"{NAME}/"}, "model is not like"),
        ({"model": ""}, "model is not like"),
        ({"purpose": Purpose.SHADOW}, "purpose"),
        ({"purpose": Purpose.UNKNOWN}, "purpose"),
        ({"purpose": Purpose.PARITY}, "parity check needs a version"),
        ({"purpose": Purpose.PARITY, "model": f"{NAME}/job-1", "features": give(bank_0=1.0)}, "parity check takes"),
        ({"features": give(bank_0=math.nan)}, "'bank_0' is no finite number"),
        ({"features": give(bank_0=-math.inf)}, "'bank_0' is no finite number"),
        ({"features": (*give(bank_0=1.0), *give(bank_0=1.0))}, "'bank_0' is given twice"),
        ({"features": give(shop_0=1.0)}, "has no column 'shop_0'"),
    ],
)
def test_a_malformed_request_is_refused_and_nobody_is_asked(
    shelf: Shelf, changes: dict[str, object], text: str
) -> None:
    up = take(shelf, make_request(**changes))  # type: ignore[arg-type]
    assert up.asks == [] and up.taken == []
    (item,) = up.refused
    assert (item.reason, item.party, item.hosts) == (ScoreReason.INVALID_REQUEST, GUEST, ())
    assert text in item.detail
    assert item.purpose in (Purpose.LIVE, Purpose.PARITY), "an application is told of these only"


@pytest.mark.parametrize(
    "changes",
    [
        {"requested_at_ms": NOW_MS + MOST_AHEAD_MS, "deadline_ms": NOW_MS + MOST_AHEAD_MS + 1},
        {"deadline_ms": NOW_MS - 5 + MOST_DEADLINE_MS},
        {"deadline_ms": NOW_MS},
        {"request_id": "r" * 200},
    ],
)
def test_the_bounds_themselves_are_allowed(shelf: Shelf, changes: dict[str, object]) -> None:
    (item,) = route(shelf, make_request(**changes))  # type: ignore[arg-type]
    assert item.reason is ScoreReason.NONE


def test_a_refusal_never_repeats_the_persons_id(shelf: Shelf) -> None:
    for changes in ({"entity_id": "canary-person" * 20}, {"model": "x", "entity_id": "canary-person"}):
        (item,) = route(shelf, make_request(**changes))
        assert item.reason is not ScoreReason.NONE
        assert b"canary-person" not in encode(item)


def test_an_id_that_is_refused_is_told_as_far_as_books_can_hold_it(shelf: Shelf) -> None:
    (long,) = route(shelf, make_request("r" * 300))
    (odd,) = route(shelf, make_request("a\0b"))
    assert long.request_id == "r" * 200
    assert odd.request_id == "a\N{REPLACEMENT CHARACTER}b"


def test_an_unknown_model_version_or_alias_is_refused(shelf: Shelf) -> None:
    for model in ("nothing", f"{NAME}@best", f"{NAME}/job-9"):
        reason, _ = refusal_of(shelf, model=model)
        assert reason is ScoreReason.UNKNOWN_MODEL
    shelf.point("gone", "job-9")
    assert refusal_of(shelf, model=f"{NAME}@gone")[0] is ScoreReason.UNKNOWN_MODEL


@pytest.mark.parametrize("passed", [None, False])
def test_a_version_that_has_not_passed_is_not_served(passed: bool | None) -> None:
    shelf = Shelf(Version("job-1", passed=passed))
    shelf.point("live", "job-1")
    assert refusal_of(shelf)[0] is ScoreReason.NOT_SERVED
    assert refusal_of(shelf, model=f"{NAME}/job-1")[0] is ScoreReason.NOT_SERVED


def test_a_check_of_another_model_of_the_same_name_counts_for_nothing() -> None:
    shelf = Shelf(ONE)
    assert ONE.checked is not None
    shelf.book.versions[ONE.key] = replace(ONE.checked, model_sha256=b"other" * 6 + b"xx")
    assert refusal_of(shelf, model=f"{NAME}/job-1")[0] is ScoreReason.NOT_SERVED


def test_a_half_that_cannot_be_had_is_a_reason(shelf: Shelf) -> None:
    away = Refusal(ScoreReason.MODEL_UNAVAILABLE, "the store is down")
    up = take_up(arrive(make_request()), NOW_US, shelf.resolve, lambda *_: away, NAMES)  # type: ignore[arg-type]
    assert [(item.reason, item.detail) for item in up.refused] == [(ScoreReason.MODEL_UNAVAILABLE, "the store is down")]
    assert up.asks == []


def test_a_request_that_comes_after_its_deadline_is_not_looked_up(shelf: Shelf) -> None:
    up = take(shelf, make_request(deadline_ms=NOW_MS - 1))
    assert [item.reason for item in up.refused] == [ScoreReason.DEADLINE_EXCEEDED]
    assert up.asks == []


def test_a_person_whom_the_source_does_not_know_is_a_reason(shelf: Shelf) -> None:
    assert refusal_of(shelf, rows={"anna": None}) == (ScoreReason.NO_SUCH_PERSON, "")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (..., ScoreReason.MISSING_FEATURE),
        (None, ScoreReason.MISSING_FEATURE),
        (math.nan, ScoreReason.MISTYPED_FEATURE),
        (math.inf, ScoreReason.MISTYPED_FEATURE),
        (True, ScoreReason.MISTYPED_FEATURE),
        (np.bool(True), ScoreReason.MISTYPED_FEATURE),
        ("1.5", ScoreReason.MISTYPED_FEATURE),
        ("", ScoreReason.MISTYPED_FEATURE),
        (b"1", ScoreReason.MISTYPED_FEATURE),
        pytest.param(10**400, ScoreReason.MISTYPED_FEATURE, id="beyond-all-floats"),
        (Decimal("NaN"), ScoreReason.MISTYPED_FEATURE),
        (1j, ScoreReason.MISTYPED_FEATURE),
        ([1.0], ScoreReason.MISTYPED_FEATURE),
    ],
)
def test_a_missing_or_mistyped_value_is_a_reason_with_its_column_and_never_a_zero(
    shelf: Shelf, value: object, reason: ScoreReason
) -> None:
    rows = change_row(ROWS, "berta", bank_3=value)
    items = route(shelf, *(make_request(entity, entity_id=entity) for entity in IDS), rows=rows)  # type: ignore[arg-type]
    assert (items[1].reason, items[1].detail, items[1].party) == (reason, "bank_3", GUEST)
    assert items[1].guest_logit is None
    sound = score_half(TABLE[[0, 2]], to_kernel(ONE.guest_half)).tolist()
    assert [items[0].guest_logit, items[2].guest_logit] == sound


def test_even_a_constant_column_must_have_a_value(shelf: Shelf) -> None:
    assert ONE.guest_half.constant == (2,)
    rows = change_row(ROWS, "anna", bank_2=None)
    assert refusal_of(shelf, rows=rows) == (ScoreReason.MISSING_FEATURE, "bank_2")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [7, np.int64(7), np.float32(7), Decimal(7)])
def test_numbers_of_other_types_are_numbers(shelf: Shelf, value: object) -> None:
    (item,) = route(shelf, make_request(), rows=change_row(ROWS, "anna", bank_1=value))  # type: ignore[arg-type]
    table = TABLE[:1].copy()
    table[0, 1] = 7.0
    assert item.guest_logit == int(score_half(table, to_kernel(ONE.guest_half))[0])


def test_a_source_that_fails_is_everybodys_reason_but_theirs_who_need_it_not(shelf: Shelf) -> None:
    told = give(**dict(zip(ONE.guest_half.columns, TABLE[1].tolist(), strict=True)))
    items = route(
        shelf,
        make_request("a"),
        make_request("b", features=told),
        make_request("c", features=told[:2]),
        rows=Problem(ScoreReason.SOURCE_FAILED, "the table is locked"),
    )
    reasons = [(item.request_id, item.reason, item.detail) for item in items]
    assert reasons[0] == ("a", ScoreReason.SOURCE_FAILED, "the table is locked")
    assert reasons[1] == ("b", ScoreReason.NONE, "")
    assert reasons[2] == ("c", ScoreReason.SOURCE_FAILED, "the table is locked")
    assert items[1].guest_logit == int(score_half(TABLE[1:2], to_kernel(ONE.guest_half))[0])


# --- what the application knows better ---


def test_values_of_the_application_go_before_those_of_the_source(shelf: Shelf) -> None:
    (item,) = route(shelf, make_request(features=give(bank_1=0.25)))
    table = TABLE[:1].copy()
    table[0, 1] = 0.25
    assert item.guest_logit == int(score_half(table, to_kernel(ONE.guest_half))[0])
    missing = change_row(ROWS, "anna", bank_1=None)
    (healed,) = route(shelf, make_request(features=give(bank_1=0.25)), rows=missing)  # type: ignore[arg-type]
    assert healed.guest_logit == item.guest_logit


def test_only_those_are_looked_up_of_whom_something_is_missing(shelf: Shelf) -> None:
    told = give(**dict(zip(ONE.guest_half.columns, TABLE[1].tolist(), strict=True)))
    up = take(
        shelf,
        make_request("a", features=told),
        make_request("b", entity_id="berta"),
        make_request("c", entity_id="berta"),
    )
    (found,) = group(up.taken)
    assert found.wanted == ["berta"]


# --- logits ---


@given(
    st.integers(1, 40),
    st.integers(0, 8),
    st.integers(0, 2**32),
    st.sampled_from([1e-300, 1e-3, 1.0, 1e6, 1e300]),
)
def test_online_logits_are_those_of_the_kernel_to_the_last_bit(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    version = Version("job-1", seed=seed, columns=columns)
    shelf = Shelf(version)
    ids = tuple(f"p{place}" for place in range(rows))
    draw = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        table = np.nan_to_num(draw.normal(size=(rows, columns)) * scale * np.array([version.guest_half.scales]))
    found = {
        entity_id: PersonFeatures(dict(zip(version.guest_half.columns, values, strict=True)))
        for entity_id, values in zip(ids, table.tolist(), strict=True)
    }
    requests = [make_request(entity, entity_id=entity, model=version.key) for entity in ids]
    items = route(shelf, *requests, rows=found)
    with np.errstate(over="ignore"):
        joint = score_half(table, to_kernel(version.guest_half))
        assert version.checked is not None
        kernel = to_kernel(version.guest_half)
        own = Half(
            kernel.standardisation, kernel.feature_clip, version.alone, version.checked.alone_intercept, SIGMOID_LIMIT
        )
        alone = score_half(table, own)
    assert [item.guest_logit for item in items] == joint.tolist()
    assert [item.alone_logit for item in items] == alone.tolist()


def test_there_is_no_logit_of_the_own_model_where_the_policy_forbids_degraded_scores() -> None:
    shelf = Shelf(Version("job-1", serve=ServeSpec(allow_degraded=False)))
    (item,) = route(shelf, make_request(model=f"{NAME}/job-1"))
    assert item.guest_logit is not None and item.alone_logit is None


def test_own_weights_that_do_not_fit_the_columns_are_refused() -> None:
    assert ONE.checked is not None
    with pytest.raises(ValueError, match="columns"):
        make_guest_model(ONE.registered, ONE.guest_half, replace(ONE.checked, alone_weights=(1, 2)))
    huge = replace(ONE.guest_half, weights=(2**50, *ONE.guest_half.weights[1:]))
    with pytest.raises(ValueError, match="overflow"):
        make_guest_model(ONE.registered, huge, ONE.checked)


# --- aliases ---


def _both() -> dict[str, PersonFeatures | None]:
    """Both versions of the tests have the same columns."""
    return dict(ROWS)


def test_a_canary_gets_its_share_of_requests_and_always_the_same_ones(shelf: Shelf) -> None:
    shelf.point("live", "job-1", canary="job-2", permille=100)
    requests = [make_request(f"request-{number}") for number in range(5_000)]
    first = {item.request_id: item.version for item in route(shelf, *requests)}
    shares = Counter(first.values())
    # 500 expected; 5 standard deviations of a binomial are 106.
    assert 394 < shares["job-2"] < 606
    assert first == {item.request_id: item.version for item in route(shelf, *reversed(requests))}
    shelf.point("live", "job-1", canary="job-2", permille=200)
    wider = {item.request_id: item.version for item in route(shelf, *requests)}
    assert {name for name, version in first.items() if version == "job-2"} < {
        name for name, version in wider.items() if version == "job-2"
    }, "who is a canary once stays one when the share grows"


def test_the_canary_is_told_by_the_first_four_bytes_of_the_ids_digest() -> None:
    # SHA-256 of "abc" begins with ba7816bf (FIPS 180-4), and 0xba7816bf % 1000 = 319.
    assert [is_canary("abc", permille) for permille in (0, 319, 320, 1000)] == [False, False, True, True]


def test_a_canary_that_is_not_served_costs_nobody_a_score() -> None:
    shelf = Shelf(ONE, Version("job-3", passed=False))
    shelf.point("live", "job-1", canary="job-3", permille=1000)
    assert shelf.resolve(f"{NAME}@live", "r-1", True) == Resolved(NAME, "job-1", "live", "")


def test_an_alias_that_moves_takes_later_requests_with_it_on_both_sides(shelf: Shelf) -> None:
    before = take(shelf, make_request("a"))
    shelf.point("live", "job-2")
    after = take(shelf, make_request("b"))
    for up, version in ((before, "job-1"), (after, "job-2")):
        assert [item.model.version for item in up.taken] == [version]
        assert [ask.version for _, ask in up.asks] == [version]


def test_a_shadow_is_asked_for_and_scored_like_a_request_of_its_own(shelf: Shelf) -> None:
    shelf.point("live", "job-1", shadow="job-2")
    up = take(shelf, make_request(features=give(bank_1=0.25)))
    assert [(ask.purpose, ask.version, ask.request_id) for _, ask in up.asks] == [
        (Purpose.LIVE, "job-1", "r-1"),
        (Purpose.SHADOW, "job-2", "r-1"),
    ]
    live, shadow = route(shelf, make_request(features=give(bank_1=0.25)))
    assert (shadow.purpose, shadow.version, shadow.alias) == (Purpose.SHADOW, "job-2", "live")
    table = TABLE[:1].copy()
    table[0, 1] = 0.25
    assert live.guest_logit == int(score_half(table, to_kernel(ONE.guest_half))[0])
    assert shadow.guest_logit == int(score_half(table, to_kernel(TWO.guest_half))[0])


def test_a_shadow_that_is_not_served_leaves_the_live_score_alone() -> None:
    shelf = Shelf(ONE, Version("job-3", passed=False))
    shelf.point("live", "job-1", shadow="job-3")
    shadow, live = route(shelf, make_request())
    assert (live.purpose, live.reason) == (Purpose.LIVE, ScoreReason.NONE)
    assert (shadow.purpose, shadow.version, shadow.reason) == (Purpose.SHADOW, "job-3", ScoreReason.NOT_SERVED)


def test_a_shadow_ignores_columns_that_only_the_live_version_has() -> None:
    shelf = Shelf(ONE, Version("job-3", columns=2))
    shelf.point("live", "job-1", shadow="job-3")
    _, shadow = route(shelf, make_request(features=give(bank_3=1.0)))
    assert (shadow.purpose, shadow.reason) == (Purpose.SHADOW, ScoreReason.NONE)


def test_no_shadow_follows_a_version_that_was_asked_for_by_name(shelf: Shelf) -> None:
    shelf.point("live", "job-1", shadow="job-2")
    assert [ask.purpose for _, ask in take(shelf, make_request(model=f"{NAME}/job-1")).asks] == [Purpose.LIVE]


def test_many_versions_score_side_by_side() -> None:
    versions = [Version(f"job-{number}", seed=number, columns=1 + number % 5) for number in range(60)]
    shelf = Shelf(*versions)
    tables = {version.version: make_rows(version.guest_half, IDS, seed=place) for place, version in enumerate(versions)}
    requests = [
        make_request(f"{version.version}-{person}", entity_id=person, model=version.key)
        for person in IDS
        for version in versions
    ]
    groups = group(take(shelf, *requests).taken)
    assert len(groups) == len(versions) and {len(found.items) for found in groups} == {len(IDS)}
    for version, found in zip(versions, groups, strict=True):
        rows, table = tables[version.version]
        items = conclude(found, rows, GUEST)
        assert [item.request_id for item in items] == [f"{version.version}-{person}" for person in IDS]
        assert [item.guest_logit for item in items] == score_half(table, to_kernel(version.guest_half)).tolist()


# --- parity ---


def test_a_parity_check_needs_no_pass_has_its_own_group_and_all_the_time_until_its_deadline() -> None:
    shelf = Shelf(Version("job-1", passed=None))
    request = make_request(model=f"{NAME}/job-1", purpose=Purpose.PARITY, deadline_ms=NOW_MS + 600_000)
    up = take(shelf, request)
    ((_, ask),) = up.asks
    assert (ask.purpose, ask.wait_until_ms) == (Purpose.PARITY, NOW_MS + 600_000)
    (found,) = group(up.taken)
    assert found.is_parity
    (item,) = conclude(found, ROWS, GUEST)
    assert (item.purpose, item.reason, item.alone_logit) == (Purpose.PARITY, ScoreReason.NONE, None)


def test_parity_checks_and_live_requests_of_one_version_are_never_looked_up_together(shelf: Shelf) -> None:
    up = take(
        shelf, make_request("a"), make_request("b", model=f"{NAME}/job-1", purpose=Purpose.PARITY), make_request("c")
    )
    groups = group(up.taken)
    assert [(found.is_parity, len(found.items)) for found in groups] == [(False, 2), (True, 1)]


# --- idempotence, secrecy ---


def test_routing_again_gives_the_same_but_for_times(shelf: Shelf) -> None:
    shelf.point("live", "job-1", canary="job-2", permille=500, shadow="job-2")
    requests = [make_request(f"r{number}", entity_id=IDS[number % 3]) for number in range(20)]
    requests.append(make_request("bad", model="?"))
    later = NOW_US + 7_000_000
    slow = [replace(request, deadline_ms=NOW_MS + 60_000) for request in requests]
    once, twice = take(shelf, *slow), take(shelf, *slow, now_us=later)
    timeless = [[(host, replace(ask, asked_at_us=0, wait_until_ms=0)) for host, ask in up.asks] for up in (once, twice)]
    assert timeless[0] == timeless[1] and timeless[0]
    first, second = (
        [replace(item, routed_at_us=0, wait_until_ms=0) for item in route(shelf, *slow, now_us=now)]
        for now in (NOW_US, later)
    )
    assert first == second


def test_nothing_of_person_features_and_logits_goes_to_the_host(shelf: Shelf) -> None:
    values = (0.123456789, 98765.4321, 5.5511e-3, 3.25e9)
    told = give(**dict(zip(ONE.guest_half.columns, values, strict=True)))
    request = make_request(entity_id="canary-entity-0815", features=told)
    up = take(shelf, request)
    (item,) = route(shelf, request)
    sent = encode(ScoresAsked(1, tuple(ask for _, ask in up.asks)))
    assert b"r-1" in sent and up.asks[0][1].token in sent, "the search finds what is there"
    secrets = [b"canary-entity", b"canary", up.taken[0].pseudonym, *(np.float64(value).tobytes() for value in values)]
    assert item.guest_logit is not None and item.alone_logit is not None
    for logit in (item.guest_logit, item.alone_logit):
        assert abs(logit) > 2**14
        secrets += [np.int64(logit).tobytes()[:4], str(logit).encode(), _zigzag(logit)]
    assert _zigzag(item.guest_logit) in encode(item), "the search would find a logit"
    for secret in secrets:
        assert secret not in sent


def _zigzag(value: int) -> bytes:
    """A long as Avro writes it."""
    rest, coded = (value << 1) ^ (value >> 63), bytearray()
    while rest > 127:
        coded.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*coded, rest])


def test_references_are_parsed() -> None:
    for text, parts in {
        "a": ("a", "", "live"),
        "a@b": ("a", "", "b"),
        "a/b": ("a", "b", ""),
        "a.b-c_d@e.f": ("a.b-c_d", "", "e.f"),
    }.items():
        found = parse_reference(text)
        assert found is not None and (found.name, found.version, found.alias) == parts
    for text in ("", "@", "a@", "/b", "a/b/c", "a@b/c", "a b", "a\n", "-a", "a" * 101):
        assert parse_reference(text) is None
