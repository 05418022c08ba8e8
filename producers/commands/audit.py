"""`isthmus audit`: what crossed between two parties in a job, and whether both say the same."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from infra.federation import read_installed
from infra.party_secrets import PartySecrets, load_secrets
from infra.settings import PartySettings, load_settings
from producers.audit_crossings import choose_words, fold_words, read_words
from producers.audit_files import check_words, is_cross_signed, read_manifest, write_words
from producers.audit_trail import (
    Statement,
    check_proof,
    compare_trails,
    make_statement,
    read_statement,
    read_trail,
)
from producers.audit_trail import prove as prove_record
from producers.commands.errors import REFUSED, CommandError
from producers.commands.options import home_option, json_option, print_json
from streams.kernels.trails import StreamName

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
OUT = click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")


@click.group()
def audit() -> None:
    """What crossed between the parties of a job, by digest: show, sign, compare, prove."""


@audit.command()
@click.argument("job_id")
@json_option
@home_option
def show(job_id: str, as_json: bool, home: Path) -> None:
    """Every stream of the job between this party and its peers, with the root of its records."""
    _, _, statement = _state(home, job_id)
    if as_json:
        print_json(statement.signed.model_dump(mode="json"))
        return
    for stream in statement.signed.streams:
        click.echo(f"{stream.count:>6} records  {stream.root[:16]}  {stream.name}")
    click.echo(f"what both ends have signed: isthmus audit status {job_id}")


@audit.command()
@click.argument("job_id")
@json_option
@home_option
def status(job_id: str, as_json: bool, home: Path) -> None:
    """How far each stream is signed by both parties, by their auditors. Exit code 1: a contradiction."""
    settings = load_settings(home)
    found = fold_words(settings.party, read_words(settings, job_id))
    if as_json:
        print_json([{**asdict(each), "stream": str(each.stream)} for each in found])
    for each in () if as_json else found:
        click.echo(
            f"{each.signed:>6} records signed, {each.countersigned_by_peer} of them counter-signed by {each.peer}, "
            f"{each.countersigned_by_us} of {each.peer}'s by {settings.party}  ({each.stream})"
        )
        for contradiction in each.contradictions:
            click.echo(f"       CONTRADICTED by {contradiction}")
    sys.exit(REFUSED if any(each.contradictions for each in found) else 0)


@audit.command()
@click.argument("job_id")
@OUT
@home_option
def export(job_id: str, out: Path | None, home: Path) -> None:
    """What both parties have signed of a job, for whoever has the manifest: check it with `isthmus audit verify`."""
    words = choose_words(read_words(load_settings(home), job_id))
    if not words:
        raise CommandError(f"nothing of job {job_id} is counter-signed yet: isthmus audit status {job_id}")
    _write(write_words(job_id, words), out)


@audit.command()
@click.argument("job_id")
@OUT
@home_option
def statement(job_id: str, out: Path | None, home: Path) -> None:
    """This party's signed word on what crossed, for its peers and for auditors."""
    _, _, said = _state(home, job_id)
    _write(said.model_dump_json() + "\n", out)


@audit.command()
@click.argument("job_id")
@click.argument("file", type=FILE)
@json_option
@home_option
def reconcile(job_id: str, file: Path, as_json: bool, home: Path) -> None:
    """Compare with a peer's statement; names the first record that differs. Exit code 1: they differ."""
    settings, secrets, mine = _state(home, job_id)
    theirs = read_statement(file.read_text(encoding="utf-8"), file, secrets)
    peer = theirs.signed.party
    if theirs.signed.job_id != job_id or peer == settings.party:
        raise CommandError(f"{file} is {peer}'s statement of job {theirs.signed.job_id}")
    findings = compare_trails(settings.party, mine.trail, peer, theirs.trail)
    if as_json:
        print_json([{"stream": str(each.stream), "count": each.count, "detail": each.detail} for each in findings])
    else:
        for each in findings:
            click.echo(f"{each.count:>6} records  {each.detail or 'agreed'}  ({each.stream})")
    sys.exit(REFUSED if any(each.detail for each in findings) or not findings else 0)


@audit.command()
@click.argument("job_id")
@click.argument("record")
@click.option("--sender", required=True, help="Party that sent the record.")
@click.option("--receiver", required=True, help="Party that it was for.")
@click.option("--stage", required=True, help="Stage that sent it; and took it, unless --to-stage says otherwise.")
@click.option("--to-stage", help="Stage that took it.")
@OUT
@home_option
def prove(
    job_id: str, record: str, sender: str, receiver: str, stage: str, to_stage: str | None, out: Path | None, home: Path
) -> None:
    """A short proof that RECORD (`sequence.chunk`, such as 7.0) is in what this party signed."""
    _, _, said = _state(home, job_id)
    proof = prove_record(said, StreamName(sender, receiver, stage, to_stage or stage), record)
    _write(proof.model_dump_json() + "\n", out)


@audit.command()
@click.argument("file", type=FILE)
@click.option(
    "--manifest", "manifests", type=FILE, multiple=True, help="For a cross-signed statement: without a home, by this."
)
@home_option
def verify(file: Path, manifests: tuple[Path, ...], home: Path) -> None:
    """Check a proof of this party or of a peer, or what `isthmus audit export` wrote: that without a broker or keys."""
    text = file.read_text(encoding="utf-8")
    if is_cross_signed(text):
        given = [read_manifest(path.read_text(encoding="utf-8"), path) for path in manifests]
        for line in check_words(text, file, given or read_installed(home)):
            click.echo(line)
        return
    secrets = load_secrets(load_settings(home))
    stream, entry, party = check_proof(text, file, secrets)
    click.echo(f"{party} signed that record {entry.place} from {stream.name} has the digest {entry.digest}")


def _state(home: Path, job_id: str) -> tuple[PartySettings, PartySecrets, Statement]:
    settings = load_settings(home)
    secrets = load_secrets(settings)
    return settings, secrets, make_statement(secrets, job_id, read_trail(settings, job_id))


def _write(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        click.echo(f"wrote {out}")
