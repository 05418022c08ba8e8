"""Apache Kafka's jars: a lock file in the repository names every one with its SHA-256; a cache folder holds them.

`ISTHMUS_MAVEN_REPOSITORY` names a mirror of Maven Central to fetch from instead.
`python -m infra.broker.jars` writes the lock again after a change of versions.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from jgo.maven import MavenContext

#: Not the newest: from 4.1 a broker that is killed can forget the markers of a decided transaction (KAFKA-20734; see
#: docs/decisions/0011-kafka-version.md).
KAFKA_VERSION = "4.0.2"
#: Locked with everything that it depends on.
BROKER = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
#: Locked alone, for what they need beyond the broker's own jars is not used here: the command-line tools (whose Connect
#: commands would bring a web server), and the logging backend that the broker's start scripts would add.
EXTRAS = (
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-api:2.25.4",
    "org.apache.logging.log4j:log4j-core:2.25.4",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)
LOCK_FILE = Path(__file__).with_name("kafka.lock.toml")
#: A jar of 11 MB over a slow line; jgo's own limit of 10 s is for a fast one.
DOWNLOAD_TIMEOUT_SECONDS = 60
DOWNLOAD_THREADS = 6
#: Attempts at one jar: a connection that breaks once is usual, thrice is a fault to report.
DOWNLOAD_ATTEMPTS = 3


class JarError(Exception):
    """Apache Kafka's jars could not be fetched, or are not what the lock file says."""


@dataclass(frozen=True, order=True)
class Jar:
    """One locked artifact of Maven Central."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Its name in the cache."""
        return f"{self.artifact}-{self.version}.jar"


def cache_root() -> Path:
    """The folder below which downloads are kept: `ISTHMUS_CACHE`, else `~/.cache/isthmus`."""
    configured = os.environ.get("ISTHMUS_CACHE")
    return Path(configured).expanduser().absolute() if configured else Path.home() / ".cache" / "isthmus"


def read_lock(path: Path = LOCK_FILE) -> tuple[Jar, ...]:
    """The locked jars."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(Jar(**entry) for entry in table["jar"])


def fetch_jars(cache: Path | None = None, lock: tuple[Jar, ...] | None = None) -> Path:
    """The folder with exactly the locked jars, downloaded at the first call. Raises `JarError`.

    Safe against other processes that fetch at the same time, and against being killed half way: the folder appears
    under its name in one rename, when every digest was right.
    """
    root = (cache or cache_root()).absolute()
    jars = read_lock() if lock is None else lock
    digest = hashlib.sha256("\n".join(jar.sha256 for jar in jars).encode()).hexdigest()[:12]
    target = root / f"kafka-{KAFKA_VERSION}-{digest}"
    if target.is_dir():
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / "fetch.lock"):
            if not target.is_dir():
                _fetch_into(target, jars)
    except OSError as error:
        raise JarError(
            f"Apache Kafka's jars could not be kept below {root}: {error}. Set ISTHMUS_CACHE to a folder that can be "
            "written and has 60 MB free."
        ) from error
    return target


def _fetch_into(target: Path, jars: tuple[Jar, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=target.parent) as scratch:
        context = _context(Path(scratch) / "repository")
        ready = Path(scratch) / "jars"
        ready.mkdir()
        with ThreadPoolExecutor(DOWNLOAD_THREADS) as pool:
            for jar, path in zip(jars, pool.map(lambda jar: _download(context, jar), jars), strict=True):
                shutil.move(path, ready / jar.file_name)
        ready.rename(target)


def _context(repository: Path) -> MavenContext:
    mirror = os.environ.get("ISTHMUS_MAVEN_REPOSITORY")
    remotes = {"mirror": mirror.rstrip("/")} if mirror else None
    return MavenContext(repo_cache=repository, remote_repos=remotes, timeout=DOWNLOAD_TIMEOUT_SECONDS)


def _download(context: MavenContext, jar: Jar) -> Path:
    name = f"{jar.group}:{jar.artifact}:{jar.version}"
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        try:
            path = artifact.resolve()
        except (requests.RequestException, RuntimeError) as error:
            # What a broken connection left behind would be taken for the whole jar.
            if artifact.cached_path is not None:
                artifact.cached_path.unlink(missing_ok=True)
            if attempt == DOWNLOAD_ATTEMPTS:
                raise JarError(
                    f"{name} could not be downloaded ({error}). The first start of the embedded broker needs Maven "
                    "Central: set HTTPS_PROXY or ISTHMUS_MAVEN_REPOSITORY, or copy a filled ISTHMUS_CACHE here."
                ) from error
            continue
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != jar.sha256:
            raise JarError(f"{name} has SHA-256 {found}, but {LOCK_FILE.name} says {jar.sha256}: not used.")
        return Path(path)
    raise AssertionError("the loop returns or raises")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def resolve_lock() -> tuple[Jar, ...]:
    """The jars of `BROKER` and `EXTRAS` with their digests. Slow, and asks Maven Central."""
    with tempfile.TemporaryDirectory() as scratch:
        context = _context(Path(scratch))
        # Not resolved in one call: the dependency management of one root would choose versions for the others.
        direct, transitive = context.resolver.resolve([context.create_dependency(BROKER)])
        extras = [context.create_dependency(extra) for extra in EXTRAS]
        jars = set()
        for dependency in [*direct, *transitive, *extras]:
            artifact = dependency.artifact
            if artifact.packaging != "jar" or artifact.classifier:
                raise JarError(f"{artifact} is not a plain jar: the lock file cannot name it")
            sha256 = hashlib.sha256(Path(artifact.resolve()).read_bytes()).hexdigest()
            jars.add(Jar(artifact.groupId, artifact.artifactId, artifact.version, sha256))
        return tuple(sorted(jars))


def write_lock(jars: tuple[Jar, ...], path: Path = LOCK_FILE) -> None:
    """Write the lock file."""
    lines = ["# Every jar of the embedded Apache Kafka. Made by: python -m infra.broker.jars"]
    for jar in jars:
        lines += ["", "[[jar]]", f'group = "{jar.group}"', f'artifact = "{jar.artifact}"']
        lines += [f'version = "{jar.version}"', f'sha256 = "{jar.sha256}"']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_lock(resolve_lock())
    sys.stdout.write(f"{LOCK_FILE} names {len(read_lock())} jars\n")
