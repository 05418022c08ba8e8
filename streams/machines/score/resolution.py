"""Which version scores a request: what applications may write, aliases, canaries, shadows.

credit-risk@live    what the alias says today
credit-risk         the same
credit-risk/job-7   this version
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field

from schemas.models import ModelRegistered
from schemas.scoring import ScoreReason
from schemas.serving import ServingAlias, ServingVersion

#: The alias of a name that stands alone.
LIVE_ALIAS = "live"
#: Models, versions and aliases are named as jobs are.
_PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_REFERENCE = re.compile(rf"({_PLAIN})(?:@({_PLAIN})|/({_PLAIN}))?")
#: References that stay parsed: applications write a few of them, over and over.
_CACHED_REFERENCES = 4096


@dataclass(frozen=True, slots=True)
class Reference:
    """What an application wrote. Either `version` or `alias` is empty."""

    name: str
    version: str
    alias: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """The one version that scores a request, at all parties. `shadow_version` is empty without a shadow."""

    model: str
    version: str
    #: Empty when the application named a version.
    alias: str
    shadow_version: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing can score it."""

    reason: ScoreReason
    detail: str


@dataclass
class ServingBook:
    """What is known of models, by the keys of the records' topics."""

    models: dict[str, ModelRegistered] = field(default_factory=dict)
    versions: dict[str, ServingVersion] = field(default_factory=dict)
    aliases: dict[str, ServingAlias] = field(default_factory=dict)


@functools.lru_cache(_CACHED_REFERENCES)
def parse_reference(text: str) -> Reference | None:
    """The parts of a reference; None if it is not of one of the three forms."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return None
    name, alias, version = match.groups()
    if version is not None:
        return Reference(name, version, "")
    return Reference(name, "", alias or LIVE_ALIAS)


def resolve(book: ServingBook, text: str, request_id: str, *, needs_pass: bool = True) -> Resolved | Refusal:
    """The version for this request: the same whenever it is asked while the alias stays as it is.

    `needs_pass=False` is for parity checks, which are how a version comes to pass.
    """
    reference = parse_reference(text)
    if reference is None:
        return Refusal(ScoreReason.INVALID_REQUEST, "model is not like NAME, NAME@ALIAS or NAME/VERSION")
    if reference.version:
        refusal = check_version(book, reference.name, reference.version, needs_pass=needs_pass)
        return refusal or Resolved(reference.name, reference.version, "")
    alias = book.aliases.get(f"{reference.name}@{reference.alias}")
    if alias is None:
        return Refusal(ScoreReason.UNKNOWN_MODEL, f"{reference.name} has no alias {reference.alias}")
    version = alias.version
    canary = alias.canary_version
    # A canary that is not served must not cost anybody a score.
    if (
        canary
        and is_canary(request_id, alias.canary_permille)
        and check_version(book, reference.name, canary, needs_pass=needs_pass) is None
    ):
        version = canary
    refusal = check_version(book, reference.name, version, needs_pass=needs_pass)
    if refusal is not None:
        return refusal
    shadow = alias.shadow_version if alias.shadow_version != version else ""
    return Resolved(reference.name, version, reference.alias, shadow)


def check_version(book: ServingBook, name: str, version: str, *, needs_pass: bool = True) -> Refusal | None:
    """None if the version exists and may be served."""
    key = f"{name}/{version}"
    registered = book.models.get(key)
    if registered is None:
        return Refusal(ScoreReason.UNKNOWN_MODEL, f"there is no {key}")
    if not needs_pass:
        return None
    checked = book.versions.get(key)
    if checked is None or checked.model_sha256 != registered.model_sha256:
        return Refusal(ScoreReason.NOT_SERVED, f"{key} has not passed a parity check")
    if not checked.passed:
        return Refusal(ScoreReason.NOT_SERVED, f"{key} failed its parity check")
    return None


def is_canary(request_id: str, permille: int) -> bool:
    """Whether this request is one of so many of 1,000: by its id alone, so that all routers say the same."""
    if permille <= 0:
        return False
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:4], "big") % 1000 < permille


def own_half_digest(registered: ModelRegistered, party: str) -> bytes | None:
    """The digest of this party's half; None if it has none."""
    return next((half.sha256 for half in registered.halves if half.party == party), None)
