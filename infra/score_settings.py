"""Settings of online scoring: the section `score` of `<home>/party.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from infra.strict_yaml import Strict


class TopicFeatures(Strict):
    """Features come from the party's own feature topic, which `isthmus features load` fills."""

    kind: Literal["topic"] = "topic"


class SqlFeatures(Strict):
    """Features come from a database. `table` (or a view) has a row a person; `id` is the column of the person's id.

    The URL is SQLAlchemy's; where it needs a password, `url_env` names an environment variable with the whole URL.
    """

    kind: Literal["sql"]
    url: Annotated[str, Field(min_length=1)] | None = None
    url_env: Annotated[str, Field(min_length=1)] | None = None
    table: Annotated[str, Field(min_length=1)]
    id: Annotated[str, Field(min_length=1)]
    #: How often a host looks for new persons in the table.
    refresh_seconds: Annotated[float, Field(gt=0, le=86_400, strict=False)] = 60.0
    timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 1_000

    @model_validator(mode="after")
    def _has_one_url(self) -> Self:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("give either url, or url_env with the name of an environment variable")
        return self


class HttpFeatures(Strict):
    """Features come from a service: POST `url` with `{"ids": [...]}` gives `{"rows": {id: {column: number}}}`.

    A host also needs to know whom it can be asked about: GET `ids_url` gives `{"ids": [...]}`.
    """

    kind: Literal["http"]
    url: Annotated[str, Field(min_length=1)]
    ids_url: str | None = None
    #: Names an environment variable with the value of the `Authorization` header.
    authorization_env: str | None = None
    refresh_seconds: Annotated[float, Field(gt=0, le=86_400, strict=False)] = 60.0
    timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 1_000

    @field_validator("url", "ids_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("write it with http:// or https://")
        if value is not None and "@" in value:
            raise ValueError("credentials do not belong here: name an environment variable in authorization_env")
        return value


FeatureSettings = Annotated[TopicFeatures | SqlFeatures | HttpFeatures, Field(discriminator="kind")]


class HistorySettings(Strict):
    """Where outcomes can be queried: a SQLAlchemy URL, or `url_env` for one with a password. SQLite by default."""

    url: str = "sqlite:///history.db"
    url_env: Annotated[str, Field(min_length=1)] | None = None


class ScoreSettings(Strict):
    """Online scoring at this party."""

    features: FeatureSettings = TopicFeatures()
    #: As a host: what answers tell. `points`: a 20th of a doubling of the odds. Otherwise so many fractional bits.
    precision: Literal["points"] | Annotated[int, Field(ge=0, le=10)] = "points"
    #: As a host: questions a second that each guest may ask, and how many may come at once.
    quota_per_second: Annotated[int, Field(ge=1)] = 20_000
    quota_burst: Annotated[int, Field(ge=1)] = 100_000
    #: As a guest: requests that may wait for hosts, in each partition; more are refused.
    most_waiting: Annotated[int, Field(ge=1)] = 20_000
    #: As a guest: for how long after a request's deadline a copy of it is recognised.
    remember_seconds: Annotated[int, Field(ge=10, le=86_400)] = 120
    history: HistorySettings = HistorySettings()
    #: Length of the intervals for which the parties compare their accounts.
    statement_seconds: Annotated[int, Field(ge=1, le=86_400)] = 3_600
