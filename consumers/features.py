"""Where a party's features come from: the source that its settings name, and the table that a model was trained on."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from consumers.feature_table import TopicSource
from consumers.party import Party, load_share
from consumers.token_index import TokenIndex
from infra.access import LOADER
from infra.connection import connect_as
from infra.score_settings import HttpFeatures, SqlFeatures, TopicFeatures
from infra.settings import FILE_NAME, SettingsError
from infra.topics import ROUTER, SCORE_HOST, features_topic
from schemas.jobs import JobSpec, Mistake
from streams.dataset import Dataset, DatasetProblem
from streams.features import FeatureSource, FeatureSourceError, PersonFeatures
from streams.kernels.ristretto import normalise_id

__all__ = ["TokenIndex", "dataset_source", "make_source", "open_topic_source"]

#: How ids are brought into one form where it is not known yet of which type a model's are: Unicode and white space.
as_text = functools.partial(normalise_id, id_type="string")
#: A million rows take some 20 s.
READY_SECONDS = 120.0


def make_source(party: Party, for_hosting: bool) -> FeatureSource:
    """The source that the settings name, ready to be asked; `for_hosting`: it must also be able to list its ids.

    A topic is read to its end first. A database or a service need not be there yet. Raises `SettingsError` when a
    person has to act, `FeatureSourceError` when the topic cannot be read.
    """
    match party.settings.score.features:
        case TopicFeatures():
            return open_topic_source(party, role=SCORE_HOST if for_hosting else ROUTER)
        case SqlFeatures() as settings:
            # SQLAlchemy takes a third of a second to import, requests a tenth.
            from infra.feature_sql import SqlSource

            url = settings.url or _environment(party, settings.url_env, "url_env")
            try:
                return SqlSource(settings, url, party.settings.home, as_text)
            except ValueError as error:
                raise _mistake(party, "url" if settings.url else "url_env", str(error)) from error
        case HttpFeatures() as settings:
            from infra.feature_http import HttpSource

            if for_hosting and settings.ids_url is None:
                raise _mistake(party, "ids_url", "is needed at a host, which derives the tokens of persons from it")
            name = settings.authorization_env
            authorization = _environment(party, name, "authorization_env") if name else None
            try:
                return HttpSource(settings, authorization, as_text)
            except ValueError as error:
                raise _mistake(party, "authorization_env", str(error)) from error


def open_topic_source(party: Party, seconds: float = READY_SECONDS, *, role: str = LOADER) -> TopicSource:
    """The party's feature topic, read to its end. Raises `FeatureSourceError`."""
    source = TopicSource(party.keyring, features_topic(party.name), dict(connect_as(party.settings, role)))
    source.start()
    try:
        source.await_ready(seconds)
    except FeatureSourceError:
        source.close()
        raise
    return source


class DatasetSource:
    """A `FeatureSource` over a table of a job."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._rows = {entity_id: row for row, entity_id in enumerate(dataset.ids)}
        self._places = {name: place for place, name in enumerate(dataset.columns)}

    def fetch(self, entity_ids: Sequence[str], columns: Sequence[str]) -> list[PersonFeatures | None]:
        """As `FeatureSource`; the values are those of training, bit by bit."""
        names = [name for name in columns if name in self._places]
        places = [self._places[name] for name in names]
        rows = [self._rows.get(entity_id) for entity_id in entity_ids]
        values = self._dataset.values
        return [
            None if row is None else PersonFeatures(dict(zip(names, values[row, places].tolist(), strict=True)))
            for row in rows
        ]

    def known_ids(self) -> Sequence[str]:
        """All ids of the table, in its order."""
        return self._dataset.ids

    def ids_after(self, position: int) -> tuple[list[str], int]:
        """As `token_index.GrowingSource`: a table does not grow, so nobody has to ask again and again."""
        return self._dataset.ids[position:], len(self._dataset.ids)

    def close(self) -> None:
        """Nothing to let go of."""


def dataset_source(party: Party, spec: JobSpec) -> DatasetSource:
    """The table that this party gave to the job of `spec`. Raises `FeatureSourceError` when it cannot be used now."""
    match load_share(party, spec):
        case Dataset() as dataset:
            return DatasetSource(dataset)
        case DatasetProblem(mistakes=mistakes):
            texts = "; ".join(f"{mistake.path}: {mistake.message}" for mistake in mistakes)
            raise FeatureSourceError(f"the table that the model was trained on cannot be used: {texts}")
    raise FeatureSourceError(f"{party.name} is no party of the job that made the model")


def _environment(party: Party, name: str | None, setting: str) -> str:
    value = os.environ.get(name or "", "").strip()
    if not value:
        raise _mistake(party, setting, f"the environment variable {name} is not set")
    return value


def _mistake(party: Party, setting: str, message: str) -> SettingsError:
    place = Mistake(f"score.features.{setting}", message)
    return SettingsError(party.settings.home / FILE_NAME, (place,))
