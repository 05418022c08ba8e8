"""Serves the windows on localhost: `/score.json` for people and programs, `/metrics` for Prometheus."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from streams.views.score_metrics import to_mapping, to_prometheus
from streams.views.score_window import ScoreWindows

ADDRESS = "127.0.0.1"


class SharedWindows:
    """Windows that one thread folds while others read."""

    def __init__(self, party: str) -> None:
        self.lock = threading.Lock()
        self.windows = ScoreWindows(party)

    def json(self) -> bytes:
        """As of now."""
        with self.lock:
            told = to_mapping(self.windows, time.time_ns() // 1000)
        return json.dumps(told, indent=1).encode()

    def prometheus(self) -> bytes:
        """As of now."""
        with self.lock:
            return to_prometheus(self.windows, time.time_ns() // 1000)


class ScoreServer:
    """An HTTP server in a thread. Use `url`; port 0 takes any that is free."""

    def __init__(self, shared: SharedWindows, port: int = 0) -> None:
        """Raises `OSError` when the port is taken."""

        self._server = _PageServer((ADDRESS, port), _Handler)
        self._server.pages = {
            "/score.json": ("application/json", shared.json),
            "/metrics": ("text/plain; version=0.0.4; charset=utf-8", shared.prometheus),
        }
        self.url = f"http://{ADDRESS}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="score-http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _PageServer(ThreadingHTTPServer):
    #: Path -> content type, and what makes the content.
    pages: dict[str, tuple[str, Callable[[], bytes]]]
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: _PageServer
    #: A reader that hangs holds a thread; after so many seconds no more.
    timeout = 10

    def do_GET(self) -> None:
        """One page, or where they are."""
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(404, "look at /score.json or /metrics")
            return
        kind, make = page
        body = make()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Readers come every few seconds: nothing to note."""
