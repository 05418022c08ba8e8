"""Port numbers for a server on loopback that must come back under the same number after a crash."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator

#: Below the ports which Linux hands to outgoing connections (32768-60999). One of those could take the place of a
#: server that is down; and a client that tries a port of that range again and again may end up connected to itself.
FIRST_PORT, LAST_PORT = 20_000, 32_000


def free_ports(seed: str, count: int) -> tuple[int, ...]:
    """`count` ports that nobody listens on, searched from a place that depends on `seed`."""
    found: list[int] = []
    for port in _candidates(seed):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return tuple(found)
    raise OSError(f"no {count} free ports between {FIRST_PORT} and {LAST_PORT} on 127.0.0.1")


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        # As servers do: connections which are still closing do not count.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on `port`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _candidates(seed: str) -> Iterator[int]:
    span = LAST_PORT - FIRST_PORT
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") % span
    for step in range(span):
        yield FIRST_PORT + (start + step) % span
