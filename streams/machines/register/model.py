"""What is said about a model: references to halves, the whole, and what a host checks before it signs on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

from schemas.codec import encode
from schemas.digests import digest_of
from schemas.evaluation import EvaluationReady
from schemas.jobs import JobSpec, Role
from schemas.models import HalfReference, ModelHalf, ModelRegistered
from schemas.record import Blob
from schemas.registration import HalfStored
from streams.machines.task import violation

_SHA256_BYTES = 32
#: What a registry keeps of other parties' words.
MOST_CODE_CHARACTERS, MOST_FINGERPRINT_BYTES = 200, 64
MOST_MEASURES, MOST_NAME_CHARACTERS = 50, 100
#: The single-object encoding is two bytes of marker, eight of schema fingerprint, and the body.
_FINGERPRINT = slice(2, 10)


def store_half(half: ModelHalf, code_fingerprint: str) -> tuple[Blob, HalfReference]:
    """The half as it is kept, and as others hear of it."""
    blob = Blob.of(encode(half))
    fingerprint = blob.content[_FINGERPRINT]
    return blob, HalfReference(half.party, half.role, blob.sha256, fingerprint, half.data_fingerprint, code_fingerprint)


def digest_model(halves: Iterable[HalfReference]) -> bytes:
    """SHA-256 over the halves' digests in the order of the parties' names."""
    ordered = sorted(halves, key=lambda half: half.party)
    return hashlib.sha256(b"".join(half.sha256 for half in ordered)).digest()


def registry_key(model: ModelRegistered) -> str:
    """Where registries keep it: every party can tell without asking."""
    return f"{model.name}/{model.version}"


def assemble(
    job_id: str, spec: JobSpec, halves: Iterable[HalfReference], evaluation: EvaluationReady
) -> ModelRegistered:
    """The whole model as every registry tells it."""
    ordered = tuple(sorted(halves, key=lambda half: half.party))
    return ModelRegistered(
        name=spec.name,
        version=job_id,
        job_id=job_id,
        model_sha256=digest_model(ordered),
        halves=ordered,
        metrics=evaluation.shared,
        rows_train=evaluation.rows_train,
        rows_holdout=evaluation.rows_holdout,
        spec=spec,
        spec_digest=digest_of(spec),
    )


def check_half(spec: JobSpec, sender: str, stored: HalfStored) -> None:
    """Refuse a half that is not the sender's own half of this job's model. Raises `RefusalError`."""
    if stored.spec_digest != digest_of(spec):
        raise violation(sender, f"{sender} offers a half of another spec's model")
    if stored.half.party != sender or stored.half.role is not Role.HOST:
        raise violation(sender, f"{sender} offers the half of {stored.half.role} {stored.half.party}")
    _check_reference(sender, stored.half)


def check_model(job_id: str, spec: JobSpec, own: HalfReference, model: ModelRegistered) -> None:
    """Refuse a model that is not this job's, lacks the own half, or does not digest to what it says.

    Raises `RefusalError` that blames the guest.
    """
    guest = spec.guest.party
    if (model.name, model.version, model.job_id) != (spec.name, job_id, job_id):
        raise violation(guest, f"{guest} assembled {registry_key(model)} for the job {job_id} of model {spec.name}")
    if model.spec != spec or model.spec_digest != digest_of(spec):
        raise violation(guest, f"{guest} assembled a model of another spec than the one that was approved")
    roles = {guest: Role.GUEST, **{host.party: Role.HOST for host in spec.hosts}}
    if [(half.party, half.role) for half in model.halves] != sorted(roles.items()):
        raise violation(guest, f"{guest} assembled a model of other halves than those of {', '.join(sorted(roles))}")
    if own not in model.halves:
        raise violation(guest, f"{guest} assembled a model with another half of {own.party} than was offered")
    for half in model.halves:
        _check_reference(guest, half)
    if model.model_sha256 != digest_model(model.halves):
        raise violation(guest, f"{guest} gives a model digest that is not that of the halves")
    if len(model.metrics) > MOST_MEASURES:
        raise violation(guest, f"{guest} shares {len(model.metrics)} measures; {MOST_MEASURES} are the most")
    for measure in model.metrics:
        if len(measure.name) > MOST_NAME_CHARACTERS or not math.isfinite(measure.value):
            raise violation(guest, f"{guest} shares a measure {measure.name[:100]!r} of {measure.value}")


def _check_reference(sender: str, half: HalfReference) -> None:
    """Every registry keeps it: digests must be digests, texts short. Raises `RefusalError`."""
    if len(half.sha256) != _SHA256_BYTES:
        raise violation(sender, f"{sender} offers a digest of {len(half.sha256)} bytes")
    if max(len(half.schema_fingerprint), len(half.data_fingerprint)) > MOST_FINGERPRINT_BYTES:
        raise violation(sender, f"{sender} offers a half with fingerprints of more than {MOST_FINGERPRINT_BYTES} bytes")
    if len(half.code_fingerprint) > MOST_CODE_CHARACTERS:
        raise violation(sender, f"{sender} tells of its program in more than {MOST_CODE_CHARACTERS} characters")
