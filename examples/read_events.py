r"""Follow a party's events with nothing but confluent-kafka, fastavro and the folder of published schemas.

    isthmus topics credentials client --out client.properties
    python examples/read_events.py --properties client.properties --party acme

or, with another client doing the reading (kcat writes each record's length in four bytes, then the record):

    kcat -C -b localhost:9092 -t vfl.job.events.acme.v1 -e -q -X isolation.level=read_committed -f '%R%s' \
        | python examples/read_events.py --stdin

Prints one JSON line a record. This is what any consumer does, in any language: take the writer's schema by its
fingerprint, then decode. It imports nothing from Isthmus.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

MARKER = b"\xc3\x01"
SCHEMAS = Path(__file__).parent.parent / "schemas" / "avro"

Schemas = dict[bytes, tuple[str, Any]]


def load_schemas(folder: Path) -> Schemas:
    """Every published schema by its CRC-64-AVRO fingerprint, with the name of its record."""
    schemas: Schemas = {}
    for path in sorted(folder.glob("*/*.avsc")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        crc = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
        schemas[bytes.fromhex(crc)] = (path.parent.name, fastavro.parse_schema(schema))
    return schemas


def decode(data: bytes, schemas: Schemas) -> tuple[str, Any]:
    """The record's name and value. Raises `ValueError` for what is not Avro's single-object encoding, or not known."""
    if data[:2] != MARKER:
        raise ValueError(f"not Avro single-object encoding: begins with {data[:2].hex(' ')}")
    if data[2:10] not in schemas:
        raise ValueError(f"no schema with fingerprint {data[2:10].hex()} in the folder: is it of the same release?")
    name, schema = schemas[data[2:10]]
    return name, fastavro.schemaless_reader(io.BytesIO(data[10:]), schema, None)


def load_connection(bootstrap: str, properties: Path | None) -> dict[str, Any]:
    """How to reach the broker: by its address alone, or as a file of librdkafka's properties says."""
    if properties is None:
        return {"bootstrap.servers": bootstrap}
    lines = [line.partition("=") for line in properties.read_text(encoding="utf-8").splitlines() if "=" in line]
    return {name: value for name, _, value in lines}


def read(connection: dict[str, Any], topic: str, *, follow: bool) -> Iterator[confluent_kafka.Message]:
    """The topic's records from its beginning; without `follow`, until all that is there now was read."""
    settings = {
        **connection,
        # Asked for by the library; nothing is committed. A broker with rules knows groups by whose they are.
        "group.id": f"vfl.{connection.get('sasl.username', 'nobody')}.example",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        # Records of aborted transactions stay in the log: without this a reader sees steps that were never taken.
        "isolation.level": "read_committed",
    }
    consumer = confluent_kafka.Consumer(settings)
    try:
        known = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        if not known:
            raise SystemExit(f"there is no topic {topic} at {connection['bootstrap.servers']}")
        begin = confluent_kafka.OFFSET_BEGINNING
        consumer.assign([confluent_kafka.TopicPartition(topic, partition, begin) for partition in known])
        unfinished = set(known)
        while follow or unfinished:
            message = consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                yield message
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                unfinished.discard(message.partition())
            else:
                raise SystemExit(f"{topic}: {error.str()}")
    finally:
        consumer.close()


def print_record(data: bytes | None, schemas: Schemas, **where: int | None) -> None:
    """One JSON line; bytes are printed in hex."""
    name, value = decode(data or b"", schemas)
    sys.stdout.write(json.dumps({"event": name, **where, **value}, default=lambda raw: raw.hex()) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="print a party's events as JSON lines")
    parser.add_argument("--bootstrap", default="localhost:9092", help="address of a broker that lets anybody in")
    parser.add_argument(
        "--properties", type=Path, help="from `isthmus topics credentials client`, instead of --bootstrap"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--party", help="read this party's events topic")
    source.add_argument("--stdin", action="store_true", help="read what `kcat -f '%%R%%s'` writes")
    parser.add_argument("--schemas", type=Path, default=SCHEMAS, help="folder of the published schemas")
    parser.add_argument("--follow", action="store_true", help="wait for more instead of ending")
    arguments = parser.parse_args()
    schemas = load_schemas(arguments.schemas)
    if arguments.stdin:
        while length := sys.stdin.buffer.read(4):
            print_record(sys.stdin.buffer.read(int.from_bytes(length, "big")), schemas)
        return
    topic = f"vfl.job.events.{arguments.party}.v1"
    connection = load_connection(arguments.bootstrap, arguments.properties)
    for message in read(connection, topic, follow=arguments.follow):
        print_record(message.value(), schemas, partition=message.partition(), offset=message.offset())


if __name__ == "__main__":
    main()
