"""Features from a real HTTP server that misbehaves in every way a test can think of."""

from __future__ import annotations

import functools
import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra import feature_http
from infra.feature_http import HttpSource
from infra.score_settings import HttpFeatures
from streams.features import FeatureSourceError, PersonFeatures
from streams.kernels.ristretto import normalise_id

normalise = functools.partial(normalise_id, id_type="string")
ROWS: dict[str, dict[str, Any]] = {"a": {"x": 1, "y": 2.5}, "b": {"x": None, "y": -3}, "ü": {"x": 0.1}}


class Service(ThreadingHTTPServer):
    """Answers as `respond` says; keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.released = threading.Event()
        self.respond: Callable[[_Handler, Any], None] = _answer_rows
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/features?key=canary-key"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._respond(body)

    def do_GET(self) -> None:
        self._respond(None)

    def _respond(self, body: Any) -> None:
        self.server.asked.append((self.command, self.path, body))
        self.server.headers.append(dict(self.headers.items()))
        self.server.respond(self, body)

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _answer_rows(handler: _Handler, body: Any) -> None:
    if body is None:
        handler.answer({"ids": [*ROWS, "  ", "u\u0308"]})
    else:
        handler.answer({"rows": {person: ROWS[person] for person in body["ids"] if person in ROWS}})


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def open_source(service: Service) -> Iterator[Callable[..., HttpSource]]:
    opened: list[HttpSource] = []

    def make(authorization: str | None = None, url: str | None = None, **changes: Any) -> HttpSource:
        changes = {"timeout_ms": 20_000, "ids_url": service.url.replace("features", "ids"), **changes}
        settings = HttpFeatures(kind="http", url=url or service.url, **changes)
        opened.append(HttpSource(settings, authorization, normalise))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


@pytest.fixture
def source(open_source: Callable[..., HttpSource]) -> HttpSource:
    return open_source()


def _values(found: list[PersonFeatures | None]) -> list[dict[str, object] | None]:
    return [None if person is None else dict(person.values) for person in found]


def test_rows_come_in_the_order_of_the_ids_with_the_columns_that_were_asked_for(
    service: Service, source: HttpSource
) -> None:
    found = source.fetch(["ü", "nobody", "b", "b"], ["x", "z"])
    assert _values(found) == [{"x": 0.1}, None, {"x": None}, {"x": None}]
    assert type((found[0] or PersonFeatures({})).values["x"]) is float
    assert service.asked == [("POST", "/features?key=canary-key", {"ids": ["ü", "nobody", "b"]})]


def test_the_connection_is_kept(service: Service, source: HttpSource) -> None:
    for _ in range(3):
        source.fetch(["a"], ["x"])
    assert service.connections == 1


def test_the_list_of_ids_is_normalised_and_leaves_out_what_has_no_normal_form(source: HttpSource) -> None:
    assert source.known_ids() == ["a", "b", "ü", "ü"]


def test_more_ids_than_one_question_takes(
    service: Service, source: HttpSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_http, "BATCH", 2)
    assert _values(source.fetch(["a", "b", "c", "ü", "d"], ["x"])) == [{"x": 1.0}, {"x": None}, None, {"x": 0.1}, None]
    assert [len(body["ids"]) for _, _, body in service.asked] == [2, 2, 1]


def test_what_is_no_number_passes_through_as_it_is(service: Service, source: HttpSource) -> None:
    row = {"text": "12", "flag": True, "list": [1], "huge": 10**400}
    service.respond = lambda handler, body: handler.answer({"rows": {"a": row}})
    assert _values(source.fetch(["a"], list(row))) == [{**row, "flag": 1.0}]


def test_the_authorization_is_sent_and_nothing_from_a_netrc_file(
    service: Service, open_source: Callable[..., HttpSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    open_source("Bearer abc").fetch(["a"], ["x"])
    open_source(None).fetch(["a"], ["x"])
    assert [headers.get("Authorization") for headers in service.headers] == ["Bearer abc", None]


@pytest.mark.parametrize("value", ["Bearer abc\r\nX-Evil: 1", "Bearer ü", "Bearer\0"])
def test_an_authorization_that_no_header_can_have_is_refused_without_telling_it(
    open_source: Callable[..., HttpSource], value: str
) -> None:
    with pytest.raises(ValueError, match="cannot have") as failure:
        open_source(value)
    assert "Bearer" not in str(failure.value)


def _slow(handler: _Handler, body: Any) -> None:
    handler.server.released.wait(60)
    handler.close_connection = True


def _half(handler: _Handler, body: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"rows": {"a": {"x": 1')
    handler.close_connection = True


def _drip(handler: _Handler, body: Any) -> None:
    """Each byte comes soon, the whole never."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    try:
        while not handler.server.released.wait(0.05):
            handler.wfile.write(b" ")
    except OSError:
        pass
    handler.close_connection = True


def _hang_up(handler: _Handler, body: Any) -> None:
    handler.close_connection = True


def _say(value: Any, status: int = 200, **headers: str) -> Callable[[_Handler, Any], None]:
    return lambda handler, body: handler.answer(value, status, **headers)


@pytest.mark.parametrize(
    ("respond", "text"),
    [
        pytest.param(_say({}, 500), "answered with status 500", id="500"),
        pytest.param(_say({"rows": {}}, 404), "answered with status 404", id="404"),
        pytest.param(_say({}, 302, Location="http://127.0.0.1:9/"), "answered with status 302", id="redirect"),
        pytest.param(_say(b"<html>"), "not JSON", id="html"),
        pytest.param(_say(b""), "not JSON", id="empty"),
        pytest.param(_say(b'{"rows": {"a": {"x": NaN}}}'), "not JSON", id="nan"),
        pytest.param(_say(b'{"rows": {"a": {"x": 1, "x": 2}}}'), "not JSON with distinct names", id="twice"),
        pytest.param(_say(b"\xff\xfe{"), "not JSON", id="not-text"),
        pytest.param(_say(b"[" * 100_000), "not JSON", id="deep"),
        pytest.param(_say([1, 2]), "no JSON object", id="list"),
        pytest.param(_say({"row": {}}), "not like", id="other-name"),
        pytest.param(_say({"rows": [{"x": 1}]}), "not like", id="rows-as-list"),
        pytest.param(_say({"rows": {"a": [1, 2]}}), "not like", id="row-as-list"),
        pytest.param(_say({"rows": {"a": None}}), "not like", id="row-as-null"),
        pytest.param(_say({"rows": {"stranger": {"x": 1}}}), "persons that it was not asked about", id="stranger"),
        pytest.param(_half, "broke the connection", id="half"),
        pytest.param(_hang_up, "broke the connection", id="hang-up"),
    ],
)
def test_an_answer_that_cannot_be_used_fails_and_the_next_good_one_works(
    service: Service, source: HttpSource, respond: Callable[[_Handler, Any], None], text: str
) -> None:
    service.respond = respond
    with pytest.raises(FeatureSourceError, match=text):
        source.fetch(["a"], ["x"])
    service.respond = _answer_rows
    assert _values(source.fetch(["a"], ["x"])) == [{"x": 1.0}]


@pytest.mark.parametrize("respond", [_slow, _drip])
def test_nobody_waits_for_a_slow_service(
    service: Service, open_source: Callable[..., HttpSource], respond: Callable[[_Handler, Any], None]
) -> None:
    service.respond = respond
    source = open_source(timeout_ms=500)
    with pytest.raises(FeatureSourceError, match=r"gave no answer (in time|within 0\.5 s)"):
        source.fetch(["a"], ["x"])


def test_an_answer_without_end_is_cut(service: Service, source: HttpSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_http, "MOST_BYTES", 10_000)
    service.respond = _say(b" " * 1_000_000)
    with pytest.raises(FeatureSourceError, match="more than 10,000 bytes"):
        source.fetch(["a"], ["x"])


def test_a_connection_that_breaks_is_made_anew_once(service: Service, source: HttpSource) -> None:
    def hang_up_first(handler: _Handler, body: Any) -> None:
        (_hang_up if len(service.asked) == 1 else _answer_rows)(handler, body)

    service.respond = hang_up_first
    assert _values(source.fetch(["a"], ["x"])) == [{"x": 1.0}]
    service.asked.clear()
    service.respond = _hang_up
    with pytest.raises(FeatureSourceError):
        source.fetch(["a"], ["x"])
    assert len(service.asked) == 2


def test_a_service_that_is_not_there_cannot_be_reached(open_source: Callable[..., HttpSource]) -> None:
    with pytest.raises(FeatureSourceError, match="cannot be reached"):
        open_source(url="http://127.0.0.1:1/x").fetch(["a"], ["x"])


@pytest.mark.parametrize("answer", [{"ids": "abc"}, {"ids": [1]}, {"ids": {"a": 1}}, {}])
def test_a_list_of_ids_of_another_shape_is_refused(service: Service, source: HttpSource, answer: Any) -> None:
    service.respond = _say(answer)
    with pytest.raises(FeatureSourceError, match="list of ids that is not like"):
        source.known_ids()


def test_without_a_place_for_ids_nobody_is_known(open_source: Callable[..., HttpSource]) -> None:
    with pytest.raises(FeatureSourceError, match="give ids_url"):
        open_source(ids_url=None).known_ids()


def test_no_credential_and_no_value_is_in_errors_or_logs(
    service: Service, open_source: Callable[..., HttpSource], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = open_source("Bearer canary-token")
    for respond in (_say({"rows": {"canary-id": {"x": 1}}}), _say(b"canary-value"), _hang_up, _half, _say({}, 403)):
        service.respond = respond
        with pytest.raises(FeatureSourceError) as failure:
            source.fetch(["canary-person"], ["x"])
        error = failure.value
        assert "127.0.0.1" in str(error)
        assert "canary" not in str(error) + repr(error.__cause__) + caplog.text + repr(source)
