"""Executes a party's part in a job again, from the file that it revealed and its table: for auditors, without a broker.

What comes out is compared with what the party wrote down when it sent it; and that with what its peers counter-signed,
where a file of `isthmus audit export` is given.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumers.code import fingerprint_code
from consumers.party import make_prepare
from consumers.tables import load_table
from consumers.wiring import stage_topics
from infra.object_store import DirectoryStore
from infra.settings import DatasetSettings, PartySettings
from producers.audit_trail import AuditError, collect_trail
from producers.record_file import read_records
from schemas.audit import EnvelopesCrossed
from schemas.audit_statements import AuditStatement
from schemas.jobs import Stage
from schemas.record import Record
from schemas.revelations import RevealedJob, RevealedStep, RevealedStream
from streams.engine.replay import Actor, Difference, Replay
from streams.kernels.cross_signing import stream_name
from streams.kernels.entropy import COHORT_LEDGER, COHORT_ROWS, JOINT_ORDER, RevealedSecret
from streams.kernels.merkle import tree_root
from streams.machine import Machine
from streams.machines.align import AlignMachine
from streams.machines.evaluate import EvaluateMachine
from streams.machines.job import JobMachine, Policy
from streams.machines.register import RegisterMachine
from streams.machines.train import TrainMachine


@dataclass(frozen=True)
class Verdict:
    """What came of it: envelopes to each peer that are equal, and the first difference if there is one."""

    job: RevealedJob
    steps: int
    equal: Mapping[str, int]
    difference: Difference | None
    #: Why the difference may be no fault of the party; empty if nothing speaks for it.
    caution: str = ""
    #: What the signed statements say: a line for each stream.
    signed: tuple[str, ...] = ()


def describe_verdict(verdict: Verdict) -> dict[str, Any]:
    """For programs."""
    return {
        "job_id": verdict.job.job_id,
        "party": verdict.job.party,
        "steps": verdict.steps,
        "equal": dict(verdict.equal),
        "difference": None if verdict.difference is None else verdict.difference._asdict(),
        "caution": verdict.caution,
        "signed": list(verdict.signed),
    }


def verdict_lines(verdict: Verdict) -> list[str]:
    """For people."""
    party, job_id = verdict.job.party, verdict.job.job_id
    equal = ", ".join(f"{count} to {peer}" for peer, count in sorted(verdict.equal.items())) or "none"
    lines = [f"executed {verdict.steps} steps of {party} in {job_id}: records that are equal to the byte: {equal}"]
    if verdict.difference is None:
        return [
            *lines,
            *verdict.signed,
            f"{party} sent what the protocol makes of its seed, its table and what it took",
        ]
    step, stage, detail = verdict.difference
    lines.append(f"DIFFERS in step {step} (stage {stage}): {detail}")
    if stage == Stage.JOB:
        lines.append(
            "(a table that is not the one of this job differs there as well: is --table this party's, as it was?)"
        )
    return [*lines, f"but: {verdict.caution}"] if verdict.caution else lines


def replay_file(
    path: Path, table: Path, statements: tuple[AuditStatement, ...], advance: Callable[[int], None]
) -> Verdict:
    """Execute all steps again. Raises `AuditError`: the file, the table or a signed root do not fit the job."""
    records = read_records(path)
    job = next(records, None)
    if not isinstance(job, RevealedJob):
        raise AuditError(f"{path} was not written by `isthmus audit reveal`")
    books: list[EnvelopesCrossed] = []
    with tempfile.TemporaryDirectory(prefix="isthmus-replay-") as folder:
        replay = Replay(_make_actor(job, table, Path(folder)))
        difference = _run(replay, _note_books(records, books), advance)
    caution = ""
    if difference is not None and job.code_fingerprint != fingerprint_code():
        caution = f"{job.party} revealed the job with another release of the program than this one: use the same"
    # After a difference the rest was not read, so that there is nothing to compare roots with.
    signed = () if difference is not None else _check_statements(job, books, statements)
    return Verdict(job, replay.steps, dict(replay.equal), difference, caution, signed)


def _run(replay: Replay, records: Iterator[Record], advance: Callable[[int], None]) -> Difference | None:
    for record in records:
        match record:
            case RevealedStream():
                replay.learn(record)
            case RevealedStep():
                if (difference := replay.take(record)) is not None:
                    return difference
                advance(replay.steps)
            case _:
                raise AuditError(f"a {type(record).__name__} is not part of what a party reveals")
    return None


def _note_books(records: Iterator[Record], books: list[EnvelopesCrossed]) -> Iterator[Record]:
    for record in records:
        if isinstance(record, RevealedStep):
            books.append(record.step)
        yield record


def _make_actor(job: RevealedJob, table: Path, folder: Path) -> Actor:
    dataset = DatasetSettings(path=str(table.absolute()), id=job.id_column, label=job.label_column or None)
    settings = PartySettings(party=job.party, bootstrap_servers="nowhere:1", datasets={job.dataset: dataset})
    load = functools.lru_cache(maxsize=1)(functools.partial(load_table, settings, job.fingerprint_key))
    return Actor(
        party=job.party,
        job_id=job.job_id,
        machines=_make_machines(job),
        topics=lambda stage: stage_topics(job.party, stage),
        blobs=DirectoryStore(folder),
        peers=frozenset(job.peers),
        # Read once: what a step does not need does it no harm.
        prepare=make_prepare(lambda spec, _: load(spec)),
        manifests=job.manifests,
    )


def _make_machines(job: RevealedJob) -> dict[str, Machine]:
    """As the party's processes make them, but for the master secret."""
    keys = {JOINT_ORDER: job.order_key, COHORT_ROWS: job.rows_key, COHORT_LEDGER: job.ledger_key}
    secret = RevealedSecret(job.job_id, job.seed, keys)
    coordinator = JobMachine(
        job.party,
        Policy(auto_approve=job.auto_approve, accept_leaks=job.accept_leaks),
        peers=frozenset(job.peers),
        privacy=frozenset(job.privacy),
        least_key_bits=job.least_key_bits,
        key_profile=job.key_profile,
    )
    return {
        Stage.JOB: coordinator,
        Stage.ALIGN: AlignMachine(job.party, secret),
        Stage.TRAIN: TrainMachine(job.party, secret, least_key_bits=job.least_key_bits),
        Stage.EVALUATE: EvaluateMachine(job.party),
        Stage.REGISTER: RegisterMachine(job.party, job.code_fingerprint),
    }


def _check_statements(
    job: RevealedJob, books: list[EnvelopesCrossed], statements: tuple[AuditStatement, ...]
) -> tuple[str, ...]:
    """Roots of the revealed books are those that were signed. Raises `AuditError`."""
    trail = collect_trail(books)
    lines = []
    for statement in statements:
        name = stream_name(statement)
        if statement.job_id != job.job_id or job.party not in (name.sender, name.receiver):
            continue
        entries = trail.get(name, [])[: statement.count]
        if len(entries) < statement.count or tree_root([entry.leaf for entry in entries]) != statement.root:
            raise AuditError(
                f"{job.party} revealed other records of {name} than the {statement.count} that were counter-signed: "
                "the file is not what happened"
            )
        lines.append(f"{name}: the first {statement.count} records are those that both parties signed")
    return tuple(lines)
