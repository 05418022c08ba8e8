"""What can be scored now: registered models, checked versions and aliases, kept up to date from their topics."""

from __future__ import annotations

import logging

from consumers.model_cache import ModelCache, ModelUnavailableError
from consumers.party import Party
from infra.connection import connect_as
from infra.topics import ROUTER, SCORE_HOST, registry_topic, serving_topic
from schemas.codec import DecodeError, decode
from schemas.models import ModelHalf, ModelRegistered
from schemas.serving import ServingAlias, ServingVersion
from streams.engine.ports import InputRecord
from streams.engine.relay_follower import TopicFollower
from streams.machines.score.resolution import (
    Refusal,
    Resolved,
    ServingBook,
    check_version,
    own_half_digest,
    resolve,
)

__all__ = ["ModelUnavailableError", "Refusal", "Resolved", "ServingCatalogue"]

_log = logging.getLogger(__name__)


class ServingCatalogue:
    """The party's registry, and with `serving` its versions and aliases too (a host has none). Any thread may ask it.

    >>> catalogue = ServingCatalogue(party)
    >>> catalogue.start()
    >>> catalogue.resolve("credit-risk@live", request_id)
    """

    def __init__(self, party: Party, *, serving: bool = True) -> None:
        settings = party.settings
        self._party = party.name
        self._book = ServingBook()
        self._cache = ModelCache(settings.home / "cache" / "models", party.objects, party.keyring)
        topics = (registry_topic(party.name), *((serving_topic(party.name),) if serving else ()))
        self._follower = TopicFollower(
            settings.bootstrap_servers,
            connect_as(settings, ROUTER if serving else SCORE_HOST),
            topics,
            self._take,
            f"vfl.{party.name}.serving",
        )

    def start(self) -> None:
        """Read what there is, then follow. Raises `LogUnavailableError`."""
        self._follower.start()
        book = self._book
        _log.info("%d models, %d checked, %d aliases", len(book.models), len(book.versions), len(book.aliases))

    def close(self) -> None:
        """Stop following."""
        self._follower.close()

    def resolve(self, model: str, request_id: str, needs_pass: bool = True) -> Resolved | Refusal:
        """The one version for this request, as the aliases stand now. See `streams.machines.score.resolution`."""
        return resolve(self._book, model, request_id, needs_pass=needs_pass)

    def check(self, name: str, version: str, needs_pass: bool = True) -> Refusal | None:
        """None if the version exists and may be served."""
        return check_version(self._book, name, version, needs_pass=needs_pass)

    def model(self, name: str, version: str) -> ModelRegistered | None:
        """The registry's record."""
        return self._book.models.get(f"{name}/{version}")

    def models(self) -> tuple[ModelRegistered, ...]:
        """All that are registered."""
        return tuple(self._book.models.values())

    def checked(self, name: str, version: str) -> ServingVersion | None:
        """What came of the version's parity check, if there was one."""
        return self._book.versions.get(f"{name}/{version}")

    def half(self, name: str, version: str) -> ModelHalf:
        """The party's own half. Raises `ModelUnavailableError`, also when there is none."""
        registered = self.model(name, version)
        digest = own_half_digest(registered, self._party) if registered else None
        if digest is None:
            raise ModelUnavailableError(f"{self._party} has no half of {name}/{version}")
        return self._cache.half(digest)

    def _take(self, record: InputRecord) -> None:
        """One record of one of the topics."""
        key, book = (record.key or b"").decode("utf-8", "replace"), self._book
        if record.value is None:
            tables = (book.models,) if record.topic == registry_topic(self._party) else (book.versions, book.aliases)
            for table in tables:
                table.pop(key, None)
            return
        try:
            decoded = decode(record.value)
        except DecodeError as error:
            _log.warning("%s[%d] %d is passed over: %s", record.topic, record.partition, record.offset, error)
            return
        match decoded:
            case ModelRegistered():
                book.models[key] = decoded
            case ServingVersion():
                book.versions[key] = decoded
            case ServingAlias():
                book.aliases[key] = decoded
