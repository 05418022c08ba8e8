"""`isthmus model`: what was trained, and the own half of it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from consumers.party import open_party
from infra.settings import load_settings
from producers.commands.options import home_option, json_option, print_json
from producers.model_reader import find_model, half_mapping, load_half, model_mapping, read_models
from schemas.codec import encode


@click.group()
def model() -> None:
    """Look at models and export this party's half."""


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
