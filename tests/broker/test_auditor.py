"""Two auditors as processes on a real broker, one of them killed where it commits; then what people see of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from infra.broker import EmbeddedBroker
from infra.topics import audit_results_topic, dead_letter_topic, events_topic, job_audit_topic
from producers.cli import main
from schemas.audit import CrossedEnvelope, EnvelopesCrossed
from schemas.audit_statements import AuditContradicted, AuditCountersigned, AuditStatement
from schemas.codec import decode, encode
from schemas.jobs import JobSucceeded
from schemas.record import Record
from streams.engine import failpoints
from streams.kernels.cross_signing import AuditWord
from tests.broker.score_books import DEADLINE_SECONDS, ROOT, await_true, make_homes
from tests.end_to_end.world import read_all
from tests.machines.audit_cases import Sealed, sealed

#: Where a transaction can be cut, and at the how manieth time: a job takes four or more.
POINTS = (
    f"{failpoints.AFTER_OFFSETS}:1",
    f"{failpoints.AFTER_COMMIT}:2",
    f"{failpoints.AFTER_PRODUCE}:3",
)
COUNT = 140


@dataclass
class House:
    """A party with its topics, and its auditor."""

    home: Path
    bootstrap: str
    log: Path

    @property
    def name(self) -> str:
        return self.home.name

    def start(self, failpoint: str = "") -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        if failpoint:
            self.marker.touch()
            environment |= {failpoints.POINT_VARIABLE: failpoint, failpoints.MARKER_VARIABLE: str(self.marker)}
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "consumers.auditor", "--home", str(self.home)]
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    @property
    def marker(self) -> Path:
        return self.home / "marker"

    def write(self, job_id: str, peer: str, records: list[Sealed], *, is_sender: bool) -> None:
        """What the party's stages and coordinator write in a job."""
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for start in range(0, len(records), 50):
            entries = (
                CrossedEnvelope(peer, "train", "train", is_sender, *record) for record in records[start : start + 50]
            )
            crossed = EnvelopesCrossed(job_id, self.name, "train", b"", tuple(entries))
            producer.produce(job_audit_topic(self.name), encode(crossed), job_id.encode())
        assert producer.flush(60) == 0
        producer.produce(events_topic(self.name), encode(JobSucceeded(job_id, self.name)), job_id.encode())
        assert producer.flush(60) == 0

    def records(self, topic: str) -> list[Record]:
        return [decode(message.value() or b"") for message in read_all(self.bootstrap, [(topic, 0)])]

    def results(self) -> list[AuditWord]:
        found = self.records(audit_results_topic(self.name))
        return [each for each in found if isinstance(each, AuditStatement | AuditCountersigned | AuditContradicted)]


@pytest.fixture
def houses(
    broker: EmbeddedBroker, new_party: Callable[[str], str], make_party_topics: Callable[..., object], tmp_path: Path
) -> tuple[House, House]:
    parties = (new_party("guest"), new_party("host"))
    for party in parties:
        make_party_topics(party, partitions=1)
    homes = make_homes(tmp_path, broker.bootstrap, parties, {}, topics={"partitions": 1})
    guest, host = (House(home, broker.bootstrap, tmp_path / f"{home.name}.log") for home in homes)
    return guest, host


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(DEADLINE_SECONDS) == 0


def test_an_auditor_killed_where_it_commits_loses_and_repeats_nothing(
    houses: tuple[House, House], tmp_path: Path
) -> None:
    guest, host = houses
    standing = host.start()
    jobs = []
    for number, point in enumerate(POINTS):
        jobs.append(f"job-{number}")
        guest.write(jobs[-1], host.name, sealed(COUNT), is_sender=True)
        host.write(jobs[-1], guest.name, sealed(COUNT), is_sender=False)
        killed = guest.start(point)
        assert killed.wait(DEADLINE_SECONDS) == -signal.SIGKILL, guest.log.read_text()
        assert not guest.marker.exists()
    # And a host that has written down something else.
    jobs.append("altered")
    guest.write("altered", host.name, sealed(COUNT), is_sender=True)
    host.write("altered", guest.name, [*sealed(7), (7, 0, b"\xef" * 32), *sealed(COUNT - 8, start=8)], is_sender=False)
    last = guest.start()

    def is_signed() -> bool:
        for house in houses:
            found = house.results()
            for party in (guest.name, host.name):
                if {record.job_id for record in found if _is_last(record, party)} != set(jobs):
                    return False
        return True

    try:
        await_true(is_signed, lambda: guest.log.read_text() + host.log.read_text())
    finally:
        end(last)
        end(standing)
    for house in houses:
        found = house.results()
        assert len({encode(record) for record in found}) == len(found), "nothing is there twice"
        assert house.records(dead_letter_topic(house.name)) == []
    _check_what_people_see(guest, host, tmp_path)


def _is_last(word: AuditWord, party: str) -> bool:
    """The party has counter-signed the end of a stream, or contradicted it."""
    is_end = isinstance(word, AuditContradicted) or (isinstance(word, AuditCountersigned) and word.count == COUNT)
    return is_end and word.party == party


def _check_what_people_see(guest: House, host: House, folder: Path) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, ["audit", *arguments])
        assert result.exit_code == code, result.output
        return result.output

    home, file = str(guest.home), folder / "crossed.json"
    (status,) = json.loads(run("status", "job-0", "--home", home, "--json"))
    assert (status["signed"], status["countersigned_by_peer"], status["countersigned_by_us"]) == (COUNT,) * 3
    assert f"140 of them counter-signed by {host.name}" in run("status", "job-0", "--home", home)
    told = run("status", "altered", "--home", home, code=1)
    assert f"CONTRADICTED by {host.name}: 7.0 is not what was sent: efefefefefefefef was taken" in told
    assert "has signed nothing of a job nonesuch yet" in run("status", "nonesuch", "--home", home, code=1)
    run("export", "job-0", "--home", str(host.home), "--out", str(file))
    manifest = next((guest.home / "federation").glob("manifest-1.json"))
    told = run("verify", str(file), "--manifest", str(manifest), "--home", str(folder / "nowhere"))
    lines = told.splitlines()
    assert len(lines) == 2 and all("counter-signed the first 140 records of train" in line for line in lines)
    assert run("verify", str(file), "--home", home) == told
