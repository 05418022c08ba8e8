"""Writes down what an auditor needs to execute a party's part in a job again: its secrets, its records, no table."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from consumers.code import fingerprint_code
from consumers.party import FINGERPRINT, Party
from infra.access import REVEALER
from infra.connection import connect_as
from infra.topics import job_audit_topic
from producers.audit_trail import AuditError
from producers.job_client import JobError
from producers.job_inputs import JobInputs
from producers.record_file import write_record
from schemas.jobs import JobSpec
from schemas.revelations import RevealedJob, RevealedStep
from streams.engine.revelation import gather_steps, reveal_steps
from streams.engine.seal import SealError
from streams.kernels.entropy import COHORT_LEDGER, COHORT_ROWS, JOINT_ORDER, reveal_secret

#: How many steps of how many are written.
Advance = Callable[[int, int], None]


def write_revelation(party: Party, job_id: str, spec: JobSpec, out: Path, advance: Advance) -> int:
    """Write the file, readable by its owner only; gives the number of steps.

    Raises `JobError`: nothing of the job is written down here; `AuditError`: records of it are gone, or keys to open
    them; `BrokerUnavailableError`. Nothing half-done stays.
    """
    header = _describe(party, job_id, spec)
    scratch = out.with_name(f".{out.name}.{os.getpid()}")
    with contextlib.ExitStack() as stack:
        inputs = stack.enter_context(JobInputs(connect_as(party.settings, REVEALER), job_id))
        steps = gather_steps(inputs.read_books(job_audit_topic(party.name)))
        if not steps:
            raise JobError(f"{party.name} wrote nothing down of a job {job_id}: is the id right?")
        stack.callback(scratch.unlink, missing_ok=True)
        done = 0
        try:
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                write_record(file, header)
                for record in reveal_steps(party.keyring, job_id, steps, inputs.fetch):
                    write_record(file, record)
                    if isinstance(record, RevealedStep):
                        done += 1
                        advance(done, len(steps))
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(out)
        except SealError as error:
            raise AuditError(
                f"job {job_id} cannot be revealed: {error}. Were former keys deleted (`isthmus federation erase`)?"
            ) from error
        except OSError as error:
            raise AuditError(f"{out} could not be written: {error}") from error
    return done


def _describe(party: Party, job_id: str, spec: JobSpec) -> RevealedJob:
    secret = reveal_secret(party.secrets.master_secret, job_id)
    shares = (spec.guest, *spec.hosts)
    name = next((share.dataset for share in shares if share.party == party.name), "")
    dataset = party.settings.datasets.get(name)
    if dataset is None:
        raise AuditError(f"{party.name} offers no dataset {name!r} any more, which this job used: see party.yaml")
    approval, profile = party.settings.approval, party.secrets.profile
    return RevealedJob(
        job_id=job_id,
        party=party.name,
        peers=tuple(sorted(party.keyring.peers)),
        seed=secret.seed,
        order_key=secret.keys[JOINT_ORDER],
        rows_key=secret.keys[COHORT_ROWS],
        ledger_key=secret.keys[COHORT_LEDGER],
        fingerprint_key=party.secrets.derive(FINGERPRINT),
        dataset=name,
        id_column=dataset.id,
        label_column=dataset.label or "",
        auto_approve=approval.auto,
        accept_leaks=tuple(approval.accept_leaks),
        privacy=tuple(profile.privacy),
        least_key_bits=profile.paillier_bits,
        key_profile=profile.randomisers,
        code_fingerprint=fingerprint_code(),
        manifests=tuple(version.manifest.digest for version in party.secrets.versions),
    )
