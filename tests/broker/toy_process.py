"""A process of the engine on a real broker, around the toy machine: `python -m tests.broker.toy_process SETTINGS`.

Exits with 0 when it was told to stop, 3 when another process has its slot, 4 for the engine's other errors.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.topics import (
    commands_topic,
    dead_letter_topic,
    events_topic,
    exchange_topic,
    group_id,
    job_audit_topic,
    registry_topic,
    state_topic,
    transactional_id,
)
from streams.engine.errors import EngineError, SlotTakenError
from streams.engine.kafka_log import KafkaLog
from streams.engine.kafka_settings import KafkaTimeouts, Membership
from streams.engine.process import StageProcess, SystemClock
from streams.engine.topics import StageTopics
from tests.simulation.harness import make_keyrings
from tests.simulation.toy import STAGE, ToyMachine, ToyStart, register_toys

SLOT_TAKEN, ENGINE_ENDED = 3, 4
SMALL_CHUNK_BYTES = 400


@dataclass(frozen=True)
class ToySettings:
    """Travels as JSON on the command line."""

    bootstrap: str
    party: str
    parties: tuple[str, ...]
    store: str
    slot: int = 0
    membership: str = Membership.STATIC
    session_ms: int = 6_000
    transaction_ms: int = 30_000
    call_seconds: float = 10.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class FileStore:
    """A party's blobs as files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def put(self, sha256: bytes, content: bytes) -> None:
        scratch = self.root / f"{sha256.hex()}.{os.getpid()}"
        scratch.write_bytes(content)
        scratch.replace(self.root / sha256.hex())

    def get(self, sha256: bytes) -> bytes:
        return (self.root / sha256.hex()).read_bytes()

    def has(self, sha256: bytes) -> bool:
        return (self.root / sha256.hex()).exists()


def toy_topics(party: str) -> StageTopics:
    return StageTopics(
        party=party,
        stage=STAGE,
        commands=commands_topic(STAGE, party),
        exchange=exchange_topic(STAGE, party),
        state=state_topic(STAGE, party),
        events=events_topic(party),
        registry=registry_topic(party),
        dead_letter=dead_letter_topic(party),
        audit=job_audit_topic(party),
        exchange_of=lambda peer: exchange_topic(STAGE, peer),
        commands_of=lambda stage: commands_topic(stage, party),
        plain_commands=frozenset({ToyStart}),
    )


def make_process(settings: ToySettings) -> StageProcess:
    register_toys()
    topics = toy_topics(settings.party)
    log = KafkaLog(
        settings.bootstrap,
        topics,
        group_id=group_id(STAGE, settings.party),
        transactional_id=transactional_id(STAGE, settings.party, settings.slot),
        membership=Membership(settings.membership),
        timeouts=KafkaTimeouts(
            session_ms=settings.session_ms,
            heartbeat_ms=settings.session_ms // 10,
            transaction_ms=settings.transaction_ms,
            call_seconds=settings.call_seconds,
        ),
    )
    return StageProcess(
        ToyMachine(settings.party),
        settings.party,
        log,
        make_keyrings(settings.parties)[settings.party],
        FileStore(Path(settings.store)),
        None,
        SystemClock(),
        topics,
        chunk_bytes=SMALL_CHUNK_BYTES,
    )


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    values = json.loads(sys.argv[1])
    settings = ToySettings(**{**values, "parties": tuple(values["parties"])})
    process = make_process(settings)
    signal.signal(signal.SIGTERM, lambda number, frame: process.stop())
    with contextlib.suppress(BrokenPipeError):
        try:
            process.run()
        except SlotTakenError as error:
            logging.error("slot taken: %s", error)
            return SLOT_TAKEN
        except EngineError as error:
            logging.error("%s: %s", type(error).__name__, error)
            return ENGINE_ENDED
    return 0


if __name__ == "__main__":
    sys.exit(main())
