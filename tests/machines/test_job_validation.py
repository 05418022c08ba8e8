"""A spec's mistakes are all found at once, each at its path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from schemas.catalogue import load_catalogue
from schemas.conversion import from_plain
from schemas.jobs import (
    AlignSpec,
    EvaluateSpec,
    JobSpec,
    Leak,
    PartySpec,
    Privacy,
    TrainSpec,
)
from schemas.profiles import KeyProfile
from streams.machines.job import validate_spec
from streams.machines.job.validation import MOST_FEATURES, MOST_SPEC_BYTES, validate_job_id
from tests.machines.job_world import SPEC, small_keys
from tests.schemas.strategies import values_of

NAN, INFINITY = float("nan"), float("inf")


def paths(spec: JobSpec) -> list[str]:
    """Where the mistakes of a spec are."""
    return [mistake.path for mistake in validate_spec(spec)]


def trained(**changes: Any) -> JobSpec:
    """The good spec with other training."""
    return replace(SPEC, train=replace(TrainSpec(), **changes))


def test_the_defaults_are_in_order() -> None:
    assert validate_spec(SPEC) == ()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (replace(SPEC, name=""), ["name"]),
        (replace(SPEC, name="a/b"), ["name"]),
        (replace(SPEC, name="x" * 101), ["name"]),
        (replace(SPEC, guest=PartySpec("a.b", "d")), ["guest.party"]),
        (replace(SPEC, guest=PartySpec("", "")), ["guest.party", "guest.dataset"]),
        (replace(SPEC, guest=PartySpec("a", "d", ("x", "", "x"))), ["guest.features[1]", "guest.features[2]"]),
        (replace(SPEC, guest=PartySpec("a", "d", ("x", "left"))), ["guest.features[1]"]),
        (replace(SPEC, label=""), ["label"]),
        (replace(SPEC, hosts=()), ["hosts"]),
        (replace(SPEC, hosts=(SPEC.hosts[0], PartySpec("hooli", "d"))), ["hosts"]),
        (replace(SPEC, hosts=(SPEC.hosts[0], SPEC.hosts[0])), ["hosts", "hosts[1].party"]),
        (replace(SPEC, hosts=(PartySpec("acme", "d"),)), ["hosts[0].party"]),
        (
            replace(SPEC, hosts=(PartySpec("b c", "", ("", "y", "y")),)),
            ["hosts[0].party", "hosts[0].dataset", "hosts[0].features[0]", "hosts[0].features[2]"],
        ),
        (replace(SPEC, align=AlignSpec("iban")), ["align.id_type"]),
        (trained(algorithm="svm"), ["train.algorithm"]),
        (trained(l2=-1.0), ["train.l2"]),
        (trained(l2=NAN), ["train.l2"]),
        (trained(l2=INFINITY), ["train.l2"]),
        (trained(max_passes=0), ["train.max_passes"]),
        (trained(tolerance=0.0), ["train.tolerance"]),
        (trained(coarse_passes=-1), ["train.coarse_passes"]),
        (trained(feature_clip=0.0), ["train.feature_clip"]),
        (trained(feature_clip=8.1), ["train.feature_clip"]),
        (trained(rank=-1), ["train.rank"]),
        (trained(rank=1000), ["train.rank"]),
        (trained(rank=0), ["train.sup_error"]),
        (trained(rank=0, sup_error=1e-300), ["train.sup_error"]),
        (trained(rank=4, sup_error=0.01), ["train.sup_error"]),
        (trained(rank=0, sup_error=0.01), []),
        (trained(sup_error=NAN), ["train.sup_error"]),
        (trained(guest_logit_clip=0.0), ["train.guest_logit_clip"]),
        (trained(host_logit_clip=NAN), ["train.host_logit_clip"]),
        (trained(guest_logit_clip=1000.0), ["train.guest_logit_clip"]),
        (trained(key_bits=1024), ["train.key_bits"]),
        (trained(key_bits=2049), ["train.key_bits"]),
        (trained(key_bits=4096), ["train.key_bits"]),
        (trained(key_bits=3072), []),
        (trained(privacy=Privacy.TRUSTED_GUEST), ["accept_leaks"]),
        (replace(trained(privacy=Privacy.TRUSTED_GUEST), accept_leaks=(Leak.HOST_ROWS_TO_GUEST,)), []),
        (replace(SPEC, evaluate=EvaluateSpec(0.0)), ["evaluate.holdout_fraction"]),
        (replace(SPEC, evaluate=EvaluateSpec(1.0)), ["evaluate.holdout_fraction"]),
        (replace(SPEC, accept_leaks=(Leak.SMALL_TABLE, Leak.SMALL_TABLE)), ["accept_leaks[1]"]),
        (replace(SPEC, deadline_seconds=0), ["deadline_seconds"]),
        (replace(SPEC, deadline_seconds=10**9), ["deadline_seconds"]),
        (replace(SPEC, patience_seconds=0), ["patience_seconds"]),
        (replace(SPEC, deadline_seconds=10), ["patience_seconds"]),
    ],
)
def test_each_mistake_is_found_at_its_path(spec: JobSpec, expected: list[str]) -> None:
    assert paths(spec) == expected


def test_all_mistakes_are_told_at_once() -> None:
    spec = replace(
        trained(algorithm="svm", l2=-1.0, key_bits=7),
        label="",
        align=AlignSpec("iban"),
        evaluate=EvaluateSpec(2.0),
        hosts=(PartySpec("acme", ""),),
    )
    assert paths(spec) == [
        "label",
        "hosts[0].dataset",
        "hosts[0].party",
        "align.id_type",
        "train.algorithm",
        "train.l2",
        "train.key_bits",
        "evaluate.holdout_fraction",
    ]


def test_small_keys_are_for_those_who_ask() -> None:
    assert paths(small_keys()) == ["train.key_bits"]
    assert validate_spec(small_keys(), least_key_bits=256) == ()
    assert [m.path for m in validate_spec(small_keys(), least_key_bits=512)] == ["train.key_bits"]


def test_what_the_federation_has_not_agreed_on_is_a_mistake() -> None:
    agreed = frozenset({Privacy.SPLIT_LINK})
    assert validate_spec(SPEC, least_key_bits=2048, privacy=agreed) == ()
    asking = replace(
        SPEC,
        train=replace(SPEC.train, privacy=Privacy.TRUSTED_GUEST),
        accept_leaks=(Leak.HOST_ROWS_TO_GUEST,),
    )
    assert validate_spec(asking) == ()
    mistakes = validate_spec(asking, least_key_bits=3072, privacy=agreed)
    assert [mistake.path for mistake in mistakes] == ["train.privacy", "train.key_bits"]
    assert "has agreed on (split_link)" in mistakes[0].message
    assert "2048 is below 3072, on which the federation has agreed" in mistakes[1].message


@pytest.mark.parametrize(
    ("agreed", "asked", "is_good"),
    [
        (KeyProfile.EXACT, KeyProfile.EXACT, True),
        (KeyProfile.EXACT, KeyProfile.DJN, False),
        (KeyProfile.EXACT, KeyProfile.DJN448, False),
        (KeyProfile.DJN, KeyProfile.EXACT, True),
        (KeyProfile.DJN, KeyProfile.DJN, True),
        (KeyProfile.DJN, KeyProfile.DJN448, False),
        (KeyProfile.DJN448, KeyProfile.DJN448, True),
    ],
)
def test_a_job_goes_no_further_from_exact_randomisers_than_was_agreed(
    agreed: KeyProfile, asked: KeyProfile, is_good: bool
) -> None:
    asking = replace(SPEC, train=replace(SPEC.train, key_profile=asked))
    mistakes = validate_spec(asking, key_profile=agreed)
    assert [mistake.path for mistake in mistakes] == ([] if is_good else ["train.key_profile"])
    if not is_good:
        allowed = ", ".join(agreed.allowed)
        assert mistakes[0].message == f"{asked} is not what the federation has agreed on ({allowed})"


@pytest.mark.parametrize(
    ("job_id", "is_good"),
    [("churn-2", True), ("", False), ("a/b", False), ("../x", False), ("é", False), ("x" * 101, False)],
)
def test_a_job_id_is_fit_for_keys_and_file_names(job_id: str, is_good: bool) -> None:
    assert (validate_job_id(job_id) == ()) == is_good


@settings(max_examples=200, deadline=None)
@given(values_of(load_catalogue().newest(JobSpec).schema))
def test_no_spec_that_can_be_decoded_makes_the_validation_fail(plain: dict[str, Any]) -> None:
    for mistake in validate_spec(from_plain(JobSpec)(plain, None)):
        assert mistake.path
        assert mistake.message
        assert len(mistake.message) < 500


def test_a_spec_that_is_too_large_has_that_mistake_only() -> None:
    """Whoever proposes it must not make us look at a hundred thousand columns, nor write about each."""
    wide = replace(SPEC, hosts=(replace(SPEC.hosts[0], features=tuple(f"{n}" for n in range(MOST_FEATURES + 1))),))
    long = replace(SPEC, label="l" * MOST_SPEC_BYTES, train=replace(TrainSpec(), l2=-1))
    assert (paths(wide), paths(long)) == (["hosts[0].features"], [""])
    at_most = replace(SPEC, hosts=(replace(SPEC.hosts[0], features=tuple(f"{n}" for n in range(MOST_FEATURES))),))
    assert paths(at_most) == []


def test_a_number_beyond_64_bits_is_a_mistake_at_its_path() -> None:
    """YAML has them; a record has not."""
    assert paths(replace(SPEC, deadline_seconds=10**30)) == ["deadline_seconds"]
