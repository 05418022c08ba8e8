"""`isthmus audit`: what crossed between two parties in a job, and whether both say the same."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from consumers.party import open_party
from infra.federation import read_installed
from infra.party_secrets import PartySecrets, load_secrets
from infra.settings import PartySettings, load_settings
from producers.audit_crossings import choose_words, fold_words, read_words
from producers.audit_files import check_words, is_cross_signed, read_countersigned, read_manifest, write_words
from producers.audit_replay import describe_verdict, replay_file, verdict_lines
from producers.audit_reveal import write_revelation
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
from producers.commands.options import home_option, json_option, open_client, print_json
from schemas.audit_statements import AuditStatement
from streams.kernels.trails import StreamName

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
OUT = click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")


@click.group()
def audit() -> None:
    """What crossed between the parties of a job, by digest: show, sign, compare, prove, execute again."""


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


@audit.command()
@click.argument("job_id")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file, for the auditor alone."
)
@home_option
def reveal(job_id: str, out: Path, home: Path) -> None:
    """Write this party's part in a job to a file that an auditor can execute again: with secrets of this job alone."""
    party = open_party(home)
    _, client = open_client(home)
    with client:
        spec = client.job(job_id).spec
    if spec is None:
        raise CommandError(f"{job_id} was rejected before its spec was recorded: there is nothing to reveal")
    with _show_steps("revealed") as advance:
        steps = write_revelation(party, job_id, spec, out, advance)
    click.echo(
        f"wrote {steps} steps to {out}: whoever has it reads all that {party.name} sent and received in this job. "
        f"The auditor needs the table as well: isthmus audit replay {out.name} --table FILE"
    )


@audit.command()
@click.argument("file", type=FILE)
@click.option("--table", type=FILE, required=True, help="The party's table, as it was when the job ran (CSV).")
@click.option("--signed", type=FILE, help="What both parties signed of the job: a file of `isthmus audit export`.")
@click.option("--manifest", "manifests", type=FILE, multiple=True, help="The manifests that --signed is under.")
@json_option
def replay(file: Path, table: Path, signed: Path | None, manifests: tuple[Path, ...], as_json: bool) -> None:
    """Execute a party's part in a job again from what it revealed. Exit code 1: it sent something else.

    Needs no broker, no home and no keys.
    """
    statements: tuple[AuditStatement, ...] = ()
    if signed is not None:
        given = [read_manifest(path.read_text(encoding="utf-8"), path) for path in manifests]
        statements = read_countersigned(signed.read_text(encoding="utf-8"), signed, given)
    with _show_steps("executed") as advance:
        verdict = replay_file(file, table, statements, lambda done: advance(done, None))
    if as_json:
        print_json(describe_verdict(verdict))
    else:
        click.echo("\n".join(verdict_lines(verdict)))
    sys.exit(REFUSED if verdict.difference is not None else 0)


@contextlib.contextmanager
def _show_steps(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn(f"steps {what}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("steps", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


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
