"""The examples need nothing of Isthmus but the published schemas: run as a stranger would, on a real broker."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

import examples.read_events
import examples.submit_job
from infra.broker import EmbeddedBroker
from infra.topics import commands_topic, events_topic
from schemas.codec import decode, encode
from schemas.jobs import JobApproved, JobFailed, JobSpec, Leak, Mistake, PartySpec, Reason, SubmitJob, TrainSpec
from schemas.record import Record

FOLDER = Path(examples.read_events.__file__).parent
SPEC = {
    "name": "churn",
    "guest": {"party": "acme", "dataset": "customers"},
    "label": "left",
    "hosts": [{"party": "globex", "dataset": "payments"}],
    "train": {"max_passes": 8},
}
EVENTS: tuple[Record, ...] = (
    JobApproved("j", "acme", "globex", (Leak.SMALL_TABLE,)),
    JobFailed("j", "acme", Reason.DECLINED, "globex", "why", (Mistake("hosts", "no"),)),
)


def run(script: str, *arguments: str, stdin: bytes = b"") -> str:
    """What the example prints, run alone: not from this folder, and without this project on its path."""
    command = [sys.executable, "-I", str(FOLDER / script), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False, cwd="/")
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("script", ["read_events.py", "submit_job.py"])
def test_an_example_imports_nothing_of_ours(script: str) -> None:
    tree = ast.parse((FOLDER / script).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {"schemas", "streams", "infra", "producers", "consumers"}
    assert not {module.split(".")[0] for module in modules} & ours


def test_what_the_submitting_example_writes_is_a_submission_with_all_defaults() -> None:
    schema = json.loads(examples.submit_job.SCHEMA.read_text())
    spec = JobSpec(
        "churn",
        PartySpec("acme", "customers"),
        "left",
        (PartySpec("globex", "payments"),),
        train=TrainSpec(max_passes=8),
    )
    assert decode(examples.submit_job.encode({"job_id": "j", "spec": SPEC}, schema)) == SubmitJob("j", spec)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"label": None}, "label"), ({"trian": {}}, "trian"), ({"train": {"privacy": "none"}}, "none")],
)
def test_the_submitting_example_refuses_what_the_schema_does_not_have(changes: dict[str, Any], word: str) -> None:
    schema = json.loads(examples.submit_job.SCHEMA.read_text())
    with pytest.raises((ValueError, TypeError), match=word):
        examples.submit_job.encode({"job_id": "j", "spec": SPEC | changes}, schema)


def test_the_reading_example_reads_what_kcat_hands_over() -> None:
    """`%R` is the length of the record as four bytes, big endian."""
    framed = b"".join(len(data).to_bytes(4, "big") + data for data in map(encode, EVENTS))
    lines = [json.loads(line) for line in run("read_events.py", "--stdin", stdin=framed).splitlines()]
    assert [line["event"] for line in lines] == ["JobApproved", "JobFailed"]
    assert lines[1]["mistakes"] == [{"path": "hosts", "message": "no"}]


def test_the_reading_example_says_what_it_cannot_read() -> None:
    schemas = examples.read_events.load_schemas(examples.read_events.SCHEMAS)
    with pytest.raises(ValueError, match="not Avro single-object"):
        examples.read_events.decode(b"{}", schemas)
    with pytest.raises(ValueError, match="no schema with fingerprint 3131313131313131"):
        examples.read_events.decode(b"\xc3\x0111111111", schemas)


def test_a_job_is_submitted_and_events_are_read_on_a_real_broker(
    broker: EmbeddedBroker, new_party: Callable[[str], str], make_party_topics: Callable[..., object], tmp_path: Path
) -> None:
    party = new_party("guest")
    make_party_topics(party)
    spec_file = tmp_path / "spec.json"
    spec_file.write_text(json.dumps(SPEC | {"guest": {"party": party, "dataset": "customers"}}))
    run("submit_job.py", "--bootstrap", broker.bootstrap, "--job-id", "j", str(spec_file))
    (found,) = examples.read_events.read(
        {"bootstrap.servers": broker.bootstrap}, commands_topic("job", party), follow=False
    )
    submitted = decode(found.value() or b"")
    assert isinstance(submitted, SubmitJob)
    assert (submitted.job_id, found.key(), submitted.spec.guest.party) == ("j", b"j", party)

    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for event in EVENTS:
        producer.produce(events_topic(party), encode(event), b"j")
    assert producer.flush(30) == 0
    printed = run("read_events.py", "--bootstrap", broker.bootstrap, "--party", party)
    assert [json.loads(line)["event"] for line in printed.splitlines()] == ["JobApproved", "JobFailed"]
