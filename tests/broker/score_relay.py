"""A router or a score host on a real broker, with features from a file: `python -m tests.broker.score_relay SETTINGS`.

Exits with 0 when it was told to stop, 3 when another process has its slot, 4 for the engine's other errors.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from consumers.party import Party, open_party
from consumers.relays import relay_places
from consumers.score_host import ScoreHost
from consumers.score_router import ScoreRouter
from consumers.serving import ServingCatalogue
from infra.topics import ROUTER, questions_topic, requests_topic
from schemas.jobs import JobSpec
from streams.engine.errors import EngineError, SlotTakenError
from streams.engine.kafka_settings import KafkaTimeouts
from streams.engine.relay_counts import PartitionCounts
from streams.engine.relay_loop import RelayLoop
from streams.features import PersonFeatures
from tests.broker.score_houses import DictIndex, DictSource

SLOT_TAKEN, ENGINE_ENDED = 3, 4


@dataclass(frozen=True)
class RelaySettings:
    """Travels as JSON on the command line. `features` is a file: person -> column -> value."""

    role: str
    home: str
    features: str
    slot: int = 0
    session_ms: int = 6_000
    poll_records: int = 20

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def make_loop(party: Party, settings: RelaySettings, source: DictSource) -> tuple[RelayLoop, ScoreRouter | ScoreHost]:
    """The process as it is, but for where features come from."""
    counts = PartitionCounts(party.settings.bootstrap_servers, {})
    catalogue = ServingCatalogue(party, serving=settings.role == ROUTER)
    catalogue.start()

    def load_table(spec: JobSpec) -> DictSource:
        return source

    handler: ScoreRouter | ScoreHost
    if settings.role == ROUTER:
        handler, topic = ScoreRouter(party, catalogue, source, load_table, counts), requests_topic(party.name)
    else:
        handler = ScoreHost(
            party,
            catalogue,
            source,
            load_table,
            lambda _, normalise: DictIndex(source, lambda guest: party.keyring.token_key(guest, party.name), normalise),
            counts,
        )
        topic = questions_topic(party.name)
    timeouts = KafkaTimeouts(session_ms=settings.session_ms, heartbeat_ms=settings.session_ms // 10)
    places = relay_places(party, settings.role, settings.slot, topic)
    return RelayLoop(places, handler, timeouts=timeouts, poll_records=settings.poll_records), handler


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = RelaySettings(**json.loads(sys.argv[1]))
    rows = json.loads(Path(settings.features).read_text())
    source = DictSource({person: PersonFeatures(values) for person, values in rows.items()})
    loop, handler = make_loop(open_party(Path(settings.home)), settings, source)
    signal.signal(signal.SIGTERM, lambda number, frame: loop.stop())
    try:
        loop.run()
    except SlotTakenError as error:
        logging.error("slot taken: %s", error)
        return SLOT_TAKEN
    except EngineError as error:
        logging.error("%s: %s", type(error).__name__, error)
        return ENGINE_ENDED
    finally:
        handler.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
