"""The models of a party: the registry topic names them, the object store holds the party's own half."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from consumers.party import Party
from infra.settings import PartySettings
from infra.topics import registry_topic
from producers.job_client import JobError
from producers.topic_reader import TopicReader, connection_of
from schemas.codec import DecodeError, decode
from schemas.models import ModelHalf, ModelRegistered
from schemas.record import Blob
from streams.engine.blobs import SealedBlobs
from streams.engine.ports import StorageError

WEIGHT_BITS = 24


def read_models(settings: PartySettings) -> dict[str, ModelRegistered]:
    """All registered models, by `name/version`, oldest first. Raises `BrokerUnavailableError`."""
    reader = TopicReader(connection_of(settings), registry_topic(settings.party))
    try:
        entries = reader.read_to_end()
    finally:
        reader.close()
    return {entry.key: entry.record for entry in entries if isinstance(entry.record, ModelRegistered)}


def find_model(models: dict[str, ModelRegistered], wanted: str) -> ModelRegistered:
    """By `name/version`, job id, or name if it has one version. Raises `JobError`."""
    matching = [model for key, model in models.items() if wanted in (key, model.job_id, model.name)]
    if not matching:
        raise JobError(f"there is no model {wanted}; `isthmus model list` shows those there are")
    if len(matching) > 1:
        raise JobError(
            f"{wanted} has {len(matching)} versions: name one, such as {matching[-1].name}/{matching[-1].version}"
        )
    return matching[0]


def load_half(party: Party, model: ModelRegistered) -> ModelHalf:
    """The party's own half from its object store, opened and checked against its digest. Raises `JobError`."""
    digest = next((half.sha256 for half in model.halves if half.party == party.name), None)
    if digest is None:
        raise JobError(f"{party.name} has no half of {model.name}/{model.version}")
    try:
        half = decode(SealedBlobs(party.objects, party.keyring).load(Blob(digest, 0)))
    except (StorageError, DecodeError) as error:
        raise JobError(f"the half {digest.hex()} cannot be read: {error}") from error
    if not isinstance(half, ModelHalf):
        raise JobError(f"the object {digest.hex()} is a {type(half).__name__}, not a model half")
    return half


def half_mapping(half: ModelHalf) -> dict[str, Any]:
    """The half as plain values: exact integers as stored, and weights as numbers for people."""
    scale = 2.0**-WEIGHT_BITS
    return {
        **{key: value.hex() if isinstance(value, bytes) else value for key, value in asdict(half).items()},
        "coef_": {name: weight * scale for name, weight in zip(half.columns, half.weights, strict=True)},
        "intercept_": None if half.intercept is None else half.intercept * scale,
    }


def model_mapping(model: ModelRegistered) -> dict[str, Any]:
    """The registry entry as plain values."""
    return {
        "name": model.name,
        "version": model.version,
        "job_id": model.job_id,
        "model_sha256": model.model_sha256.hex(),
        "halves": {half.party: half.sha256.hex() for half in model.halves},
        "data": {half.party: half.data_fingerprint.hex() for half in model.halves},
        "code": {half.party: half.code_fingerprint for half in model.halves},
        "metrics": {measure.name: measure.value for measure in model.metrics},
        "rows_train": model.rows_train,
        "rows_holdout": model.rows_holdout,
        "spec_digest": model.spec_digest.hex(),
    }
