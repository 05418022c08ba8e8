"""From tokens to persons, as the sources learn of them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence

import pytest

from consumers.token_index import TokenIndex
from streams.engine.seal import SealError
from streams.features import FeatureSourceError, PersonFeatures
from streams.kernels.ristretto import normalise_id
from streams.kernels.scorecard import name_person

KEYS = {"bank": b"k" * 32, "shop": b"s" * 32}
as_text = functools.partial(normalise_id, id_type="string")
as_email = functools.partial(normalise_id, id_type="email")
NEVER = 3_600.0


def _key(guest: str) -> bytes:
    if guest not in KEYS:
        raise SealError(f"no key of {guest!r}")
    return KEYS[guest]


def _token(guest: str, person: str) -> bytes:
    return name_person(KEYS[guest], person)


class Listing:
    """A source that tells all its ids at once, as databases and services do."""

    def __init__(self, *ids: str) -> None:
        self.ids = list(ids)
        self.error: FeatureSourceError | None = None
        self.lists = 0
        self.listed = threading.Semaphore(0)

    def fetch(self, entity_ids: Sequence[str], columns: Sequence[str]) -> list[PersonFeatures | None]:
        raise AssertionError("nobody looks up features here")

    def known_ids(self) -> list[str]:
        self.lists += 1
        self.listed.release()
        if self.error is not None:
            raise self.error
        return list(self.ids)

    def close(self) -> None:
        pass


class Growing(Listing):
    """A source that tells its changes, as the topic does."""

    def ids_after(self, position: int) -> tuple[list[str], int]:
        if self.error is not None:
            raise self.error
        return self.ids[position:], len(self.ids)


def test_each_guest_has_tokens_of_its_own() -> None:
    index = TokenIndex(Listing("ann", "bob"), _key, as_text)
    assert index.find("bank", [_token("bank", "bob"), _token("bank", "ann")]) == ["bob", "ann"]
    assert index.find("shop", [_token("bank", "bob"), _token("shop", "bob")]) == [None, "bob"]
    index.close()


def test_a_guest_without_a_key_is_an_error_and_no_stranger_to_the_others() -> None:
    index = TokenIndex(Listing("ann"), _key, as_text)
    with pytest.raises(SealError):
        index.find("thief", [b"x" * 16])
    assert index.find("bank", [_token("bank", "ann")]) == ["ann"]
    index.close()


def test_tokens_are_those_of_the_normalised_id_and_lead_to_the_id_that_the_source_knows() -> None:
    index = TokenIndex(Listing("Ann@X.org", " ", "bob@x.org"), _key, as_email)
    assert index.find("bank", [_token("bank", "ann@x.org"), _token("bank", "Ann@X.org")]) == ["Ann@X.org", None]
    index.close()


def test_two_persons_with_one_token_are_nobody() -> None:
    index = TokenIndex(Growing("Ann@X.org", "ann@x.org", "bob@x.org"), _key, as_email)
    assert index.find("bank", [_token("bank", "ann@x.org"), _token("bank", "bob@x.org")]) == [None, "bob@x.org"]


def test_who_became_known_to_a_growing_source_is_found_at_the_next_lookup() -> None:
    source = Growing("ann")
    index = TokenIndex(source, _key, as_text)
    assert index.find("bank", [_token("bank", "bob")]) == [None]
    source.ids += ["bob", "ann"]
    assert index.find("bank", [_token("bank", "bob"), _token("bank", "ann")]) == ["bob", "ann"]
    assert source.lists == 0


def test_a_listing_source_is_asked_again_after_its_own_time_and_not_for_unknown_tokens() -> None:
    source = Listing("ann")
    index = TokenIndex(source, _key, as_text, NEVER)
    assert index.find("bank", [_token("bank", "ann")]) == ["ann"]
    source.ids.append("bob")
    for _ in range(100):
        assert index.find("bank", [_token("bank", "bob"), b"?" * 16]) == [None, None]
    assert source.lists == 1
    index.refresh()
    assert index.find("bank", [_token("bank", "bob"), _token("bank", "ann")]) == ["bob", "ann"]
    index.close()


def test_the_thread_refreshes_by_itself_until_it_is_closed() -> None:
    source = Listing("ann")
    index = TokenIndex(source, _key, as_text, 0.001)
    for _ in range(5):
        assert source.listed.acquire(timeout=60)
    index.close()
    index._thread.join(60)
    assert not index._thread.is_alive()


def test_a_source_that_gives_no_list_is_an_error_and_a_lost_one_keeps_what_was_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.token_index.FIRST_SECONDS", 0.01)
    source = Listing("ann")
    source.error = FeatureSourceError("the table is gone")
    index = TokenIndex(source, _key, as_text, NEVER)
    assert source.listed.acquire(timeout=60)
    with pytest.raises(FeatureSourceError, match="list of persons could not be had"):
        index.find("bank", [_token("bank", "ann")])
    source.error = None
    index.refresh()
    assert index.find("bank", [_token("bank", "ann")]) == ["ann"]
    source.error = FeatureSourceError("the table is gone again")
    with pytest.raises(FeatureSourceError, match="again"):
        index.refresh()
    assert index.find("bank", [_token("bank", "ann")]) == ["ann"]
    index.close()


def test_a_growing_source_that_is_not_read_yet_is_an_error() -> None:
    source = Growing("ann")
    source.error = FeatureSourceError("not read yet")
    index = TokenIndex(source, _key, as_text)
    with pytest.raises(FeatureSourceError, match="not read yet"):
        index.find("bank", [])
    source.error = None
    assert index.find("bank", [_token("bank", "ann")]) == ["ann"]
