"""`isthmus model`: what was trained, the own half of it, and which version serves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from consumers.party import open_party
from infra.settings import load_settings
from producers.commands.options import home_option, json_option, print_json
from producers.model_reader import find_model, half_mapping, load_half, model_mapping, read_models
from producers.serving_client import PERMILLE, forget_verdict, read_serving, roll_back, set_alias
from schemas.codec import encode
from schemas.serving import ServingAlias, ServingVersion


@click.group()
def model() -> None:
    """Look at models, export this party's half, and choose which version serves."""


@model.command("list")
@home_option
@json_option
def list_models(home: Path, as_json: bool) -> None:
    """All models of this party, the newest last."""
    models = read_models(load_settings(home))
    if as_json:
        print_json([model_mapping(entry) for entry in models.values()])
        return
    if not models:
        click.echo("no models yet")
    for key, entry in models.items():
        metrics = ", ".join(f"{measure.name} {measure.value:.4f}" for measure in entry.metrics[:3])
        click.echo(f"{key}  {entry.model_sha256.hex()[:16]}  {metrics}")


@model.command()
@click.argument("name")
@home_option
@json_option
def show(name: str, home: Path, as_json: bool) -> None:
    """The registry's entry: digests, metrics, fingerprints. NAME is name/version, a job id, or a name."""
    mapping = model_mapping(find_model(read_models(load_settings(home)), name))
    if as_json:
        print_json(mapping)
        return
    for key, value in mapping.items():
        if isinstance(value, dict):
            click.echo(f"{key}:")
            for inner, text in value.items():
                click.echo(f"  {inner}: {text}")
        else:
            click.echo(f"{key}: {value}")


@model.command()
@click.argument("name")
@click.option("--format", "form", type=click.Choice(["json", "avro"]), default="json", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file; else standard output.")
@home_option
def export(name: str, form: str, output: Path | None, home: Path) -> None:
    """This party's half of a model: JSON for people, or Avro (single-object encoding) as it is stored."""
    party = open_party(home)
    half = load_half(party, find_model(read_models(party.settings), name))
    content = encode(half) if form == "avro" else (json.dumps(half_mapping(half), indent=2) + "\n").encode()
    if output is None:
        click.get_binary_stream("stdout").write(content)
    else:
        output.write_bytes(content)
        click.echo(f"wrote {output} ({len(content):,} bytes)")


@model.command()
@home_option
@json_option
def serving(home: Path, as_json: bool) -> None:
    """What may be served, and what the aliases mean."""
    state = read_serving(load_settings(home))
    if as_json:
        versions = {key: _verdict_mapping(verdict) for key, verdict in state.versions.items()}
        print_json({"versions": versions, "aliases": {key: asdict(alias) for key, alias in state.aliases.items()}})
        return
    if not state.versions and not state.aliases:
        click.echo("no version was checked yet")
    for key, verdict in state.versions.items():
        words = "online equals offline" if verdict.passed else f"NOT SERVED, {verdict.differences} differ"
        click.echo(f"{key}  {words} on {verdict.rows} rows  {verdict.detail}".rstrip())
    for key, alias in state.aliases.items():
        click.echo(f"{key} -> {describe_alias(alias)}")


@model.command("alias")
@click.argument("name")
@click.argument("version")
@click.option("--canary", default="", metavar="VERSION", help="Another version that gets a share of the requests.")
@click.option("--canary-permille", type=click.IntRange(0, PERMILLE), default=0, help="Of 1,000 requests, so many.")
@click.option("--shadow", default="", metavar="VERSION", help="Scores everything as well, for the audit only.")
@home_option
def alias_command(name: str, version: str, canary: str, canary_permille: int, shadow: str, home: Path) -> None:
    """Let NAME (such as credit-risk@live) mean VERSION from now on."""
    settings = load_settings(home)
    changed = set_alias(
        settings, name, version, canary_version=canary, canary_permille=canary_permille, shadow_version=shadow
    )
    click.echo(f"{changed.model}@{changed.alias} -> {describe_alias(changed)}")


@model.command()
@click.argument("name")
@home_option
def rollback(name: str, home: Path) -> None:
    """Let NAME@ALIAS mean the version that it meant before."""
    changed = roll_back(load_settings(home), name)
    click.echo(f"{changed.model}@{changed.alias} -> {describe_alias(changed)}")


@model.command()
@click.argument("key", metavar="NAME/VERSION")
@home_option
def recheck(key: str, home: Path) -> None:
    """Have a version checked again (online against offline); it is not served until that is done."""
    forget_verdict(load_settings(home), key)
    click.echo(f"{key} will be checked again by the parity check of `isthmus score run`")


def describe_alias(alias: ServingAlias) -> str:
    """An alias's meaning in words."""
    words = alias.version
    if alias.canary_version:
        words += f", {alias.canary_permille / 10:g} % of requests to {alias.canary_version}"
    if alias.shadow_version:
        words += f", shadow {alias.shadow_version}"
    if alias.previous_version:
        words += f" (before: {alias.previous_version})"
    return words


def _verdict_mapping(verdict: ServingVersion) -> dict[str, Any]:
    return {**asdict(verdict), "model_sha256": verdict.model_sha256.hex()}
