"""Start a job with nothing but confluent-kafka, fastavro and one published schema.

    isthmus topics credentials client --out client.properties
    python examples/submit_job.py --properties client.properties --job-id churn-1 spec.json

`spec.json` holds a `JobSpec`; what has a default in the schema may be left out:

    {"name": "churn", "guest": {"party": "acme", "dataset": "customers"}, "label": "left",
     "hosts": [{"party": "globex", "dataset": "payments"}], "train": {"max_passes": 8}}

The coordinator answers with `JobAccepted` or `JobRejected` on the party's events topic: see read_events.py. It imports
nothing from Isthmus.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import confluent_kafka
import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

MARKER = b"\xc3\x01"
SCHEMA = Path(__file__).parent.parent / "schemas" / "avro" / "SubmitJob" / "1.avsc"


def encode(value: dict[str, Any], schema: dict[str, Any]) -> bytes:
    """The value in Avro's single-object encoding. Raises `ValueError` naming a field that is missing or wrong."""
    crc = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
    body = io.BytesIO()
    # Fills in the defaults of fields that are left out, and refuses fields that there are not.
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), value, strict_allow_default=True)
    return MARKER + crc + body.getvalue()


def load_connection(bootstrap: str, properties: Path | None) -> dict[str, Any]:
    """How to reach the broker: by its address alone, or as a file of librdkafka's properties says."""
    if properties is None:
        return {"bootstrap.servers": bootstrap}
    lines = [line.partition("=") for line in properties.read_text(encoding="utf-8").splitlines() if "=" in line]
    return {name: value for name, _, value in lines}


def submit(connection: dict[str, Any], topic: str, job_id: str, data: bytes) -> None:
    """Write the command, keyed by the job's id, and wait until the broker has it."""
    problems: list[str] = []
    producer = confluent_kafka.Producer({**connection, "enable.idempotence": True})
    producer.produce(
        topic, data, job_id, on_delivery=lambda error, _: problems.append(error.str()) if error is not None else None
    )
    if producer.flush(30):
        problems.append("no answer from the broker in 30 s")
    if problems:
        raise SystemExit(f"{topic} at {connection['bootstrap.servers']}: {problems[0]}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="submit a job")
    parser.add_argument("--bootstrap", default="localhost:9092", help="address of a broker that lets anybody in")
    parser.add_argument(
        "--properties", type=Path, help="from `isthmus topics credentials client`, instead of --bootstrap"
    )
    parser.add_argument("--job-id", required=True, help="a new id: letters, digits, '-', '_' and '.'")
    parser.add_argument("spec", type=Path, help="JSON file with a JobSpec")
    arguments = parser.parse_args()
    spec = json.loads(arguments.spec.read_text(encoding="utf-8"))
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    data = encode({"job_id": arguments.job_id, "spec": spec}, schema)
    topic = f"vfl.job.commands.{spec['guest']['party']}.v1"
    submit(load_connection(arguments.bootstrap, arguments.properties), topic, arguments.job_id, data)
    sys.stdout.write(f"{arguments.job_id}: submitted to {topic}\n")


if __name__ == "__main__":
    main()
