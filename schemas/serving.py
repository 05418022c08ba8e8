"""What scoring works with: versions that were checked, aliases, features."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Record

# --- who may be scored by what: plain Avro, topic vfl.model.serving.<guest>, compacted -------------------------------


@dataclass(frozen=True)
class ServingVersion(Record):
    """A version was checked: the hold-out scored online and offline. Key `NAME/VERSION`. Served if `passed`."""

    model: str
    version: str
    model_sha256: bytes
    passed: bool
    rows: int
    #: Rows whose online logit differed from the offline one.
    differences: int
    detail: str
    #: The guest's own model, 24 fractional bits, on the guest's columns: what a degraded score is made of.
    alone_weights: tuple[int, ...]
    alone_intercept: int
    #: Points of the hold-out: bins with the upper edges `reference_edges` (the last one is open), and shares of rows.
    reference_edges: tuple[int, ...]
    reference_shares: tuple[float, ...]
    checked_at_ms: int


@dataclass(frozen=True)
class ServingAlias(Record):
    """Which version `NAME@ALIAS` means. Key `NAME@ALIAS`; the newest record counts.

    `canary_permille` of 1,000 requests, chosen by their ids, go to `canary_version`. `shadow_version` scores all
    requests as well, for the audit only. `previous_version` is where a roll-back leads.
    """

    model: str
    alias: str
    version: str
    canary_version: str
    canary_permille: int
    shadow_version: str
    previous_version: str
    changed_at_ms: int


# --- features, sealed by the party for itself, topic vfl.features.<party>, compacted ---------------------------------


@dataclass(frozen=True)
class FeatureRow(Record):
    """What is known of a person; the newest record counts. `None`: known to be missing."""

    entity_id: str
    columns: tuple[str, ...]
    values: tuple[float | None, ...]
    as_of_ms: int
