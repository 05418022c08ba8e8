"""Job specs as people write them: YAML -> `JobSpec`, with every mistake and its path in one go."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from infra.strict_yaml import parse_yaml
from schemas.jobs import (
    AlignSpec,
    EvaluateSpec,
    JobSpec,
    Leak,
    Mistake,
    PartySpec,
    Privacy,
    ScoreBand,
    ServeSpec,
    TrainSpec,
)
from schemas.profiles import KeyProfile
from streams.machines.job.validation import validate_spec


class SpecError(ValueError):
    """The spec cannot be used; `mistakes` lists everything that was found."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("; ".join(f"{mistake.path}: {mistake.message}" for mistake in self.mistakes))


class DemoDataError(ValueError):
    """The files of the demo's `--data` cannot be used; the text says why."""


class _Strict(BaseModel):
    """Unknown keys are mistakes (most are misspellings), and `"3"` is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


#: YAML knows no enums and no tuples, so these two fields convert from strings and lists.
_Leaks = Annotated[tuple[Annotated[Leak, Field(strict=False)], ...], Field(strict=False)]
_Names = Annotated[tuple[str, ...], Field(strict=False)]


class _Party(_Strict):
    party: str
    dataset: str
    features: _Names = ()


class _Align(_Strict):
    id_type: str = AlignSpec.id_type


class _Train(_Strict):
    algorithm: str = TrainSpec.algorithm
    privacy: Annotated[Privacy, Field(strict=False)] = TrainSpec.privacy
    l2: float = TrainSpec.l2
    max_passes: int = TrainSpec.max_passes
    tolerance: float = TrainSpec.tolerance
    rank: int = TrainSpec.rank
    coarse_passes: int = TrainSpec.coarse_passes
    sup_error: float = TrainSpec.sup_error
    guest_logit_clip: float = TrainSpec.guest_logit_clip
    host_logit_clip: float = TrainSpec.host_logit_clip
    feature_clip: float = TrainSpec.feature_clip
    key_bits: int = TrainSpec.key_bits
    key_profile: Annotated[KeyProfile, Field(strict=False)] = TrainSpec.key_profile


class _Evaluate(_Strict):
    holdout_fraction: float = EvaluateSpec.holdout_fraction


class _Band(_Strict):
    name: str
    from_points: int
    decision: str = ""


class _Serve(_Strict):
    base_points: int = ServeSpec.base_points
    points_to_double_odds: int = ServeSpec.points_to_double_odds
    bands: Annotated[tuple[_Band, ...], Field(strict=False)] = ()
    allow_degraded: bool = ServeSpec.allow_degraded
    host_patience_ms: int = ServeSpec.host_patience_ms

    def to_record(self) -> ServeSpec:
        bands = tuple(ScoreBand(**band.model_dump()) for band in self.bands)
        return ServeSpec(**{**self.model_dump(), "bands": bands})


class _Spec(_Strict):
    name: str
    guest: _Party
    label: str
    hosts: Annotated[tuple[_Party, ...], Field(strict=False)]
    align: _Align = _Align()
    train: _Train = _Train()
    evaluate: _Evaluate = _Evaluate()
    serve: _Serve = _Serve()
    accept_leaks: _Leaks = ()
    deadline_seconds: int = JobSpec.deadline_seconds
    patience_seconds: int = JobSpec.patience_seconds

    def to_record(self) -> JobSpec:
        return JobSpec(
            name=self.name,
            guest=PartySpec(**self.guest.model_dump()),
            label=self.label,
            hosts=tuple(PartySpec(**host.model_dump()) for host in self.hosts),
            align=AlignSpec(**self.align.model_dump()),
            train=TrainSpec(**self.train.model_dump()),
            evaluate=EvaluateSpec(**self.evaluate.model_dump()),
            serve=self.serve.to_record(),
            accept_leaks=self.accept_leaks,
            deadline_seconds=self.deadline_seconds,
            patience_seconds=self.patience_seconds,
        )


#: Which part of a spec is under which key.
_PARTS: dict[str, type[_Strict]] = {
    "guest": _Party,
    "hosts": _Party,
    "align": _Align,
    "train": _Train,
    "evaluate": _Evaluate,
    "serve": _Serve,
    "bands": _Band,
}


#: What stands in for an unusable value while the rest of the spec is checked; mistakes about it are not reported twice.
_STAND_INS: dict[str, Any] = {
    "name": "unnamed",
    "guest": {"party": "unknown-guest", "dataset": "unknown"},
    "hosts": [{"party": "unknown-host", "dataset": "unknown"}],
    "label": "unknown-label",
    "party": "unknown-party",
    "dataset": "unknown",
    "from_points": 0,
}


def read_spec(path: Path) -> JobSpec:
    """Read a spec file. Raises `SpecError` with all mistakes, or `OSError` when the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError([Mistake("", f"{path} is not UTF-8 text: {error}")]) from None
    return parse_spec(text)


def parse_spec(text: str) -> JobSpec:
    """Turn YAML text into a checked `JobSpec`. Raises `SpecError` with all mistakes of form and of meaning together."""
    try:
        raw = parse_yaml(text)
    except ValueError as error:
        raise SpecError([Mistake("", f"this is not YAML: {error}")]) from None
    if not isinstance(raw, dict):
        raise SpecError(
            [Mistake("", "a spec is a YAML mapping with the keys name, guest, label, hosts, ...; see examples/")]
        )
    spec, mistakes = _check_form(raw)
    mistaken = {mistake.path for mistake in mistakes}
    mistakes += [mistake for mistake in validate_spec(spec) if not _is_about_any(mistake.path, mistaken)]
    if mistakes:
        raise SpecError(sorted(mistakes, key=lambda mistake: mistake.path))
    return spec


def spec_to_yaml(spec: JobSpec) -> str:
    """The spec as YAML which `parse_spec` reads back."""
    return yaml.safe_dump(_plain(asdict(spec)), sort_keys=False)


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case str():
            return str(value)
    return value


def _check_form(raw: dict[Any, Any]) -> tuple[JobSpec, list[Mistake]]:
    """Check keys and types. What is wrong is replaced by a stand-in so that the rest can still be looked at."""
    try:
        return _Spec.model_validate(raw).to_record(), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    repaired = copy.deepcopy(raw)
    for detail in details:
        _repair(repaired, detail)
    # Every part that was complained about is now absent or a stand-in, so this one cannot fail.
    return _Spec.model_validate(repaired).to_record(), [_mistake(detail) for detail in details]


def _repair(raw: dict[Any, Any], detail: ErrorDetails) -> None:
    *parents, last = detail["loc"]
    place: Any = raw
    for step in parents:
        place = place[step]
    if isinstance(place, list):
        # A wrong item of a list (a leak, a feature name, a host): replaced, so that the positions of the others stay.
        index = int(last)
        if parents[-1] == "bands":
            place[index] = {"name": f"unknown-{index}", "from_points": index}
        elif parents[-1] == "hosts":
            place[index] = {"party": f"unknown-host-{index}", "dataset": "unknown"}
        elif parents[-1] == "accept_leaks":
            unused = [leak for leak in Leak if leak not in place]
            place[index] = unused[0] if unused else place[index - 1]
        else:
            place[index] = f"unknown-{index}"
    elif last in _STAND_INS and detail["type"] != "extra_forbidden":
        place[last] = copy.deepcopy(_STAND_INS[str(last)])
        if last == "party":
            place[last] = "unknown-" + "-".join(str(step) for step in parents)
    else:
        place.pop(last, None)


def _mistake(detail: ErrorDetails) -> Mistake:
    path = path_of(detail["loc"])
    given = detail["input"]
    match detail["type"]:
        case "missing":
            message = "is missing"
        case "extra_forbidden":
            message = f"is not a key here; {_known_keys(detail['loc'][:-1])}"
        case "enum":
            expected = detail.get("ctx", {}).get("expected", "")
            message = f"is {given!r}, which is not one of {expected}"
        case "model_type" | "model_attributes_type":
            message = f"must be a mapping, not {given!r}"
        case "tuple_type":
            message = f"must be a list, not {given!r}"
        case "string_type":
            message = f"must be text, not {given!r}"
        case "int_type" | "int_from_float":
            message = f"must be a whole number, not {given!r}"
        case "float_type":
            message = f"must be a number, not {given!r}"
        case _:
            message = f"{detail['msg']} (it is {given!r})"
    return Mistake(path, message)


def _known_keys(loc: tuple[int | str, ...]) -> str:
    model: type[_Strict] = _Spec
    for step in loc:
        if isinstance(step, str):
            model = _PARTS[step]
    where = "a spec" if model is _Spec else f"`{path_of(loc)}`"
    return f"{where} knows {', '.join(model.model_fields)}"


def path_of(loc: Sequence[int | str]) -> str:
    """A location as people write it: `("hosts", 0, "party")` is `hosts[0].party`."""
    path = ""
    for step in loc:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    return path


def _is_about_any(path: str, mistaken: set[str]) -> bool:
    return any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in mistaken)


def mapping_of(spec: JobSpec) -> Mapping[str, Any]:
    """The spec as plain values, for JSON output."""
    return {key: _plain(value) for key, value in asdict(spec).items()}
