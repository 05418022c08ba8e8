"""What crossed in a job: one party's list, its signed statement of it, and whether two parties' lists agree.

A stream is all that one stage of one party sent to one stage of another about the job. Its entries are in the order of
their sequences; a statement signs the Merkle root of each stream (`streams.kernels.merkle`) and carries the entries, so
that the other party can name the first one that differs, and an auditor can be shown a single one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError

from infra.manifest import canonical
from infra.party_secrets import PartySecrets
from infra.settings import PartySettings
from infra.strict_yaml import Strict
from infra.topics import job_audit_topic
from producers.job_client import JobError
from producers.topic_reader import TopicReader, connection_of
from schemas.audit import EnvelopesCrossed
from schemas.audit_statements import DifferenceKind
from streams.kernels.merkle import check_entry, prove_entry, tree_root
from streams.kernels.trails import Difference, Entry, StreamName, find_difference

_SIGNED = b"isthmus/audit/1\0"
Kind = TypeVar("Kind", bound=Strict)
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
#: An entry in a file: sequence, chunk, digest.
Written = tuple[Count, Count, Hash]
Entries = Annotated[tuple[Annotated[tuple[Written, ...], Field(strict=False)], ...], Field(strict=False)]


#: One party's list.
Trail = Mapping[StreamName, Sequence[Entry]]


class Stream(Strict):
    """What is signed of a stream."""

    sender: str
    receiver: str
    origin: str
    stage: str
    count: Count
    root: Hash

    @property
    def name(self) -> StreamName:
        """Which one it is."""
        return StreamName(self.sender, self.receiver, self.origin, self.stage)


class Signed(Strict):
    """What a party signs of a job."""

    format: Literal["isthmus-audit-1"] = "isthmus-audit-1"
    job_id: str
    party: str
    #: The manifest in force when it was signed; empty for a party without peers.
    manifest: str
    streams: Annotated[tuple[Stream, ...], Field(strict=False)]

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is of."""
        return _SIGNED + canonical(self.model_dump(mode="json"))

    def stream(self, name: StreamName) -> Stream | None:
        """What was signed of the stream."""
        return next((stream for stream in self.streams if stream.name == name), None)


class Statement(Strict):
    """The file that a party gives to another: what it signed, and the entries of each stream, in the same order."""

    signed: Signed
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    entries: Entries

    @property
    def trail(self) -> dict[StreamName, list[Entry]]:
        """As a list of the party's."""
        return {
            stream.name: [Entry(*entry) for entry in entries]
            for stream, entries in zip(self.signed.streams, self.entries, strict=True)
        }


class Proof(Strict):
    """That one sealed record is in what a party signed; without the others."""

    signed: Signed
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    stream: Count
    index: Count
    entry: Annotated[Written, Field(strict=False)]
    path: Annotated[tuple[Hash, ...], Field(strict=False)]


@dataclass(frozen=True)
class Finding:
    """How two lists of a stream compare. `detail` is empty where they agree."""

    stream: StreamName
    count: int
    detail: str = ""


class AuditError(Exception):
    """A statement or proof does not hold. The text says why."""


def read_trail(settings: PartySettings, job_id: str) -> dict[StreamName, list[Entry]]:
    """The party's own list. Raises `BrokerUnavailableError`, and `JobError` when nothing crossed."""
    reader = TopicReader(connection_of(settings), job_audit_topic(settings.party))
    try:
        records = [entry.record for entry in reader.read_to_end() if entry.key == job_id]
    finally:
        reader.close()
    trail = collect_trail(record for record in records if isinstance(record, EnvelopesCrossed))
    if not trail:
        raise JobError(f"nothing of a job {job_id} crossed between {settings.party} and its peers: is the id right?")
    return trail


def collect_trail(records: Iterable[EnvelopesCrossed]) -> dict[StreamName, list[Entry]]:
    """The list out of the records of the audit topic, streams and entries in order."""
    found: dict[StreamName, list[Entry]] = {}
    for record in records:
        for each in record.crossed:
            ends = (record.party, each.peer) if each.is_sent else (each.peer, record.party)
            name = StreamName(*ends, each.origin, each.stage)
            found.setdefault(name, []).append(Entry(each.sequence, each.chunk_index, each.digest.hex()))
    return {name: sorted(found[name]) for name in sorted(found)}


def make_statement(secrets: PartySecrets, job_id: str, trail: Trail) -> Statement:
    """The party's signed word on what crossed."""
    manifest = "" if secrets.federation is None else secrets.federation.manifest.digest.hex()
    streams = tuple(
        Stream(**name._asdict(), count=len(entries), root=_root(entries)) for name, entries in trail.items()
    )
    signed = Signed(job_id=job_id, party=secrets.party, manifest=manifest, streams=streams)
    entries = tuple(tuple(entry.written for entry in each) for each in trail.values())
    return Statement(signed=signed, signature=secrets.sign(signed.signed_bytes).hex(), entries=entries)


def read_statement(text: str, place: object, secrets: PartySecrets) -> Statement:
    """A peer's statement, checked: signed by it, and no entry added, lost or changed since. Raises `AuditError`."""
    statement = _parse(Statement, text, place)
    _check_signature(statement.signed, statement.signature, place, secrets)
    if len(statement.entries) != len(statement.signed.streams):
        raise AuditError(
            f"{place} has entries of {len(statement.entries)} streams and signs {len(statement.signed.streams)}"
        )
    for stream, entries in zip(statement.signed.streams, statement.trail.values(), strict=True):
        if (stream.count, stream.root) != (len(entries), _root(entries)):
            raise AuditError(
                f"{place}: the entries of {stream.name} are not those that {statement.signed.party} signed"
            )
    return statement


def compare_trails(own: str, mine: Trail, peer: str, theirs: Trail) -> list[Finding]:
    """One finding a stream between the two parties, in order."""
    names = sorted(name for name in {*mine, *theirs} if {name.sender, name.receiver} == {own, peer})
    findings = []
    for name in names:
        sent, taken = (mine, theirs) if name.sender == own else (theirs, mine)
        detail = _difference(name, sent.get(name, ()), taken.get(name, ()))
        findings.append(Finding(name, len(mine.get(name, ())), detail))
    return findings


def prove(statement: Statement, name: StreamName, place: str) -> Proof:
    """That the record at `place` (`sequence.chunk`) of the stream is in the statement. Raises `AuditError`."""
    trail = statement.trail
    if name not in trail:
        raise AuditError(f"{statement.signed.party} knows of nothing from {name}")
    places = [entry.place for entry in trail[name]]
    if place not in places:
        raise AuditError(f"there is no record {place} from {name}; there are {places[0]} to {places[-1]}")
    index = places.index(place)
    path = prove_entry([entry.leaf for entry in trail[name]], index)
    return Proof(
        signed=statement.signed,
        signature=statement.signature,
        stream=list(trail).index(name),
        index=index,
        entry=trail[name][index].written,
        path=tuple(each.hex() for each in path),
    )


def check_proof(text: str, place: object, secrets: PartySecrets) -> tuple[Stream, Entry, str]:
    """Stream, record and signer of a proof that holds. Raises `AuditError`."""
    proof = _parse(Proof, text, place)
    _check_signature(proof.signed, proof.signature, place, secrets)
    if proof.stream >= len(proof.signed.streams):
        raise AuditError(f"{place} is about a stream that was not signed")
    stream, entry = proof.signed.streams[proof.stream], Entry(*proof.entry)
    path = [bytes.fromhex(each) for each in proof.path]
    if not check_entry(entry.leaf, proof.index, stream.count, path, bytes.fromhex(stream.root)):
        raise AuditError(f"{place}: the record is not among those that {proof.signed.party} signed")
    return stream, entry, proof.signed.party


def _difference(name: StreamName, sent: Sequence[Entry], taken: Sequence[Entry]) -> str:
    found = find_difference(sent, taken)
    return "" if found is None else describe_difference(name, found, len(sent) - len(taken))


def describe_difference(name: StreamName, found: Difference, missing: int) -> str:
    """What it says, for people. `missing` is how many records the receiver's list is shorter."""
    place = found.first.place
    match found.kind:
        case DifferenceKind.NOT_TAKEN:
            return f"{missing} records from {place} on were sent and not taken (yet)"
        case DifferenceKind.NOT_SENT:
            return f"{place} and what follows was taken, and {name.sender} did not send it"
        case DifferenceKind.SKIPPED:
            return f"{place} was sent and not taken"
        case DifferenceKind.INSERTED:
            return f"{place} was taken and not sent"
    sent, taken = (entry.digest[:16] if entry is not None else "something else" for entry in found[1:])
    return f"{place} is not what was sent: {taken} was taken, {sent} was sent"


def _check_signature(signed: Signed, signature: str, place: object, secrets: PartySecrets) -> None:
    data = bytes.fromhex(signature)
    is_own = signed.party == secrets.party and secrets.sign(signed.signed_bytes) == data
    if not is_own and not secrets.has_signed(signed.party, signed.signed_bytes, data):
        raise AuditError(f"{place} is not signed by {signed.party!r} with a key that the manifest names")


def _root(entries: Sequence[Entry]) -> str:
    return tree_root([entry.leaf for entry in entries]).hex()


def _parse(kind: type[Kind], text: str, place: object) -> Kind:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AuditError(f"{place} is no {kind.__name__.lower()}: {where}: {first['msg']}") from error
