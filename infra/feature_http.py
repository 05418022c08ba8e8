"""Features from a service: POST {"ids": [...]} is answered by {"rows": {id: {column: number}}}.

The service is asked for normalised ids and has to answer about them as it was asked. A person that is not in the
answer is unknown to it; a column that is not in a person's row has no value.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from infra.feature_sources import Helper, Normalise, collect_persons
from infra.score_settings import HttpFeatures
from streams.features import FeatureSourceError, PersonFeatures

#: Persons in one question.
BATCH = 1_000
#: The longest answer that is read: a thousand persons with three thousand columns, or three million ids.
MOST_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 64 * 1024
#: The list of ids is one long answer, in the background.
LIST_SECONDS = 120.0
OK = 200


class _Authorization(AuthBase):
    """Sets the header, or none; also keeps requests from looking for credentials in a netrc file."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


class HttpSource:
    """Looks persons up at one service. Connections are kept; redirects are not followed."""

    def __init__(self, settings: HttpFeatures, authorization: str | None, normalise: Normalise) -> None:
        """`authorization` is the value of the header. Raises `ValueError` for one that no header can have."""
        if authorization is not None and not (authorization.isascii() and authorization.isprintable()):
            raise ValueError("the value for the Authorization header has characters that a header cannot have")
        self.refresh_seconds = settings.refresh_seconds
        self._url, self._ids_url, self._normalise = settings.url, settings.ids_url, normalise
        self._seconds = settings.timeout_ms / 1000
        self._name = f"the feature service at {place_of(settings.url)}"
        self._session, self._list_session = _session(authorization), _session(authorization)
        self._helper = Helper(self._name)
        self._list_helper = Helper(f"the list of ids at {place_of(settings.ids_url or '')}")

    def fetch(self, entity_ids: Sequence[str], columns: Sequence[str]) -> list[PersonFeatures | None]:
        """As `FeatureSource`; takes at most the timeout of the settings."""
        distinct = list(dict.fromkeys(entity_ids))
        persons = self._helper.ask(lambda: self._look_up(distinct), self._seconds)
        found = (persons.get(person) for person in entity_ids)
        return [None if person is None else _only(person, columns) for person in found]

    def known_ids(self) -> list[str]:
        """Normalised, without those that have no normal form. Takes at most two minutes."""
        if self._ids_url is None:
            raise FeatureSourceError(f"{self._name} tells nobody's id: give ids_url in the settings")
        url = self._ids_url
        texts = self._list_helper.ask(lambda: self._list(url), LIST_SECONDS)
        ids: list[str] = []
        for text in texts:
            try:
                ids.append(self._normalise(text))
            except ValueError:
                continue
        return ids

    def close(self) -> None:
        """Let go of the connections as soon as they are free."""
        self._helper.close(self._session.close)
        self._list_helper.close(self._list_session.close)

    def _look_up(self, ids: list[str]) -> dict[str, PersonFeatures]:
        deadline = time.monotonic() + self._seconds
        persons: dict[str, PersonFeatures] = {}
        for start in range(0, len(ids), BATCH):
            asked = ids[start : start + BATCH]
            answer = self._exchange(self._session, "POST", self._url, deadline, {"ids": asked})
            persons |= self._read_rows(answer, frozenset(asked))
        return persons

    def _read_rows(self, answer: Mapping[str, Any], asked: frozenset[str]) -> dict[str, PersonFeatures]:
        rows = answer.get("rows")
        if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
            self._fail('gave an answer that is not like {"rows": {id: {column: number}}}')
        persons = collect_persons(rows.items(), self._normalise)
        if not persons.keys() <= asked:
            self._fail("answered about persons that it was not asked about")
        return persons

    def _list(self, url: str) -> list[str]:
        answer = self._exchange(self._list_session, "GET", url, time.monotonic() + LIST_SECONDS, None)
        ids = answer.get("ids")
        if not isinstance(ids, list) or not all(isinstance(text, str) for text in ids):
            self._fail('gave a list of ids that is not like {"ids": ["...", ...]}')
        return ids

    def _exchange(
        self, session: requests.Session, method: str, url: str, deadline: float, body: object
    ) -> Mapping[str, Any]:
        """One question and its answer, which is a JSON object. A connection that breaks is made anew once."""
        for is_last in (False, True):
            try:
                return self._parse(self._receive(session, method, url, deadline, body))
            except requests.Timeout:
                self._fail("gave no answer in time")
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if is_last:
                    self._fail("cannot be reached, or broke the connection")
            except requests.RequestException as error:
                self._fail(f"cannot be asked: {type(error).__name__}")
        raise AssertionError("the last attempt returns or raises")

    def _receive(self, session: requests.Session, method: str, url: str, deadline: float, body: object) -> bytes:
        left = max(0.001, deadline - time.monotonic())
        with session.request(
            method, url, json=body, timeout=(left, left), allow_redirects=False, stream=True
        ) as response:
            if response.status_code != OK:
                self._fail(f"answered with status {response.status_code}")
            content = bytearray()
            for piece in response.iter_content(PIECE_BYTES):
                content += piece
                if len(content) > MOST_BYTES:
                    self._fail(f"gave an answer of more than {MOST_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    self._fail("gave no answer in time")
        return bytes(content)

    def _parse(self, content: bytes) -> Mapping[str, Any]:
        try:
            answer = json.loads(content, object_pairs_hook=_distinct, parse_constant=_refuse)
        except (ValueError, RecursionError):
            self._fail("gave an answer that is not JSON with distinct names")
        if not isinstance(answer, dict):
            self._fail("gave an answer that is no JSON object")
        return answer

    def _fail(self, what: str) -> NoReturn:
        # From None: the causes quote URLs and contents.
        raise FeatureSourceError(f"{self._name} {what}") from None


def place_of(url: str) -> str:
    """The URL without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _session(authorization: str | None) -> requests.Session:
    session = requests.Session()
    session.auth = _Authorization(authorization)
    session.headers["Accept"] = "application/json"
    return session


def _only(person: PersonFeatures, columns: Sequence[str]) -> PersonFeatures:
    values = person.values
    return PersonFeatures({name: values[name] for name in columns if name in values}, person.as_of_ms)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
