"""What a coordinator takes from the party's manifest."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from consumers.coordinator import make_machine
from consumers.party import Party
from infra.manifest import Profile
from schemas.jobs import Privacy, SubmitJob
from schemas.profiles import KeyProfile
from streams.machine import Event
from tests.machines.job_world import GUEST, HOST, JOB, SPEC, dataset


def mistakes_of(profile: Profile, **train: object) -> list[str]:
    """Paths of what a coordinator under this profile finds wrong with a submission."""
    party = SimpleNamespace(
        name=GUEST,
        settings=SimpleNamespace(approval=SimpleNamespace(auto=True, accept_leaks=())),
        secrets=SimpleNamespace(profile=profile, master_secret=b"s" * 32),
        keyring=SimpleNamespace(peers=frozenset({HOST})),
    )
    machine = make_machine(cast("Party", party))
    spec = replace(SPEC, train=replace(SPEC.train, **train))  # type: ignore[arg-type]
    step = machine.step(machine.initial(JOB), Event(SubmitJob(JOB, spec), GUEST, dataset(GUEST)))
    records = [getattr(output, "record", None) for output in step.outputs]
    return [mistake.path for record in records for mistake in getattr(record, "mistakes", ())]


@pytest.mark.parametrize(
    ("profile", "train", "wrong"),
    [
        (Profile(), {}, []),
        (Profile(), {"key_profile": KeyProfile.DJN}, ["train.key_profile"]),
        (Profile(randomisers=KeyProfile.DJN), {"key_profile": KeyProfile.DJN}, []),
        (Profile(randomisers=KeyProfile.DJN), {"key_profile": KeyProfile.DJN448}, ["train.key_profile"]),
        (Profile(paillier_bits=3072), {}, ["train.key_bits"]),
        (Profile(privacy=(Privacy.TRUSTED_GUEST,)), {}, ["train.privacy"]),
    ],
)
def test_what_the_manifest_does_not_allow_is_refused(
    profile: Profile, train: dict[str, object], wrong: list[str]
) -> None:
    assert mistakes_of(profile, **train) == wrong
