"""Which version an alias means: reading and changing the serving topic of a guest."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from confluent_kafka import Producer

from infra.settings import PartySettings
from infra.topics import serving_topic
from producers.job_client import JobError
from producers.model_reader import read_models
from producers.topic_reader import QUIET, TopicReader, connection_of
from schemas.codec import encode
from schemas.models import ModelRegistered
from schemas.record import Record
from schemas.serving import ServingAlias, ServingVersion

DEFAULT_ALIAS = "live"
FLUSH_SECONDS = 15.0
PERMILLE = 1000


@dataclass
class Serving:
    """What the serving topic says now, by key."""

    versions: dict[str, ServingVersion] = field(default_factory=dict)
    aliases: dict[str, ServingAlias] = field(default_factory=dict)


def read_serving(settings: PartySettings) -> Serving:
    """Raises `BrokerUnavailableError`."""
    reader = TopicReader(connection_of(settings), serving_topic(settings.party), with_deletions=True)
    try:
        entries = reader.read_to_end()
    finally:
        reader.close()
    serving = Serving()
    for entry in entries:
        match entry.record:
            case ServingVersion():
                serving.versions[entry.key] = entry.record
            case ServingAlias():
                serving.aliases[entry.key] = entry.record
            case None if not entry.problem:
                serving.versions.pop(entry.key, None)
                serving.aliases.pop(entry.key, None)
    return serving


def split_alias(text: str) -> tuple[str, str]:
    """`NAME@ALIAS`, or `NAME` for its alias `live`. Raises `JobError`."""
    name, at, alias = text.partition("@")
    if not name or (at and not alias) or "/" in alias:
        raise JobError(f"{text!r} is no alias: write NAME@ALIAS, such as credit-risk@live")
    return name, alias or DEFAULT_ALIAS


def set_alias(
    settings: PartySettings,
    text: str,
    version: str,
    *,
    canary_version: str = "",
    canary_permille: int = 0,
    shadow_version: str = "",
) -> ServingAlias:
    """Let `NAME@ALIAS` mean this version from now on. Raises `JobError` for a version that may not be served."""
    name, alias = split_alias(text)
    models, serving = read_models(settings), read_serving(settings)
    if bool(canary_version) != bool(canary_permille):
        raise JobError("a canary needs both its version and its share: --canary VERSION --canary-permille N")
    for each in (version, canary_version, shadow_version):
        if each:
            check_served(name, each, models, serving)
    before = serving.aliases.get(f"{name}@{alias}")
    changed = ServingAlias(
        model=name,
        alias=alias,
        version=version,
        canary_version=canary_version,
        canary_permille=canary_permille,
        shadow_version=shadow_version,
        previous_version="" if before is None else _previous(before, version),
        changed_at_ms=time.time_ns() // 1_000_000,
    )
    _write(settings, f"{name}@{alias}", changed)
    return changed


def roll_back(settings: PartySettings, text: str) -> ServingAlias:
    """Back to the version before this one, without canary and shadow. Raises `JobError` when there is none."""
    name, alias = split_alias(text)
    models, serving = read_models(settings), read_serving(settings)
    before = serving.aliases.get(f"{name}@{alias}")
    if before is None:
        raise JobError(f"there is no alias {name}@{alias}; `isthmus model serving` shows those there are")
    if not before.previous_version:
        raise JobError(f"{name}@{alias} never meant another version than {before.version}")
    check_served(name, before.previous_version, models, serving)
    changed = replace(
        before,
        version=before.previous_version,
        previous_version=before.version,
        canary_version="",
        canary_permille=0,
        shadow_version="",
        changed_at_ms=time.time_ns() // 1_000_000,
    )
    _write(settings, f"{name}@{alias}", changed)
    return changed


def forget_verdict(settings: PartySettings, key: str) -> None:
    """Have `NAME/VERSION` checked again; until then it is not served. Raises `JobError`."""
    if key not in read_serving(settings).versions:
        raise JobError(f"{key} has no verdict; `isthmus model serving` shows what was checked")
    _write(settings, key, None)


def check_served(name: str, version: str, models: dict[str, ModelRegistered], serving: Serving) -> None:
    """Raises `JobError` unless the version exists and passed its parity check."""
    key = f"{name}/{version}"
    if key not in models:
        known = sorted(model.version for model in models.values() if model.name == name)
        raise JobError(f"there is no model {key}; versions of {name}: {', '.join(known) or 'none'}")
    verdict = serving.versions.get(key)
    if verdict is None:
        raise JobError(f"{key} was not checked yet: `isthmus score run` at both parties does it, wait for it")
    if not verdict.passed:
        raise JobError(f"{key} failed its parity check and is not served: {verdict.detail}")


def _previous(before: ServingAlias, version: str) -> str:
    """Where a roll-back leads: not to the version itself when only canary or shadow change."""
    return before.version if before.version != version else before.previous_version


def _write(settings: PartySettings, key: str, record: Record | None) -> None:
    producer = Producer({**connection_of(settings), "enable.idempotence": True, "linger.ms": 0}, logger=QUIET)
    value = None if record is None else encode(record)
    producer.produce(serving_topic(settings.party), value, key.encode(), partition=0)
    if producer.flush(FLUSH_SECONDS):
        raise JobError(f"the broker did not take the change of {key} within {FLUSH_SECONDS:.0f} s")
