"""The guest's router: from requests to questions for hosts, and to everything that the guest knows of each request.

    take_up     validates, finds the one version, writes the questions      needs no feature
    group       what has to be looked up, version by version
    conclude    the guest's logits of a group, or the reason why a row has none

It keeps nothing between two calls. Routing a request again gives the same but for the times, as long as the alias and
the features stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from schemas.scoring import Purpose, RoutedScore, ScoreAsk, ScoreReason, ScoreRequested
from streams.features import PersonFeatures
from streams.kernels.ristretto import normalise_id
from streams.kernels.scorecard import name_person
from streams.machines.score.halves import Problem
from streams.machines.score.models import GuestModel
from streams.machines.score.request_check import MOST_DEADLINE_MS, cut_text, find_mistake, tell_id
from streams.machines.score.resolution import Refusal, Resolved, parse_reference


@dataclass(frozen=True)
class Names:
    """How this party calls persons: in its own books, and towards each host."""

    party: str
    pseudonym_key: bytes
    token_keys: Mapping[str, bytes]


#: Model, request id, whether the version must have passed -> the version.
Resolve = Callable[[str, str, bool], Resolved | Refusal]
#: Model, version, whether it must have passed.
FindModel = Callable[[str, str, bool], GuestModel | Refusal]


class Arrived(NamedTuple):
    """A request, and where it lies in the request topic. `appended_at_ms` is the broker's time."""

    request: ScoreRequested
    partition: int
    offset: int
    appended_at_ms: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A request for which hosts are asked, for one purpose."""

    arrived: Arrived
    purpose: Purpose
    model: GuestModel
    alias: str
    #: Normalised.
    entity_id: str
    pseudonym: bytes
    #: Values that the application gave, by column.
    given: Mapping[str, object]
    routed_at_us: int
    wait_until_ms: int


@dataclass(frozen=True, slots=True)
class TakenUp:
    """What came of requests before anything was looked up."""

    taken: list[Taken]
    #: (host, question), in the order of the requests.
    asks: list[tuple[str, ScoreAsk]]
    refused: list[RoutedScore]


def take_up(requests: Sequence[Arrived], now_us: int, resolve: Resolve, find_model: FindModel, names: Names) -> TakenUp:
    """Validate, find versions, write questions. Shadows are taken up like requests of their own."""
    up = TakenUp([], [], [])
    for arrived in requests:
        request = arrived.request
        found = _find(request, now_us // 1000, resolve, find_model)
        if isinstance(found, Refusal):
            up.refused.append(_refuse(arrived, found, now_us, names.party))
            continue
        resolved, model, entity_id = found
        live = _take(arrived, request.purpose, model, resolved.alias, entity_id, now_us, names)
        _ask(up, live, names)
        if resolved.shadow_version and request.purpose is Purpose.LIVE:
            _shadow(up, live, find_model(resolved.model, resolved.shadow_version, True), resolved, names)
    return up


def _find(
    request: ScoreRequested, now_ms: int, resolve: Resolve, find_model: FindModel
) -> Refusal | tuple[Resolved, GuestModel, str]:
    mistake = find_mistake(request, now_ms)
    if mistake:
        return Refusal(ScoreReason.INVALID_REQUEST, mistake)
    if request.deadline_ms < now_ms:
        return Refusal(ScoreReason.DEADLINE_EXCEEDED, "the deadline had passed when the request was taken up")
    needs_pass = request.purpose is not Purpose.PARITY
    resolved = resolve(request.model, request.request_id, needs_pass)
    if isinstance(resolved, Refusal):
        return resolved
    model = find_model(resolved.model, resolved.version, needs_pass)
    if isinstance(model, Refusal):
        return model
    if request.features:
        unknown = next((f.name for f in request.features if f.name not in model.rows.columns), None)
        if unknown is not None:
            return Refusal(ScoreReason.INVALID_REQUEST, f"features: the model has no column {cut_text(unknown)!r}")
    try:
        return resolved, model, normalise_id(request.entity_id, model.id_type)
    except ValueError as error:
        return Refusal(ScoreReason.INVALID_REQUEST, f"entity_id: {error}")


def _take(
    arrived: Arrived, purpose: Purpose, model: GuestModel, alias: str, entity_id: str, now_us: int, names: Names
) -> Taken:
    request = arrived.request
    # A parity check is in no hurry: the host may have to load the table first.
    patience_ms = model.serve.host_patience_ms if purpose is not Purpose.PARITY else MOST_DEADLINE_MS
    return Taken(
        arrived=arrived,
        purpose=purpose,
        model=model,
        alias=alias,
        entity_id=entity_id,
        pseudonym=name_person(names.pseudonym_key, entity_id),
        given={feature.name: feature.value for feature in request.features if feature.name in model.rows.columns},
        routed_at_us=now_us,
        wait_until_ms=min(request.deadline_ms, now_us // 1000 + patience_ms),
    )


def _ask(up: TakenUp, taken: Taken, names: Names) -> None:
    up.taken.append(taken)
    model = taken.model
    for host in model.hosts:
        ask = ScoreAsk(
            request_id=taken.arrived.request.request_id,
            token=name_person(names.token_keys[host], taken.entity_id),
            model=model.name,
            version=model.version,
            purpose=taken.purpose,
            asked_at_us=taken.routed_at_us,
            wait_until_ms=taken.wait_until_ms,
        )
        up.asks.append((host, ask))


def _shadow(up: TakenUp, live: Taken, model: GuestModel | Refusal, resolved: Resolved, names: Names) -> None:
    """The same request by a second version. Columns that only the live version has are not the shadow's business."""
    request = live.arrived.request
    if isinstance(model, Refusal):
        up.refused.append(_refuse_shadow(live, model, resolved, names.party))
        return
    try:
        entity_id = normalise_id(request.entity_id, model.id_type)
    except ValueError as error:
        refusal = Refusal(ScoreReason.INVALID_REQUEST, f"entity_id: {error}")
        up.refused.append(_refuse_shadow(live, refusal, resolved, names.party))
        return
    _ask(up, _take(live.arrived, Purpose.SHADOW, model, resolved.alias, entity_id, live.routed_at_us, names), names)


# --- features -> logits ---


@dataclass(frozen=True, slots=True)
class Group:
    """Requests that one version scores with features of one kind of source."""

    model: GuestModel
    is_parity: bool
    items: list[Taken]

    @property
    def wanted(self) -> list[str]:
        """Whose features have to be looked up: not those of whom the application told all."""
        columns = len(self.model.rows.columns)
        return list(dict.fromkeys(taken.entity_id for taken in self.items if len(taken.given) < columns or not columns))


def group(taken: Sequence[Taken]) -> list[Group]:
    """One group a version and kind of source, in the order of their first requests."""
    groups: dict[tuple[GuestModel, bool], Group] = {}
    for item in taken:
        key = (item.model, item.purpose is Purpose.PARITY)
        found = groups.get(key)
        if found is None:
            found = groups[key] = Group(*key, [])
        found.items.append(item)
    return list(groups.values())


def conclude(group: Group, rows: Mapping[str, PersonFeatures | None] | Problem, party: str) -> list[RoutedScore]:
    """Everything that the guest says of the group's requests. `rows` has an entry for each of the `wanted`.

    A `Problem` instead of rows is that of all who were wanted.
    """
    failure = rows if isinstance(rows, Problem) else None
    found: Mapping[str, PersonFeatures | None] = {} if isinstance(rows, Problem) else rows
    model = group.model
    values, places, problems = model.rows.read(_merge(item, found, model) for item in group.items)
    logits = iter(model.half.score(values).tolist()) if places else iter(())
    if failure is not None:
        complete = set(places)
        problems = {place: failure for place in range(len(group.items)) if place not in complete}
    routed = []
    for place, item in enumerate(group.items):
        problem = problems.get(place)
        if problem is None:
            own, *alone = next(logits)
            routed.append(_item(item, own, alone[0] if alone else None, None, party))
        else:
            routed.append(_item(item, None, None, problem, party))
    return routed


def _merge(taken: Taken, rows: Mapping[str, PersonFeatures | None], model: GuestModel) -> Mapping[str, object] | None:
    """What the source knows, and over it what the application said."""
    given = taken.given
    if given and len(given) == len(model.rows.columns):
        return given
    person = rows.get(taken.entity_id)
    if person is None:
        return None
    return {**person.values, **given} if given else person.values


def _item(
    taken: Taken, guest_logit: int | None, alone_logit: int | None, problem: Problem | None, party: str
) -> RoutedScore:
    request, partition, offset, appended_at_ms = taken.arrived
    model = taken.model
    return RoutedScore(
        request_id=request.request_id,
        pseudonym=taken.pseudonym,
        model=model.name,
        version=model.version,
        alias=taken.alias,
        purpose=taken.purpose,
        requested_at_ms=request.requested_at_ms,
        deadline_ms=request.deadline_ms,
        request_partition=partition,
        request_offset=offset,
        appended_at_ms=appended_at_ms,
        routed_at_us=taken.routed_at_us,
        hosts=model.hosts,
        guest_logit=guest_logit,
        alone_logit=alone_logit,
        wait_until_ms=taken.wait_until_ms,
        reason=ScoreReason.NONE if problem is None else problem.reason,
        party="" if problem is None else party,
        detail="" if problem is None else problem.detail,
        base_points=model.serve.base_points,
        points_to_double_odds=model.serve.points_to_double_odds,
        bands=model.serve.bands,
    )


def _refuse_shadow(live: Taken, refusal: Refusal, resolved: Resolved, party: str) -> RoutedScore:
    item = _refuse(live.arrived, refusal, live.routed_at_us, party)
    return replace(item, purpose=Purpose.SHADOW, version=resolved.shadow_version)


def _refuse(arrived: Arrived, refusal: Refusal, now_us: int, party: str) -> RoutedScore:
    """There is nothing to wait for. Texts of the application are repeated up to a length only."""
    request, partition, offset, appended_at_ms = arrived
    reference = parse_reference(request.model)
    return RoutedScore(
        request_id=tell_id(request.request_id),
        pseudonym=b"",
        model=reference.name if reference else cut_text(request.model),
        version=reference.version if reference else "",
        alias=reference.alias if reference else "",
        purpose=Purpose.PARITY if request.purpose is Purpose.PARITY else Purpose.LIVE,
        requested_at_ms=request.requested_at_ms,
        deadline_ms=request.deadline_ms,
        request_partition=partition,
        request_offset=offset,
        appended_at_ms=appended_at_ms,
        routed_at_us=now_us,
        hosts=(),
        guest_logit=None,
        alone_logit=None,
        wait_until_ms=now_us // 1000,
        reason=refusal.reason,
        party=party,
        detail=refusal.detail,
    )
