"""What router and host need of one version, made once and used for many requests."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.jobs import ServeSpec
from schemas.models import ModelHalf, ModelRegistered
from schemas.serving import ServingVersion
from streams.machines.score.halves import PreparedHalf, RowReader, prepare_half


@dataclass(frozen=True, slots=True, eq=False)
class GuestModel:
    """What the router needs of one version. Equal to itself only."""

    name: str
    version: str
    rows: RowReader
    #: First the joint model's weights, then, if degraded scores are allowed, the guest's own model's.
    half: PreparedHalf
    #: In the order of their names.
    hosts: tuple[str, ...]
    id_type: str
    serve: ServeSpec


def make_guest_model(registered: ModelRegistered, half: ModelHalf, checked: ServingVersion | None) -> GuestModel:
    """Raises `ValueError` when the parts do not fit."""
    spec = registered.spec
    alone = None
    if spec.serve.allow_degraded and checked is not None:
        alone = (checked.alone_weights, checked.alone_intercept)
    return GuestModel(
        name=registered.name,
        version=registered.version,
        rows=RowReader(half.columns),
        half=prepare_half(half, alone),
        hosts=tuple(sorted(host.party for host in spec.hosts)),
        id_type=spec.align.id_type,
        serve=spec.serve,
    )


@dataclass(frozen=True, slots=True, eq=False)
class HostModel:
    """What the score host needs of one version. Equal to itself only."""

    name: str
    version: str
    rows: RowReader
    half: PreparedHalf
    id_type: str


def make_host_model(registered: ModelRegistered, half: ModelHalf) -> HostModel:
    """Raises `ValueError` when the parts do not fit."""
    return HostModel(
        name=registered.name,
        version=registered.version,
        rows=RowReader(half.columns),
        half=prepare_half(half),
        id_type=registered.spec.align.id_type,
    )
