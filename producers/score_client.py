"""Scores for applications: a request goes in, and its outcome comes back, by threads or by asyncio.

    with ScoreClient("bank", {"bootstrap.servers": "127.0.0.1:9092"}) as client:
        result = client.score("C1001", "credit-risk@live", deadline_ms=500)

    async with AsyncScoreClient("bank", {"bootstrap.servers": "127.0.0.1:9092"}) as client:
        results = await asyncio.gather(*(client.score(person, "credit-risk") for person in people))

A refusal is a result, not an exception: look at `outcome` and `reason`. `deadline_ms` counts from the call. The
joiner decides what is in time; a client waits a little longer, so that it hears of that.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from infra.connection import Connection
from producers.score_link import ScoreClientError, ScoreClosedError, ScoreLink, ScoreTimeoutError
from schemas.scoring import Purpose, RequestFeature, ScoreJoined, ScoreRequested

__all__ = [
    "AsyncScoreClient",
    "ScoreClient",
    "ScoreClientError",
    "ScoreClosedError",
    "ScoreTimeoutError",
    "new_request_id",
]

DEADLINE_MS = 1_000
#: After the deadline an `expired` outcome is on its way: this long for it.
GRACE_MS = 2_000
MOST_IN_FLIGHT = 1_000


def new_request_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds since 1970, then 74 random ones."""
    value = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    return str(uuid.UUID(int=value | 0b10 << 62 | secrets.randbits(62)))


def make_request(
    entity_id: str,
    model: str,
    deadline_ms: int = DEADLINE_MS,
    features: Mapping[str, float] | None = None,
    request_id: str | None = None,
) -> ScoreRequested:
    """A request as of now, that ends `deadline_ms` from now. Raises `ValueError` when that is not in the future."""
    if deadline_ms <= 0:
        raise ValueError(f"a deadline {deadline_ms} ms from now is no deadline")
    now_ms = time.time_ns() // 1_000_000
    return ScoreRequested(
        request_id=request_id or new_request_id(),
        model=model,
        entity_id=entity_id,
        requested_at_ms=now_ms,
        deadline_ms=now_ms + deadline_ms,
        features=tuple(RequestFeature(name, float(value)) for name, value in (features or {}).items()),
        purpose=Purpose.LIVE,
    )


def _busy(request_id: str, most: int) -> ScoreTimeoutError:
    text = f"request {request_id} was not sent: {most} others were in flight until its deadline; ask for less at once"
    return ScoreTimeoutError(request_id, text)


class ScoreClient:
    """For threads: any number of them may use one client. Use it as a context manager, or close it."""

    def __init__(
        self, party: str, connection: Connection, *, most_in_flight: int = MOST_IN_FLIGHT, grace_ms: int = GRACE_MS
    ) -> None:
        """`connection`: properties of Kafka clients. Raises `BrokerUnavailableError`."""
        self._most, self._grace_ms = most_in_flight, grace_ms
        self._room = threading.BoundedSemaphore(most_in_flight)
        self._link = ScoreLink(party, connection)

    def score(
        self,
        entity_id: str,
        model: str,
        *,
        deadline_ms: int = DEADLINE_MS,
        features: Mapping[str, float] | None = None,
        request_id: str | None = None,
    ) -> ScoreJoined:
        """The outcome for a person, by `NAME`, `NAME@ALIAS` or `NAME/VERSION`.

        `features` are used in place of what the guest's feature source says. With the `request_id` of an earlier
        request the outcome is that one's. Raises `ScoreTimeoutError`, `ScoreClosedError`, `BrokerUnavailableError`.
        """
        return self.send(entity_id, model, deadline_ms=deadline_ms, features=features, request_id=request_id).result()

    def send(
        self,
        entity_id: str,
        model: str,
        *,
        deadline_ms: int = DEADLINE_MS,
        features: Mapping[str, float] | None = None,
        request_id: str | None = None,
    ) -> Future[ScoreJoined]:
        """As `score`, without waiting for the outcome; waits while too many requests are in flight."""
        if request_id is not None:
            self._link.recall()
        request = make_request(entity_id, model, deadline_ms, features, request_id)
        if not self._room.acquire(timeout=deadline_ms / 1000):
            raise _busy(request.request_id, self._most)
        try:
            future = self._link.submit(request, (deadline_ms + self._grace_ms) / 1000)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def gather(self, futures: Iterable[Future[ScoreJoined]]) -> list[ScoreJoined]:
        """The outcomes in the order of the futures. Raises the first error there was, when all have ended."""
        waited = list(futures)
        errors = [error for future in waited if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in waited]

    def close(self) -> None:
        """Let go of the connections. Who still waits gets `ScoreClosedError`."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncScoreClient:
    """For one event loop. Use it as an asynchronous context manager."""

    def __init__(
        self, party: str, connection: Connection, *, most_in_flight: int = MOST_IN_FLIGHT, grace_ms: int = GRACE_MS
    ) -> None:
        """`connection`: properties of Kafka clients."""
        self._party, self._connection = party, connection
        self._most, self._grace_ms = most_in_flight, grace_ms
        self._room = asyncio.Semaphore(most_in_flight)
        self._link: ScoreLink | None = None

    async def score(
        self,
        entity_id: str,
        model: str,
        *,
        deadline_ms: int = DEADLINE_MS,
        features: Mapping[str, float] | None = None,
        request_id: str | None = None,
    ) -> ScoreJoined:
        """As `ScoreClient.score`. Many calls may wait at once; those that are too many wait for their turn."""
        if self._link is None:
            raise RuntimeError("use `async with AsyncScoreClient(...)`: it is not connected")
        if request_id is not None:
            await asyncio.to_thread(self._link.recall)
        request = make_request(entity_id, model, deadline_ms, features, request_id)
        try:
            await asyncio.wait_for(self._room.acquire(), deadline_ms / 1000)
        except TimeoutError:
            raise _busy(request.request_id, self._most) from None
        try:
            future = self._link.submit(request, (deadline_ms + self._grace_ms) / 1000)
            return await asyncio.wrap_future(future)
        finally:
            self._room.release()

    async def close(self) -> None:
        """Let go of the connections. Who still waits gets `ScoreClosedError`."""
        if self._link is not None:
            await asyncio.to_thread(self._link.close)

    async def __aenter__(self) -> Self:
        """Raises `BrokerUnavailableError`."""
        self._link = await asyncio.to_thread(ScoreLink, self._party, self._connection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
