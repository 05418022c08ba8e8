"""Count outcomes a minute with a stream processor off the shelf: quixstreams, fastavro and one published schema.

    python examples/score_results_stream.py --bootstrap localhost:9092 --party acme

Prints a JSON line whenever a minute's count of an outcome changes. Whatever a stream processor does with Avro records
in Kafka can be done with results: joins with orders, alarms, copies into a database. It imports nothing from Isthmus.

It makes two topics of its own, for results in the order of outcomes and for its counts, and so wants rights to.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form
from quixstreams import Application
from quixstreams.dataframe.windows import Count
from quixstreams.models import Deserializer, SerializationContext

MARKER = b"\xc3\x01"
SCHEMAS = Path(__file__).parent.parent / "schemas" / "avro" / "ScoreJoined"


class ResultDeserializer(Deserializer):
    """Avro's single-object encoding -> a dictionary, by the version of the schema that the record names."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._schemas: dict[bytes, Any] = {}
        for path in folder.glob("*.avsc"):
            schema = json.loads(path.read_text(encoding="utf-8"))
            crc = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
            self._schemas[crc] = fastavro.parse_schema(schema)

    def __call__(self, value: bytes, ctx: SerializationContext) -> Any:
        """Raises `ValueError` for what is no result, which stops the program."""
        if value[:2] != MARKER or value[2:10] not in self._schemas:
            raise ValueError(f"not a ScoreJoined of a version in the folder: {value[:10].hex(' ')}")
        return fastavro.schemaless_reader(io.BytesIO(value[10:]), self._schemas[value[2:10]], None)


def joined_at(value: Any, headers: Any, timestamp: float, timestamp_type: Any) -> int:
    """When the joiner decided: the event time, in milliseconds."""
    return int(value["joined_at_us"]) // 1000


def show(value: Any, key: Any, timestamp: int, headers: Any) -> None:
    """One line a change."""
    minute = datetime.fromtimestamp(value["start"] / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")
    sys.stdout.write(json.dumps({"minute": minute, "outcome": key, "count": value["count"]}) + "\n")
    sys.stdout.flush()


def run(bootstrap: str, party: str, group: str, folder: str, idle_seconds: float) -> None:
    """Count until Ctrl-C, or until nothing came for `idle_seconds`, if there are any."""
    application = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=folder,
        # The joiner writes in transactions. Without this a reader counts outcomes that were taken back.
        consumer_extra_config={"isolation.level": "read_committed"},
        loglevel="WARNING",
    )
    topic = application.topic(
        f"vfl.score.results.{party}.v1",
        value_deserializer=ResultDeserializer(SCHEMAS),
        timestamp_extractor=joined_at,
    )
    frame = application.dataframe(topic)
    frame = frame[frame["purpose"] == "live"]
    frame = frame.apply(lambda result: {"outcome": result["outcome"]})
    # Results lie in the partition of their request's id: those of one outcome have to meet to be counted.
    frame = frame.group_by("outcome")
    # With the partitions read side by side, a minute's results come among those of later minutes.
    frame = frame.tumbling_window(timedelta(minutes=1), grace_ms=timedelta(minutes=15)).agg(count=Count()).current()
    frame.update(show, metadata=True)
    application.run(timeout=idle_seconds)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="count a party's outcomes a minute")
    parser.add_argument("--bootstrap", default="localhost:9092", help="broker address of the guest")
    parser.add_argument("--party", required=True, help="the guest")
    parser.add_argument("--group", default="examples-score-results-stream", help="the consumer group")
    parser.add_argument("--idle-seconds", type=float, default=0.0, help="end when nothing came for so long; 0: never")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(arguments.bootstrap, arguments.party, arguments.group, folder, arguments.idle_seconds)


if __name__ == "__main__":
    main()
