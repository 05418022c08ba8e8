"""A file with what two parties signed of a job, and its check: nothing is needed but the file and the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, ValidationError

from infra.manifest import Manifest, ManifestError, parse_manifest
from infra.strict_yaml import Strict
from producers.audit_crossings import describe_contradiction
from producers.audit_trail import AuditError
from schemas.audit_statements import AuditContradicted, AuditCountersigned, AuditStatement
from schemas.codec import DecodeError, decode, encode
from schemas.footprint import check_footprint
from streams.kernels.cross_signing import AuditWord, signed_bytes, statement_digest, stream_name
from streams.kernels.merkle import tree_root
from streams.kernels.trails import split_entries

FORMAT = "isthmus-audit-cross-1"
#: Some 12 kB each.
MOST_WORDS = 2_000


class CrossSigned(Strict):
    """The file. A word is a record of `schemas.audit_statements`, Avro in hexadecimal digits."""

    format: Literal["isthmus-audit-cross-1"] = "isthmus-audit-cross-1"
    job_id: str
    words: Annotated[
        tuple[Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")], ...], Field(strict=False, max_length=MOST_WORDS)
    ]


def write_words(job_id: str, words: Iterable[AuditWord]) -> str:
    """The content of a file."""
    file = CrossSigned(job_id=job_id, words=tuple(encode(word).hex() for word in words))
    return json.dumps(file.model_dump(mode="json"), indent=1) + "\n"


def is_cross_signed(text: str) -> bool:
    """Whether it is meant to be such a file."""
    try:
        document = json.loads(text)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def read_manifest(text: str, place: object) -> Manifest:
    """A manifest that all its members signed. Raises `ManifestError`."""
    signed = parse_manifest(text, place)
    signed.check_signatures(None, place)
    if signed.unsigned:
        raise ManifestError(f"{place} is not signed by {', '.join(signed.unsigned)} yet")
    return signed.manifest


def check_words(text: str, place: object, manifests: Sequence[Manifest]) -> list[str]:
    """One line for each thing that both parties signed, or one contradicts; every signature holds.

    Raises `AuditError`. `manifests` are those that words may be signed under.
    """
    statements, answers = _read_words(text, place, manifests)
    return [_describe(word, statements.get(word.statement), place) for word in answers]


def read_countersigned(text: str, place: object, manifests: Sequence[Manifest]) -> tuple[AuditStatement, ...]:
    """The statements of one party that its peer counter-signed; every signature in the file holds. As `check_words`."""
    statements, answers = _read_words(text, place, manifests)
    for word in answers:
        _describe(word, statements.get(word.statement), place)
    return tuple(statements[word.statement] for word in answers if isinstance(word, AuditCountersigned))


def _read_words(
    text: str, place: object, manifests: Sequence[Manifest]
) -> tuple[dict[bytes, AuditStatement], list[AuditCountersigned | AuditContradicted]]:
    """The statements by their digests, and what was answered."""
    try:
        file = CrossSigned.model_validate_json(text)
        words = [_decode(word) for word in file.words]
    except (ValidationError, DecodeError) as error:
        raise AuditError(f"{place} is no cross-signed statement: {str(error).splitlines()[0]}") from error
    known = {manifest.digest: manifest for manifest in manifests}
    statements: dict[bytes, AuditStatement] = {}
    for word in words:
        _check_signature(word, file.job_id, place, known)
        if isinstance(word, AuditStatement):
            _check_entries(word, place)
            statements[statement_digest(word)] = word
    return statements, [word for word in words if not isinstance(word, AuditStatement)]


def _describe(word: AuditCountersigned | AuditContradicted, statement: AuditStatement | None, place: object) -> str:
    name, job = stream_name(word), word.job_id
    if statement is None or stream_name(statement) != name or statement.count != word.count:
        if isinstance(word, AuditContradicted):
            what = f"{word.party} contradicts a statement that is not here about {name} in {job}"
            return f"{what}: {describe_contradiction(word)}"
        raise AuditError(f"{place}: {word.party} counter-signed a statement about {name} that is not in the file")
    if {statement.party, word.party} != {name.sender, name.receiver}:
        raise AuditError(f"{place}: {word.party} answers {statement.party} about {name}: these are not its two ends")
    if isinstance(word, AuditContradicted):
        what = f"{word.party} contradicts {statement.party} about {word.count} records of {name} in {job}"
        return f"{what}: {describe_contradiction(word)}"
    if word.root != statement.root:
        raise AuditError(f"{place}: {word.party} counter-signed another root of {name} than {statement.party} signed")
    spec = f", spec {statement.spec.hex()[:16]}" if statement.spec else ""
    return (
        f"{statement.party} signed and {word.party} counter-signed the first {word.count} records of {name} in {job}: "
        f"root {word.root.hex()[:16]}, manifest {word.manifest.hex()[:16]}{spec}"
    )


def _check_signature(word: AuditWord, job_id: str, place: object, known: dict[bytes, Manifest]) -> None:
    if word.job_id != job_id:
        raise AuditError(f"{place} is about job {job_id}, and a word in it about another one")
    if word.manifest not in known:
        raise AuditError(
            f"{place}: {word.party!r} signed under the manifest {word.manifest.hex()[:16]}, which is not here: give "
            "its file with --manifest"
        )
    member = known[word.manifest].member(word.party)
    if member is None:
        raise AuditError(f"{place}: {word.party!r} is not a member by the manifest {word.manifest.hex()[:16]}")
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(member.signing_key))
        key.verify(word.signature, signed_bytes(word))
    except InvalidSignature:
        raise AuditError(f"{place}: the signature of {word.party!r} about {stream_name(word)} is not its own") from None


def _check_entries(word: AuditStatement, place: object) -> None:
    """Where a statement tells all its entries, its root is theirs."""
    if word.start == 0 and word.entries:
        leaves = [entry.leaf for entry in split_entries(word.entries)]
        if tree_root(leaves) != word.root:
            raise AuditError(f"{place}: {word.party!r} signed a root that is not that of the records it tells")


def _decode(word: str) -> AuditWord:
    data = bytes.fromhex(word)
    check_footprint(data)
    record = decode(data)
    if not isinstance(record, AuditStatement | AuditCountersigned | AuditContradicted):
        raise DecodeError(f"a {type(record).__name__} is no word of an auditor")
    return record
