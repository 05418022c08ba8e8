"""One set of claims for every store; and faults that really happen: a full file system, a server that is gone."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import infra.object_store_s3
from infra.object_store import DirectoryStore, ObjectStore, ObjectStoreError, open_object_store
from infra.object_store_s3 import S3Store
from infra.settings import PartySettings
from tests.infra.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

CONTENT = b"sealed bytes" * 1000
NAME = hashlib.sha256(b"what is sealed in them").digest()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3")).start()
    yield server
    server.kill()


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "objects")
    request.getfixturevalue("s3_credentials")
    server: S3Server = request.getfixturevalue("s3_server")
    return S3Store(server.bucket, f"{tmp_path.name}/", endpoint_url=server.endpoint_url)


def test_what_was_put_is_there_and_comes_back(store: ObjectStore) -> None:
    assert not store.has(NAME)
    store.put(NAME, CONTENT)
    assert store.has(NAME)
    assert store.get(NAME) == CONTENT


def test_an_object_never_changes_once_it_is_there(store: ObjectStore) -> None:
    store.put(NAME, CONTENT)
    store.put(NAME, b"something else")
    assert store.get(NAME) == CONTENT


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_small_and_large_objects_are_kept_whole(store: ObjectStore, size: int) -> None:
    content = bytes(index * 7 % 251 for index in range(size))
    store.put(NAME, content)
    assert store.get(NAME) == content


def test_an_object_that_is_not_there_is_named(store: ObjectStore) -> None:
    with pytest.raises(ObjectStoreError, match=f"there is no object {NAME.hex()}"):
        store.get(NAME)


def test_racing_writers_leave_one_whole_object(store: ObjectStore) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: store.put(NAME, content), contents))
    assert store.get(NAME) in contents


def _read_named(store: ObjectStore, name: str) -> bytes:
    if isinstance(store, DirectoryStore):
        return (store.root / name).read_bytes()
    assert isinstance(store, S3Store)
    return store._client.get_object(Bucket=store.bucket, Key=store.prefix + name)["Body"].read()


def test_a_named_file_is_stored_whole_and_replaced_by_a_later_one(store: ObjectStore) -> None:
    name = "scoring/date=2026-11-22/model=a%2Fb/part-00000000000000000007.avro"
    for content in (CONTENT, b"", CONTENT[:100]):
        store.put_named(name, content)
        assert _read_named(store, name) == content


@pytest.mark.parametrize("name", ["part.avro", "", "/scoring/x", "scoring/../x", "scoring//x", "ab/x", "scratch/x"])
def test_a_name_cannot_leave_the_store_or_stand_for_an_object(store: ObjectStore, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a file"):
        store.put_named(name, CONTENT)


# --- the folder ------------------------------------------------------------------------------------------------------

FILL_A_SMALL_DISK = """
mount -t tmpfs -o size=256k,mode=700 none "$1" && exec "$2" - "$1" <<'EOF'
import hashlib, pathlib, sys
from infra.object_store import DirectoryStore, ObjectStoreError
root = pathlib.Path(sys.argv[1]) / "objects"
store = DirectoryStore(root)
fits, too_large = hashlib.sha256(b"1").digest(), hashlib.sha256(b"2").digest()
store.put(fits, bytes(100_000))
try:
    store.put(too_large, bytes(300_000))
except ObjectStoreError as error:
    print(error)
print("has", store.has(fits), store.has(too_large), len(store.get(fits)))
print("files", sorted(path.name for path in root.rglob("*") if path.is_file()) == [fits.hex()])
store.put(too_large, bytes(100_000))
print("room again", store.has(too_large))
EOF
"""


def test_a_full_file_system_is_told_and_leaves_no_part_of_an_object(tmp_path: Path) -> None:
    """The file system is a real one of 256 KiB, in a mount namespace of its own."""
    (tmp_path / "disk").mkdir()
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = [
        "unshare",
        "--mount",
        *as_root,
        "sh",
        "-c",
        FILL_A_SMALL_DISK,
        "sh",
        str(tmp_path / "disk"),
        sys.executable,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    error, *facts = done.stdout.splitlines()
    assert error == (
        f"could not store an object of 300,000 bytes in {tmp_path}/disk/objects: No space left on device; make room "
        "there, then try again"
    )
    assert facts == ["has True False 100000", "files True", "room again True"]


def test_a_write_that_is_cut_short_leaves_no_part_of_an_object(tmp_path: Path) -> None:
    """The kernel refuses to let a file grow beyond 64 KiB: the write fails after it began."""
    store = DirectoryStore(tmp_path / "objects")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
    try:
        with pytest.raises(ObjectStoreError, match="File too large"):
            store.put(NAME, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not store.has(NAME)
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order fsync(file), rename, fsync(folder) is what makes a crash of the machine harmless."""
    calls: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        calls.append("rename")
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    DirectoryStore(tmp_path).put(NAME, CONTENT)
    assert calls == ["file", "rename", "folder", "folder"]


def test_what_a_killed_process_left_is_removed_when_it_is_stale(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for name in ("stale", "fresh"):
        (scratch / name).write_bytes(b"half an object")
    os.utime(scratch / "stale", (0, 0))
    DirectoryStore(tmp_path)
    assert [path.name for path in scratch.iterdir()] == ["fresh"]


def test_a_root_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ObjectStoreError, match=f"could not use {tmp_path}/file"):
        DirectoryStore(tmp_path / "file")


# --- the bucket ------------------------------------------------------------------------------------------------------


def test_a_bucket_that_does_not_exist_is_an_error_of_every_call(s3_server: S3Server, s3_credentials: None) -> None:
    store = S3Store("missing-bucket", endpoint_url=s3_server.endpoint_url)
    with pytest.raises(ObjectStoreError, match="missing-bucket"):
        store.get(NAME)
    assert not store.has(NAME)


def test_wrong_credentials_are_told_without_the_secret(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    store = S3Store(s3_server.bucket, endpoint_url=s3_server.endpoint_url)
    for call in (lambda: store.put(NAME, b"x"), lambda: store.get(NAME), lambda: store.has(NAME)):
        with pytest.raises(ObjectStoreError) as caught:
            call()
        assert "a-wrong-secret" not in str(caught.value)


def test_a_server_that_hangs_is_told_and_one_that_goes_on_still_has_it(
    s3_server: S3Server, s3_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infra.object_store_s3, "MAX_ATTEMPTS", 1)
    monkeypatch.setattr(infra.object_store_s3, "READ_TIMEOUT_SECONDS", 1)
    store = S3Store(s3_server.bucket, "hanging/", endpoint_url=s3_server.endpoint_url)
    store.put(NAME, CONTENT)
    with s3_server.paused(), pytest.raises(ObjectStoreError, match=f"could not read from {s3_server.endpoint_url}"):
        store.get(NAME)
    assert store.get(NAME) == CONTENT


def test_a_server_that_is_gone_is_told(s3_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.object_store_s3, "MAX_ATTEMPTS", 2)
    store = S3Store("objects", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(
        ObjectStoreError, match=r"could not store an object of 1 bytes in http://127\.0\.0\.1:9/objects/"
    ):
        store.put(NAME, b"x")


def test_settings_choose_the_store(tmp_path: Path) -> None:
    base = {"party": "acme", "access": {"kind": "custom"}, "bootstrap_servers": "a:1"}
    directory = PartySettings.model_validate({**base, "object_store": {"kind": "directory", "path": str(tmp_path)}})
    assert isinstance(open_object_store(directory), DirectoryStore)
    bucket = PartySettings.model_validate({**base, "object_store": {"kind": "s3", "bucket": "models"}})
    assert isinstance(open_object_store(bucket), S3Store)
