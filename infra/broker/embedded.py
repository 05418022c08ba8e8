"""A real Apache Kafka in a child process, from pip and Maven artifacts alone: for the demo, tests and benchmarks."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.broker.certificates import CA, prepare_certificates
from infra.broker.configuration import server_properties
from infra.broker.jars import fetch_jars
from infra.broker.java import Tuning, java_command
from infra.broker.listeners import (
    Ports,
    admin_properties,
    admin_tools_properties,
    guarded_listeners,
    open_listeners,
)
from infra.broker.ports import accepts_connections, free_ports, is_free
from infra.properties import read_properties, render_properties
from infra.watchdog import Watchdog

#: Some 5 s on an idle machine; ten times that for a busy one, and as much again for a log that must be recovered.
START_DEADLINE_SECONDS = 120.0
FORMAT_DEADLINE_SECONDS = 60.0
#: A clean stop writes a snapshot and closes the log; a broker that takes longer is killed, which the log survives.
STOP_DEADLINE_SECONDS = 30.0
#: Between two looks at a starting broker.
LOOK_SECONDS = 0.1
LOG_TAIL_LINES = 25
HEAP = "-Xmx512m"


class BrokerError(Exception):
    """The embedded broker could not be started; the message ends with the last lines of its log."""


class EmbeddedBroker:
    """One Kafka node with its data, log and port number in the folder `home`.

        EmbeddedBroker(home).start() -> serving -> stop() or kill() -> start() -> serving again, same data, same port

    `port` is chosen at the first start when it is not given, and kept in `home`. With `die_with_parent` (the default)
    the node is killed when this Python process ends in whatever way. `properties` are added to the server's, or replace
    them. `is_open` is for tests and benchmarks of something else: without it clients need TLS, a name with a password,
    and rights (`infra/access.py`), which its administrator gives them (`admin_file`). `tuning` says for how long,
    and for how much, the node is meant.
    """

    def __init__(
        self,
        home: Path,
        port: int | None = None,
        *,
        cache: Path | None = None,
        die_with_parent: bool = True,
        properties: Mapping[str, str] | None = None,
        is_open: bool = False,
        tuning: Tuning = Tuning.BRIEF,
    ) -> None:
        self.home = home.absolute()
        self._wanted_port = port
        self._cache = cache
        self._die_with_parent = die_with_parent
        self._properties = dict(properties or {})
        #: Whoever reaches the port may do anything.
        self.is_open = is_open
        self._tuning = tuning
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    @property
    def log_file(self) -> Path:
        """What the broker wrote, all starts one after the other."""
        return self.home / "broker.log"

    @property
    def port(self) -> int:
        """The port of clients. Raises `BrokerError` before the first start of a broker that chooses its own."""
        if self._wanted_port is not None:
            return self._wanted_port
        saved = self._saved_ports()
        if saved is None:
            raise BrokerError(f"the broker in {self.home} has no port yet: start it first, or give it one")
        return saved.clients

    @property
    def tls(self) -> Path:
        """The folder with the certificates of a broker that is not open; `ca.pem` in it is for everybody."""
        return self.home / "tls"

    @property
    def ca_file(self) -> Path:
        """Whom clients of a broker that is not open are to believe."""
        return self.tls / CA

    @property
    def admin_file(self) -> Path:
        """Properties of librdkafka with which its administrator connects; mode 0600."""
        return self.home / "admin.properties"

    @property
    def admin_tools_file(self) -> Path:
        """The same for Kafka's own tools (`--command-config`); mode 0600."""
        return self.home / "admin-tools.properties"

    @property
    def bootstrap(self) -> str:
        """The address for `bootstrap.servers`."""
        return f"127.0.0.1:{self.port}"

    @property
    def admin_connection(self) -> dict[str, str | int | float | bool]:
        """Properties for librdkafka of whoever may do anything there."""
        if self.is_open:
            return {"bootstrap.servers": self.bootstrap}
        return {**read_properties(self.admin_file)}

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        """Whether this object's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, deadline_seconds: float = START_DEADLINE_SECONDS) -> Self:
        """Serve; returns when clients are answered. Downloads Apache Kafka once. Raises `BrokerError`, `JarError`."""
        if self.is_running:
            return self
        jars = fetch_jars(self._cache)
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            (self.home / "tmp").mkdir(exist_ok=True)
            ports = self._choose_ports()
            listeners = open_listeners(ports) if self.is_open else self._guard(ports)
            properties = server_properties(self.home / "data", ports) | listeners | self._properties
            configuration = self.home / "server.properties"
            configuration.write_text(render_properties(properties), encoding="utf-8")
        except OSError as error:
            raise BrokerError(f"the broker cannot use the folder {self.home}: {error}") from error
        except ValueError as error:
            raise BrokerError(f"the certificates in {self.tls} are damaged ({error}): delete that folder") from error
        for port in (ports.clients, ports.controller, ports.admin):
            if not is_free(port):
                raise BrokerError(
                    f"port {port} on 127.0.0.1, which the broker in {self.home} uses, is taken by another process: "
                    "end that one (it may be this broker, started by someone else), or give this one another port"
                )
        if not (self.home / "data" / "meta.properties").exists():
            self._format(jars, configuration)
        self._launch(jars, configuration)
        try:
            self._await_service(ports, deadline_seconds)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """End it cleanly; kill it when that takes too long. Does nothing when it does not run."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._release()

    def kill(self) -> None:
        """SIGKILL: the crash of a machine, as far as the log can tell. Does nothing when it does not run."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._release()

    def wait(self, timeout_seconds: float | None = None) -> int | None:
        """Wait until the process ends by itself: its exit code, or None when the time is over or it does not run."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _choose_ports(self) -> Ports:
        saved = self._saved_ports()
        if saved is None or (self._wanted_port is not None and saved.clients != self._wanted_port):
            found = [port for port in free_ports(str(self.home), 4) if port != self._wanted_port]
            saved = Ports(self._wanted_port or found[2], found[0], found[1])
            text = json.dumps([saved.clients, saved.controller, saved.admin])
            (self.home / "ports.json").write_text(text, encoding="utf-8")
        return saved

    def _saved_ports(self) -> Ports | None:
        try:
            clients, controller, admin = json.loads((self.home / "ports.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise BrokerError(f"{self.home}/ports.json is damaged ({error}): delete it") from error
        return Ports(int(clients), int(controller), int(admin))

    def _guard(self, ports: Ports) -> dict[str, str]:
        """Make the certificates and the administrator's files."""
        prepare_certificates(self.tls)
        for path, properties in (
            (self.admin_file, admin_properties(ports, self.tls)),
            (self.admin_tools_file, admin_tools_properties(ports, self.tls)),
        ):
            path.touch(mode=0o600)
            path.write_text(render_properties(properties), encoding="utf-8")
        return guarded_listeners(ports, self.tls)

    def _format(self, jars: Path, configuration: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")
        command = java_command(
            jars, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", str(configuration)
        )
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FORMAT_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BrokerError(f"formatting {self.home}/data took over {FORMAT_DEADLINE_SECONDS:.0f} s") from error
        if done.returncode != 0:
            raise BrokerError(f"{self.home}/data could not be formatted:\n{done.stdout}{done.stderr}")

    def _launch(self, jars: Path, configuration: Path) -> None:
        options = (HEAP, f"-Dkafka.logs.dir={self.home}", f"-Djava.io.tmpdir={self.home / 'tmp'}")
        command = java_command(jars, "kafka.Kafka", str(configuration), options=options, tuning=self._tuning)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home, start_new_session=True
            )
        if self._die_with_parent:
            self._watchdog = Watchdog(self._process.pid)

    def _await_service(self, ports: Ports, deadline_seconds: float) -> None:
        assert self._process is not None
        deadline = time.monotonic() + deadline_seconds
        admin: AdminClient | None = None
        while time.monotonic() < deadline:
            code = self.wait(LOOK_SECONDS)
            if code is not None:
                raise BrokerError(f"the broker in {self.home} ended with code {code}.{self._log_tail()}")
            if not accepts_connections(ports.clients):
                continue
            admin = admin or AdminClient({**self.admin_connection, "log_level": 0})
            # A broker listens before its controller lets it serve; then it is in its own metadata.
            with contextlib.suppress(KafkaException):
                if admin.list_topics(timeout=1.0).brokers:
                    return
        raise BrokerError(
            f"the broker in {self.home} did not answer on port {ports.clients} in {deadline_seconds:.0f} s."
            + self._log_tail()
        )

    def _log_tail(self) -> str:
        try:
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        except OSError as error:
            return f" Its log {self.log_file} cannot be read: {error}"
        return "\n".join([f" The end of {self.log_file}:", *lines])

    def _release(self) -> None:
        if self._watchdog is not None:
            self._watchdog.dismiss()
        self._process = self._watchdog = None
