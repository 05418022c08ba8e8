"""A guest, a host and their models, for what router and score host decide."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from schemas.codec import encode
from schemas.jobs import AlignSpec, JobSpec, PartySpec, Role, ScoreBand, ServeSpec
from schemas.models import HalfReference, ModelHalf, ModelRegistered
from schemas.record import Blob
from schemas.scoring import RequestFeature, ScoreRequested
from schemas.serving import ServingAlias, ServingVersion
from streams.features import PersonFeatures
from streams.kernels.fixed_point import WEIGHT_BITS
from streams.kernels.standardisation import fit_standardisation
from streams.machines.score.models import GuestModel, HostModel, make_guest_model, make_host_model
from streams.machines.score.resolution import Refusal, ServingBook, check_version, resolve
from streams.machines.score.router import Arrived, Names

GUEST, HOST = "bank", "shop"
NAME = "credit-risk"
NOW_US = 1_900_000_000_000_000
NOW_MS = NOW_US // 1000
BANDS = (ScoreBand("low", 0, "decline"), ScoreBand("high", 600, "accept"))
KEYS = {HOST: b"k" * 32, "post": b"p" * 32}
NAMES = Names(GUEST, b"n" * 32, KEYS)


def make_half(party: str, role: Role, columns: int, seed: int, version: str) -> ModelHalf:
    draw = np.random.default_rng(seed)
    table = draw.normal(size=(50, columns)) * draw.uniform(0.01, 100, size=columns)
    if columns > 2:
        table[:, 2] = 7.0
    fitted = fit_standardisation(table)
    weights = tuple(int(weight) for weight in np.rint(draw.normal(size=columns) * 2**WEIGHT_BITS))
    return ModelHalf(
        party=party,
        role=role,
        model=NAME,
        columns=tuple(f"{party}_{place}" for place in range(columns)),
        means=fitted.means,
        scales=fitted.scales,
        constant=fitted.constant,
        feature_clip=8.0,
        weights=weights,
        intercept=int(draw.normal() * 2**WEIGHT_BITS) if role is Role.GUEST else None,
        logit_clip=8.0 if role is Role.GUEST else 4.0,
        spec_digest=b"s" * 32,
        data_fingerprint=hashlib.sha256(version.encode()).digest(),
    )


class Version:
    """One version with everything that belongs to it."""

    def __init__(
        self,
        version: str,
        *,
        guest: str = GUEST,
        seed: int = 1,
        columns: int = 4,
        serve: ServeSpec | None = None,
        id_type: str = "string",
        hosts: tuple[str, ...] = (HOST,),
        passed: bool | None = True,
    ) -> None:
        self.version = version
        self.guest_half = make_half(guest, Role.GUEST, columns, seed, version)
        self.host_half = make_half(hosts[0], Role.HOST, columns, seed + 1000, version)
        spec = JobSpec(
            name=NAME,
            guest=PartySpec(guest, "people"),
            label="bad",
            hosts=tuple(PartySpec(host, "people") for host in hosts),
            align=AlignSpec(id_type),
            serve=serve or ServeSpec(bands=BANDS),
        )
        halves = {guest: self.guest_half, **dict.fromkeys(hosts, self.host_half)}
        self.blobs = {party: Blob.of(encode(half)) for party, half in halves.items()}
        self.registered = ModelRegistered(
            name=NAME,
            version=version,
            job_id=version,
            model_sha256=hashlib.sha256(version.encode()).digest(),
            halves=tuple(
                HalfReference(party, half.role, self.blobs[party].sha256, b"f" * 8, b"d" * 32, "code")
                for party, half in sorted(halves.items())
            ),
            metrics=(),
            rows_train=50,
            rows_holdout=20,
            spec=spec,
            spec_digest=b"s" * 32,
        )
        draw = np.random.default_rng(seed + 2000)
        self.alone = tuple(int(weight) for weight in np.rint(draw.normal(size=columns) * 2**WEIGHT_BITS))
        self.checked: ServingVersion | None = None
        if passed is not None:
            self.checked = ServingVersion(
                model=NAME,
                version=version,
                model_sha256=self.registered.model_sha256,
                passed=passed,
                rows=20,
                differences=0 if passed else 3,
                detail="",
                alone_weights=self.alone,
                alone_intercept=int(draw.normal() * 2**WEIGHT_BITS),
                reference_edges=(),
                reference_shares=(1.0,),
                checked_at_ms=NOW_MS,
            )
        self.guest_model = make_guest_model(self.registered, self.guest_half, self.checked)
        self.host_model = make_host_model(self.registered, self.host_half)

    @property
    def key(self) -> str:
        return f"{NAME}/{self.version}"


class Shelf:
    """What router and host find when they look for versions."""

    def __init__(self, *versions: Version) -> None:
        self.versions = {version.version: version for version in versions}
        self.book = ServingBook(
            models={version.key: version.registered for version in versions},
            versions={version.key: version.checked for version in versions if version.checked is not None},
        )

    def point(self, alias: str, version: str, canary: str = "", permille: int = 0, shadow: str = "") -> None:
        record = ServingAlias(NAME, alias, version, canary, permille, shadow, "", NOW_MS)
        self.book.aliases[f"{NAME}@{alias}"] = record

    def resolve(self, model: str, request_id: str, needs_pass: bool) -> object:
        return resolve(self.book, model, request_id, needs_pass=needs_pass)

    def find_guest_model(self, name: str, version: str, needs_pass: bool) -> GuestModel | Refusal:
        refusal = check_version(self.book, name, version, needs_pass=needs_pass)
        return refusal or self.versions[version].guest_model

    def find_host_model(self, name: str, version: str) -> HostModel | Refusal:
        refusal = check_version(self.book, name, version, needs_pass=False)
        return refusal or self.versions[version].host_model


def make_request(request_id: str = "r-1", **changes: object) -> ScoreRequested:
    request = ScoreRequested(
        request_id=request_id,
        model=f"{NAME}@live",
        entity_id="anna",
        requested_at_ms=NOW_MS - 5,
        deadline_ms=NOW_MS + 2_000,
    )
    return replace(request, **changes)  # type: ignore[arg-type]


def arrive(*requests: ScoreRequested) -> list[Arrived]:
    return [Arrived(request, 3, 40 + place, NOW_MS - 2) for place, request in enumerate(requests)]


def give(**values: float) -> tuple[RequestFeature, ...]:
    return tuple(RequestFeature(name, value) for name, value in values.items())


def make_rows(
    half: ModelHalf, ids: tuple[str, ...], seed: int = 5
) -> tuple[dict[str, PersonFeatures | None], NDArray[np.float64]]:
    """Features of persons, as a source tells them and as a table."""
    draw = np.random.default_rng(seed)
    table = draw.normal(size=(len(ids), len(half.columns))) * 10.0 ** draw.integers(-3, 4, size=len(half.columns))
    rows: dict[str, PersonFeatures | None] = {
        entity_id: PersonFeatures(dict(zip(half.columns, values, strict=True)))
        for entity_id, values in zip(ids, table.tolist(), strict=True)
    }
    return rows, table


def change_row(rows: Mapping[str, PersonFeatures | None], entity_id: str, **values: object) -> dict[str, object]:
    """The rows with some values of one person changed; `...` removes a column."""
    row = rows[entity_id]
    assert row is not None
    merged = {name: value for name, value in {**row.values, **values}.items() if value is not ...}
    return {**rows, entity_id: PersonFeatures(merged)}
