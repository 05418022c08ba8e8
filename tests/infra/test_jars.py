"""Apache Kafka's jars: what the lock says or nothing, whole or not at all. The repository is a server of the test."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.broker.jars import KAFKA_VERSION, Jar, JarError, fetch_jars, read_lock, write_lock


@dataclass
class Repository:
    """Serves `contents` (path -> bytes); the first `breaks` answers for a path end half way."""

    contents: dict[str, bytes] = field(default_factory=dict)
    breaks: Counter[str] = field(default_factory=Counter)
    requests: list[str] = field(default_factory=list)

    def add(self, artifact: str, content: bytes) -> Jar:
        path = f"/org/example/{artifact}/1.0/{artifact}-1.0.jar"
        self.contents[path] = content
        return Jar("org.example", artifact, "1.0", hashlib.sha256(content).hexdigest())


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    served = Repository()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append(self.path)
            content = served.contents.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if content is not None:
                served.breaks[self.path] -= 1
                self.wfile.write(content[: len(content) // 2] if served.breaks[self.path] >= 0 else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("ISTHMUS_MAVEN_REPOSITORY", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_locked_jars_are_fetched_once(repository: Repository, tmp_path: Path) -> None:
    lock = (repository.add("one", b"first" * 1000), repository.add("two", b"second"))
    folder = fetch_jars(tmp_path, lock)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "one-1.0.jar": b"first" * 1000,
        "two-1.0.jar": b"second",
    }
    before = list(repository.requests)
    assert fetch_jars(tmp_path, lock) == folder
    assert repository.requests == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["fetch.lock", folder.name])


def test_a_jar_that_is_not_what_the_lock_says_is_not_used(repository: Repository, tmp_path: Path) -> None:
    good = repository.add("good", b"fine")
    other = replace(repository.add("other", b"tampered with"), sha256="0" * 64)
    with pytest.raises(JarError, match=r"org\.example:other:1\.0 has SHA-256 .* not used"):
        fetch_jars(tmp_path, (good, other))
    assert [path.name for path in tmp_path.iterdir()] == ["fetch.lock"]


def test_a_broken_connection_is_tried_again(repository: Repository, tmp_path: Path) -> None:
    jar = repository.add("large", bytes(range(256)) * 1000)
    repository.breaks.update(repository.contents)
    for path in repository.breaks:
        repository.breaks[path] = 2
    folder = fetch_jars(tmp_path, (jar,))
    assert (folder / jar.file_name).read_bytes() == bytes(range(256)) * 1000
    assert len([path for path in repository.requests if path.endswith(".jar")]) == 3


def test_a_jar_that_is_not_there_is_named_with_what_to_do(repository: Repository, tmp_path: Path) -> None:
    missing = Jar("org.example", "missing", "1.0", "0" * 64)
    with pytest.raises(JarError, match=r"org\.example:missing:1\.0 could not be downloaded(.|\n)*ISTHMUS_CACHE"):
        fetch_jars(tmp_path, (missing,))
    assert [path.name for path in tmp_path.iterdir()] == ["fetch.lock"]


def test_many_who_fetch_at_once_fetch_once(repository: Repository, tmp_path: Path) -> None:
    jar = repository.add("shared", b"once")
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: fetch_jars(tmp_path, (jar,)), range(8)))
    assert len(folders) == 1
    assert len([path for path in repository.requests if path.endswith(".jar")]) == 1


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(JarError, match=r"Set ISTHMUS_CACHE"):
        fetch_jars(tmp_path / "file")


def test_the_lock_names_one_version_of_kafka_and_each_jar_once(tmp_path: Path) -> None:
    lock = read_lock()
    assert {jar.version for jar in lock if jar.group == "org.apache.kafka"} == {KAFKA_VERSION}
    assert len({(jar.group, jar.artifact) for jar in lock}) == len(lock)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in lock)
    write_lock(lock, tmp_path / "lock.toml")
    assert read_lock(tmp_path / "lock.toml") == lock
