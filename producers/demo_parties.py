"""The demo's world in one folder: a broker, and two parties with homes, keys, tables and topics of their own."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from confluent_kafka.admin import AdminClient

from infra.access_admin import grant_access
from infra.broker import EmbeddedBroker
from infra.code_digest import code_digest
from infra.federation_local import found_together
from infra.manifest import Profile
from infra.secrets import create_secrets
from infra.settings import PartySettings, load_settings, save_settings
from infra.topic_admin import create_topics
from infra.topics import party_topics
from producers.demo_data import KEPT_SHARE, DemoTables
from producers.job_client import JobError
from producers.topic_reader import QUIET
from schemas.jobs import JobSpec, Leak, PartySpec, Privacy, TrainSpec

GUEST, HOST = "clinic", "laboratory"
GUEST_OF_FILES, HOST_OF_FILES = "guest", "host"
DATASET = "people"
#: Marks a folder as one that the demo made and may empty.
MARK = "made-by-isthmus-demo"
#: For the demo's own table; a job is over in a minute, and a machine may be ten times slower.
DEADLINE_SECONDS = 900
#: Nobody knows how large the files of `--data` are.
FILES_DEADLINE_SECONDS = 6 * 3600


@dataclass(frozen=True)
class DemoOptions:
    """What the command line chose."""

    seed: int = 1
    kills: int = 0
    rank: int | None = None
    data: Path | None = None
    privacy: Privacy = Privacy.SPLIT_LINK
    rows: int | None = None
    #: The share of its rows that each side keeps.
    kept: float = KEPT_SHARE
    max_passes: int | None = None
    folder: Path = Path(".isthmus/demo")
    deadline_seconds: int | None = None

    @property
    def parties(self) -> tuple[str, str]:
        """Guest and host."""
        return (GUEST, HOST) if self.data is None else (GUEST_OF_FILES, HOST_OF_FILES)


def make_spec(options: DemoOptions, tables: DemoTables) -> JobSpec:
    """The demo's job. Everything but the seeds is in it, as in anybody's job."""
    guest, host = options.parties
    if options.data is None:
        # 300 training rows: strong regularisation, a box wide enough for what is left, and honesty about their number.
        train = TrainSpec(
            l2=30.0, max_passes=12, coarse_passes=3, tolerance=1e-3, rank=8, guest_logit_clip=6.0, host_logit_clip=24.0
        )
        leaks: tuple[Leak, ...] = (Leak.SMALL_TABLE,)
    else:
        train = TrainSpec(rank=6, guest_logit_clip=8.0, host_logit_clip=4.0)
        leaks = ()
    if options.rows is not None and Leak.SMALL_TABLE not in leaks:
        leaks = (*leaks, Leak.SMALL_TABLE, Leak.RARE_COLUMN)
    if options.privacy is Privacy.TRUSTED_GUEST:
        leaks = (*leaks, Leak.HOST_ROWS_TO_GUEST)
    train = replace(
        train,
        privacy=options.privacy,
        rank=train.rank if options.rank is None else options.rank,
        max_passes=options.max_passes or train.max_passes,
    )
    deadline = options.deadline_seconds or (DEADLINE_SECONDS if options.data is None else FILES_DEADLINE_SECONDS)
    return JobSpec(
        name="breast-cancer" if options.data is None else "demo",
        guest=PartySpec(guest, DATASET, tables.guest_features),
        label=tables.label,
        hosts=(PartySpec(host, DATASET, tables.host_features),),
        train=train,
        accept_leaks=leaks,
        deadline_seconds=deadline,
        patience_seconds=min(60, deadline),
    )


def demo_job_id(seed: int, spec: JobSpec) -> str:
    """The same for the same seed: all randomness of a job follows from the masters and this name."""
    digest = hashlib.sha256(f"{seed}\0{spec!r}".encode()).hexdigest()
    return f"{spec.name}-seed{seed}-{digest[:8]}"


@contextmanager
def demo_folder(folder: Path) -> Iterator[Path]:
    """An empty folder, ours alone while the demo runs. Raises `JobError` for a folder that the demo did not make."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JobError(f"another demo runs in {folder}: wait for it, or choose another --folder") from None
        if folder.exists() and any(folder.iterdir()):
            if not (folder / MARK).exists():
                raise JobError(f"{folder} holds something that the demo did not make: choose another --folder")
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        (folder / MARK).touch()
        yield folder


def make_homes(
    folder: Path, options: DemoOptions, tables: DemoTables, spec: JobSpec, broker: EmbeddedBroker
) -> tuple[PartySettings, PartySettings]:
    """Homes of guest and host: settings, tables, keys of the seed (unsafe, for the demo only), keys exchanged."""
    guest, host = options.parties
    homes = {guest: folder / guest, host: folder / host}
    for party, peer, table, label in ((guest, host, tables.guest, tables.label), (host, guest, tables.host, None)):
        _make_home(homes[party], party, peer, table, label, spec, broker)
        create_secrets(homes[party], party, unsafe_seed=f"isthmus demo {options.seed}".encode())
    profile = Profile(privacy=tuple({Privacy.SPLIT_LINK: None, options.privacy: None}))
    found_together(list(homes.values()), "demo", profile=profile, code=(code_digest(),))
    return load_settings(homes[guest]), load_settings(homes[host])


def make_topics(settings: PartySettings, broker: EmbeddedBroker) -> None:
    """All topics of the party, and the rights of its processes and of its peers on them."""
    admin = AdminClient(dict(broker.admin_connection), logger=QUIET)
    create_topics(admin, party_topics(settings.party, settings.topics.partitions), settings.topics.replication_factor)
    grant_access(admin, settings)


def _make_home(
    home: Path, party: str, peer: str, table: pd.DataFrame, label: str | None, spec: JobSpec, broker: EmbeddedBroker
) -> None:
    (home / "data").mkdir(parents=True)
    table.to_csv(home / "data" / f"{DATASET}.csv", index=False)
    dataset: dict[str, Any] = {"path": f"data/{DATASET}.csv", "id": "id"}
    if label is not None:
        dataset["label"] = label
    save_settings(
        home,
        {
            "party": party,
            "bootstrap_servers": broker.bootstrap,
            "access": {"kind": "scram", "ca": str(broker.ca_file)},
            "peers": [peer],
            "datasets": {DATASET: dataset},
            "object_store": {"kind": "directory", "path": "objects"},
            # The demo's operators are one person, who has accepted already by starting it.
            "approval": {"auto": True, "accept_leaks": [str(leak) for leak in spec.accept_leaks]},
        },
    )
