"""What is wrong with a request in itself, whatever is known of models and persons."""

from __future__ import annotations

import math

from schemas.scoring import Purpose, ScoreRequested
from streams.machines.score.resolution import parse_reference

MOST_ID_CHARACTERS = 200
#: Names that come from outside are repeated up to this length.
MOST_TOLD_CHARACTERS = 200
#: Clocks of applications may be ahead of ours by so much.
MOST_AHEAD_MS = 300_000
#: The joiner remembers a request until after its deadline; nobody wants an online score a day later.
MOST_DEADLINE_MS = 86_400_000


def find_mistake(request: ScoreRequested, now_ms: int) -> str:
    """What is wrong with the request in itself; empty if nothing. Never repeats the person's id."""
    for name in ("request_id", "entity_id"):
        characters = len(getattr(request, name))
        if not 1 <= characters <= MOST_ID_CHARACTERS:
            return f"{name} has {characters} characters, expected 1 to {MOST_ID_CHARACTERS}"
    if "\0" in request.request_id:
        return "request_id has a character NUL, which databases do not keep"
    if request.deadline_ms <= request.requested_at_ms:
        return "deadline_ms is not after requested_at_ms"
    if request.deadline_ms - request.requested_at_ms > MOST_DEADLINE_MS:
        return f"deadline_ms is more than {MOST_DEADLINE_MS} ms after requested_at_ms"
    if request.requested_at_ms - now_ms > MOST_AHEAD_MS:
        return f"requested_at_ms is more than {MOST_AHEAD_MS} ms ahead of the router's clock"
    if request.purpose not in (Purpose.LIVE, Purpose.PARITY):
        return "purpose is neither live nor parity"
    reference = parse_reference(request.model)
    if reference is None:
        return "model is not like NAME, NAME@ALIAS or NAME/VERSION"
    if request.purpose is Purpose.PARITY and not reference.version:
        return "model: a parity check needs a version, such as NAME/VERSION"
    if request.purpose is Purpose.PARITY and request.features:
        return "features: a parity check takes them from the table of the training"
    return _find_feature_mistake(request) if request.features else ""


def _find_feature_mistake(request: ScoreRequested) -> str:
    names = set()
    for feature in request.features:
        if not math.isfinite(feature.value):
            return f"features: {cut_text(feature.name)!r} is no finite number"
        if feature.name in names:
            return f"features: {cut_text(feature.name)!r} is given twice"
        names.add(feature.name)
    return ""


def cut_text(text: str) -> str:
    """A text of an application, as far as it is repeated."""
    return text[:MOST_TOLD_CHARACTERS]


def tell_id(request_id: str) -> str:
    """The id under which a request is refused: its own, made fit for the books if it is not."""
    return cut_text(request_id).replace("\0", "\N{REPLACEMENT CHARACTER}")
