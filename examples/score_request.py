"""Ask for a score and wait for it, with nothing but confluent-kafka, fastavro and two published schemas.

    isthmus topics credentials application --out app.properties
    python examples/score_request.py --properties app.properties --party acme --model credit-risk@live C1001

Prints the outcome as JSON. The steps are those of any client in any language: note where the results end, send the
request, read on until a record with the request's id as its key comes. It imports nothing from Isthmus.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import confluent_kafka
import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

MARKER = b"\xc3\x01"
SCHEMAS = Path(__file__).parent.parent / "schemas" / "avro"
#: The version of the request that this program writes. Results may be of any version.
REQUEST_SCHEMA = SCHEMAS / "ScoreRequested" / "1.avsc"
#: After the deadline an outcome that says "expired" is on its way.
GRACE_SECONDS = 2.0


def crc_of(schema: dict[str, Any]) -> bytes:
    """The fingerprint by which single-object encoding names a schema."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def encode(value: dict[str, Any], schema: dict[str, Any]) -> bytes:
    """The value in Avro's single-object encoding; fields with defaults may be left out."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), value, strict_allow_default=True)
    return MARKER + crc_of(schema) + body.getvalue()


def load_result_schemas(folder: Path) -> dict[bytes, Any]:
    """Every published version of `ScoreJoined`, by fingerprint."""
    schemas = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "ScoreJoined").glob("*.avsc")]
    return {crc_of(schema): fastavro.parse_schema(schema) for schema in schemas}


def decode(data: bytes, schemas: dict[bytes, Any]) -> dict[str, Any]:
    """The result. Raises `ValueError` for anything else."""
    if data[:2] != MARKER or data[2:10] not in schemas:
        raise ValueError(f"not a ScoreJoined of a version in the folder: {data[:10].hex(' ')}")
    result = fastavro.schemaless_reader(io.BytesIO(data[10:]), schemas[data[2:10]], None)
    if not isinstance(result, dict):
        raise TypeError(f"a {type(result).__name__} is not a record")
    return result


def load_connection(bootstrap: str, properties: Path | None) -> dict[str, Any]:
    """How to reach the broker: by its address alone, or as a file of librdkafka's properties says."""
    if properties is None:
        return {"bootstrap.servers": bootstrap}
    lines = [line.partition("=") for line in properties.read_text(encoding="utf-8").splitlines() if "=" in line]
    return {name: value for name, _, value in lines}


def follow_results(connection: dict[str, Any], topic: str) -> confluent_kafka.Consumer:
    """A consumer that stands where the topic ends now, in each of its partitions."""
    consumer = confluent_kafka.Consumer(
        {
            **connection,
            # Asked for by the library; nothing is committed. A broker with rules knows groups by whose they are.
            "group.id": f"vfl.{connection.get('sasl.username', 'nobody')}.example",
            "enable.auto.commit": False,
            # The joiner writes in transactions. Without this a reader sees outcomes that were taken back.
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,
        }
    )
    known = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    if not known:
        raise SystemExit(f"there is no topic {topic} at {connection['bootstrap.servers']}")
    places = []
    for partition in known:
        # Asked now and given as a number: "the end" would be looked up later, perhaps after the result has come.
        place = confluent_kafka.TopicPartition(topic, partition)
        place.offset = ask_end(consumer, place)
        places.append(place)
    consumer.assign(places)
    return consumer


def ask_end(consumer: confluent_kafka.Consumer, place: confluent_kafka.TopicPartition) -> int:
    """Where the partition ends now. One that was just made, or whose broker has just started, has no leader yet."""
    until = time.monotonic() + 10
    while True:
        try:
            end: int = consumer.get_watermark_offsets(place, timeout=10)[1]
        except confluent_kafka.KafkaException:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return end


def send(connection: dict[str, Any], topic: str, request: dict[str, Any]) -> None:
    """Write the request, keyed by its id, and wait until the broker has it."""
    problems: list[str] = []
    # CRC-32 of the key chooses the partition. It is librdkafka's default for keys; a Java client has to be told.
    producer = confluent_kafka.Producer({**connection, "partitioner": "consistent", "linger.ms": 0})
    producer.produce(
        topic,
        encode(request, json.loads(REQUEST_SCHEMA.read_text(encoding="utf-8"))),
        request["request_id"],
        on_delivery=lambda error, _: problems.append(error.str()) if error is not None else None,
    )
    if producer.flush(10):
        problems.append("no answer from the broker in 10 s")
    if problems:
        raise SystemExit(f"{topic} at {connection['bootstrap.servers']}: {problems[0]}")


def await_result(consumer: confluent_kafka.Consumer, request_id: str, until: float) -> dict[str, Any]:
    """The outcome of the request; other people's results are passed over. `until` is of the monotonic clock."""
    schemas = load_result_schemas(SCHEMAS)
    while time.monotonic() < until:
        message = consumer.poll(0.1)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            raise SystemExit(f"{message.topic()}: {error.str()}")
        if message.key() == request_id.encode():
            return decode(message.value() or b"", schemas)
    raise SystemExit(f"no outcome of request {request_id} in time: sent again with this id it still has one outcome")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="ask for a score")
    parser.add_argument("--bootstrap", default="localhost:9092", help="address of a broker that lets anybody in")
    parser.add_argument(
        "--properties", type=Path, help="from `isthmus topics credentials application`, instead of --bootstrap"
    )
    parser.add_argument("--party", required=True, help="the guest")
    parser.add_argument("--model", required=True, help="NAME@ALIAS, NAME (which is NAME@live) or NAME/VERSION")
    parser.add_argument("--deadline-ms", type=int, default=1000, help="milliseconds from now")
    parser.add_argument("--request-id", default=None, help="else a new one")
    parser.add_argument("--feature", action="append", default=[], metavar="NAME=VALUE", help="a value to bring along")
    parser.add_argument("entity_id", help="the guest's id of the person")
    arguments = parser.parse_args()
    now_ms = int(time.time() * 1000)
    request = {
        # An application that tries again after a failure uses the same id again, and is scored once.
        "request_id": arguments.request_id or str(uuid.uuid4()),
        "model": arguments.model,
        "entity_id": arguments.entity_id,
        "requested_at_ms": now_ms,
        "deadline_ms": now_ms + arguments.deadline_ms,
        "features": [
            {"name": name, "value": float(value)}
            for name, _, value in (one.partition("=") for one in arguments.feature)
        ],
    }
    connection = load_connection(arguments.bootstrap, arguments.properties)
    consumer = follow_results(connection, f"vfl.score.results.{arguments.party}.v1")
    try:
        send(connection, f"vfl.score.requests.{arguments.party}.v1", request)
        until = time.monotonic() + arguments.deadline_ms / 1000 + GRACE_SECONDS
        result = await_result(consumer, request["request_id"], until)
    finally:
        consumer.close()
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
