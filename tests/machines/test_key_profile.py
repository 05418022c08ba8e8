"""A job's key profile: who may ask for one, and that it changes what a party encrypts itself, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import gmpy2
import numpy as np
from gmpy2 import mpz

from schemas.codec import decode
from schemas.job_states import EndedJob, GuestJob, HostJob
from schemas.jobs import JobRejected, Mistake, ProposeJob, Reason, SubmitJob
from schemas.profiles import KeyProfile
from schemas.training import (
    EncryptedBasis,
    EncryptedResiduals,
    EncryptedShares,
    MaskedHostGradient,
    MaskedResiduals,
    TrainReady,
)
from streams.machine import Event, ToEvents, ToPeer
from streams.machines.job import JobMachine
from tests.machines.driver import Driver
from tests.machines.job_world import EAGER, GUEST, HOST, JOB, SPEC, dataset
from tests.machines.train_cases import make_case, run_case, weights_of

#: Key bits of the cases: half of it are the exponents of both short profiles.
KEY_BITS = 512


def symbols(driver: Driver) -> dict[str, set[int]]:
    """Jacobi symbols of all ciphertexts, which anybody can compute, by who made them: the key's owner or its peer."""
    sent = [(delivery.sender, decode(delivery.data, driver.loader(delivery.sender))) for delivery in driver.wire]
    moduli = {
        sender: mpz(int.from_bytes(ready.modulus, "big")) for sender, ready in sent if isinstance(ready, TrainReady)
    }
    found: dict[str, set[int]] = {"owner": set(), "peer": set()}
    for sender, record in sent:
        (other,) = moduli.keys() - {sender}
        vectors = {
            EncryptedBasis: (("ciphertexts", sender),),
            EncryptedResiduals: (("ciphertexts", sender),),
            EncryptedShares: (("ciphertexts", sender),),
            MaskedResiduals: (("residuals", other), ("masks", sender)),
            MaskedHostGradient: (("ciphertexts", other),),
        }.get(type(record), ())
        for name, keeper in vectors:
            data, width = getattr(record, name), KEY_BITS // 4
            for start in range(0, len(data), width):
                value = mpz(int.from_bytes(data[start : start + width], "big"))
                maker = "owner" if keeper == sender else "peer"
                found[maker].add(gmpy2.jacobi(value % moduli[keeper], moduli[keeper]))
    return found


def test_a_key_profile_that_the_federation_does_not_allow_is_refused_by_name_at_both_ends() -> None:
    spec = replace(SPEC, train=replace(SPEC.train, key_profile=KeyProfile.DJN))
    guest, host = (JobMachine(party, EAGER) for party in (GUEST, HOST))
    refused = guest.step(guest.initial(JOB), Event(SubmitJob(JOB, spec), GUEST, dataset(GUEST)))
    (output,) = refused.outputs
    assert isinstance(output, ToEvents)
    assert isinstance(output.record, JobRejected)
    expected = Mistake("train.key_profile", "djn is not what the federation has agreed on (exact)")
    assert output.record.mistakes == (expected,)
    declined = host.step(host.initial(JOB), Event(ProposeJob(JOB, spec), GUEST, dataset(HOST)))
    assert isinstance(declined.state, EndedJob)
    assert declined.state.reason is Reason.INVALID_SPEC
    answers = [output.record for output in declined.outputs if isinstance(output, ToPeer)]
    assert any(expected.message in str(answer) for answer in answers)
    # Where it is allowed, both go on.
    guest, host = (JobMachine(party, EAGER, key_profile=KeyProfile.DJN448) for party in (GUEST, HOST))
    submitted = guest.step(guest.initial(JOB), Event(SubmitJob(JOB, spec), GUEST, dataset(GUEST)))
    assert isinstance(submitted.state, GuestJob)
    proposed = host.step(host.initial(JOB), Event(ProposeJob(JOB, spec), GUEST, dataset(HOST)))
    assert isinstance(proposed.state, HostJob)


def test_a_profile_is_about_what_the_owner_encrypts_and_not_about_what_is_refreshed_toward_it() -> None:
    """Short randomisers are powers of one base, of Jacobi symbol 1; what a peer refreshes has both symbols, always."""
    runs = {
        profile: run_case(make_case(max_passes=3, key_bits=KEY_BITS, key_profile=profile)) for profile in KeyProfile
    }
    assert symbols(runs[KeyProfile.EXACT]) == {"owner": {1, -1}, "peer": {1, -1}}
    assert symbols(runs[KeyProfile.DJN]) == {"owner": {1}, "peer": {1, -1}}
    assert symbols(runs[KeyProfile.DJN448]) == {"owner": {1}, "peer": {1, -1}}
    # Pads depend on what was sent: models differ by the cuts of the gradients only, as with other secrets.
    exact = weights_of(runs[KeyProfile.EXACT])
    assert all(np.abs(weights_of(run) - exact).max() < 2e-3 for run in runs.values())
