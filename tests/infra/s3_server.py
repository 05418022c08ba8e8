"""A real S3 server from a wheel, on loopback, with its files in a folder of the test."""

from __future__ import annotations

import json
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.broker.ports import free_ports
from infra.watchdog import Watchdog
from tests.infra.pausing import pausing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS_KEY, SECRET_KEY = "tester", "not-a-secret"
START_DEADLINE_SECONDS = 60.0


class S3Server:
    """SeaweedFS with one bucket, `objects`."""

    bucket = "objects"

    def __init__(self, home: Path) -> None:
        self.home = home
        self._ports = free_ports(str(home), 7)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    def start(self) -> Self:
        s3, s3_grpc, filer, filer_grpc, master, master_grpc, volume = self._ports
        (self.home / "data").mkdir(parents=True, exist_ok=True)
        identity = {
            "name": "tester",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (self.home / "s3.json").write_text(json.dumps({"identities": [identity]}))
        command = [
            str(Path(sysconfig.get_path("scripts")) / "weed"),
            "server",
            f"-dir={self.home / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            f"-master.port={master}",
            f"-master.port.grpc={master_grpc}",
            f"-volume.port={volume}",
            f"-volume.port.grpc={free_ports(str(self.home) + 'volume', 1)[0]}",
            "-volume.max=2",
            "-master.volumeSizeLimitMB=64",
            f"-filer.port={filer}",
            f"-filer.port.grpc={filer_grpc}",
            f"-filer.localSocket={self.home / 'filer.sock'}",
            "-s3",
            f"-s3.port={s3}",
            f"-s3.port.grpc={s3_grpc}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.localSocket={self.home / 's3.sock'}",
            f"-s3.config={self.home / 's3.json'}",
        ]
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._watchdog = Watchdog(self._process.pid)
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while True:
            try:
                client = self.client()
                if not client.list_buckets()["Buckets"]:
                    client.create_bucket(Bucket=self.bucket)
                # Buckets are served before what is in them.
                client.put_object(Bucket=self.bucket, Key="probe", Body=b"probe")
                client.get_object(Bucket=self.bucket, Key="probe")["Body"].read()
                return self
            except (BotoCoreError, ClientError) as error:
                code = self._wait(0.2)
                if code is not None or time.monotonic() > deadline:
                    self.kill()
                    log_tail = (self.home / "server.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"the S3 server does not serve ({error}):\n{log_tail}") from error

    def client(self) -> S3Client:
        client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
        )
        return client

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, the server accepts connections and answers nothing."""
        assert self._process is not None
        with pausing([self._process.pid]):
            yield

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._watchdog is not None:
            self._watchdog.dismiss()
            self._watchdog = None

    def _wait(self, seconds: float) -> int | None:
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
