"""YAML specs: all mistakes at once, each with its path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from producers.spec import SpecError, parse_spec, path_of, read_spec, spec_to_yaml
from schemas.jobs import JobSpec, Leak, Mistake, PartySpec, Privacy, TrainSpec
from schemas.profiles import KeyProfile

GOOD = """
name: credit
guest: {party: bank, dataset: loans}
label: y
hosts:
  - {party: shop, dataset: carts}
"""


def _mistakes(text: str) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    paths = [mistake.path for mistake in caught.value.mistakes]
    assert len(paths) == len(set(paths)), "a path is complained about once"
    return {mistake.path: mistake.message for mistake in caught.value.mistakes}


def test_the_shortest_spec_means_the_defaults() -> None:
    assert parse_spec(GOOD) == JobSpec("credit", PartySpec("bank", "loans"), "y", (PartySpec("shop", "carts"),))


def test_every_field_can_be_written() -> None:
    spec = JobSpec(
        "credit",
        PartySpec("bank", "loans", ("age", "income")),
        "y",
        (PartySpec("shop", "carts", ("items",)),),
        train=TrainSpec(
            privacy=Privacy.TRUSTED_GUEST, l2=0.5, max_passes=3, rank=4, key_bits=3072, key_profile=KeyProfile.DJN
        ),
        accept_leaks=(Leak.SMALL_TABLE, Leak.HOST_ROWS_TO_GUEST),
        deadline_seconds=60,
        patience_seconds=5,
    )
    assert parse_spec(spec_to_yaml(spec)) == spec
    assert parse_spec(spec_to_yaml(replace(spec, name="other"))) != spec


def test_mistakes_of_form_and_of_meaning_are_reported_together() -> None:
    found = _mistakes(
        """
        name: credit
        guest: {party: bank, dataset: loans, colour: red}
        hosts:
          - {party: bank, dataset: 7}
        boosting: {trees: 3}
        train: {algorithm: magic, rank: many, l2: -1, privacy: none}
        evaluate: {holdout_fraction: 2}
        accept_leaks: [small_table, everything]
        patience_seconds: 0.5
        """
    )
    assert set(found) == {
        "guest.colour",
        "label",
        "hosts[0].dataset",
        "hosts[0].party",
        "boosting",
        "train.algorithm",
        "train.rank",
        "train.l2",
        "train.privacy",
        "evaluate.holdout_fraction",
        "accept_leaks[1]",
        "patience_seconds",
    }
    assert "not a key here; a spec knows name, guest, label, hosts, align, train" in found["boosting"]
    assert "`guest` knows party, dataset, features" in found["guest.colour"]
    assert found["label"] == "is missing"
    assert "whole number" in found["train.rank"]
    assert "split_link" in found["train.privacy"]
    assert "small_table" in found["accept_leaks[1]"]
    assert "must be text, not 7" in found["hosts[0].dataset"]


def test_a_mistake_deep_inside_does_not_hide_others() -> None:
    found = _mistakes(GOOD + "train: [1, 2]\nalign: {id_type: shoe-size}\n")
    assert set(found) == {"train", "align.id_type"}
    assert "mapping" in found["train"]


def test_nothing_at_all_lists_everything_that_is_needed() -> None:
    assert set(_mistakes("{}")) == {"name", "guest", "label", "hosts"}


@pytest.mark.parametrize("text", ["", "- a list", "just text", "3"])
def test_what_is_no_mapping_is_refused_with_the_keys_that_a_spec_has(text: str) -> None:
    assert "name, guest, label, hosts" in _mistakes(text)[""]


def test_broken_yaml_is_refused_with_its_line() -> None:
    assert "line 2" in _mistakes("name: credit\nguest: {party: bank")[""]


def test_a_key_that_occurs_twice_is_refused() -> None:
    assert "'label' occurs twice" in _mistakes(GOOD + "label: z\n")[""]


def test_yaml_cannot_make_python_objects() -> None:
    assert "YAML" in _mistakes("!!python/object/apply:os.getcwd []")[""]


def test_numbers_in_quotes_and_truth_values_are_not_numbers() -> None:
    assert set(_mistakes(GOOD + 'train: {rank: "6", max_passes: true, l2: "1"}\n')) == {
        "train.rank",
        "train.max_passes",
        "train.l2",
    }


def test_a_whole_number_serves_where_any_number_does() -> None:
    assert parse_spec(GOOD + "train: {l2: 2}\n").train.l2 == 2.0


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"spec\.yaml is not UTF-8"):
        read_spec(path)


def test_paths_read_like_python() -> None:
    assert path_of(("hosts", 0, "features", 2)) == "hosts[0].features[2]"


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_good_spec(path: Path) -> None:
    assert isinstance(read_spec(path), JobSpec)


def test_the_error_reads_as_path_and_message() -> None:
    assert str(SpecError([Mistake("train.rank", "is too large")])) == "train.rank: is too large"
