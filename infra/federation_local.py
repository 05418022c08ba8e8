"""A federation whose homes are all on this machine: for demonstrations and tests, where one person is all parties."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from infra.federation_drafts import found, join, sign, utc_now
from infra.manifest import Profile
from infra.party_secrets import open_keys
from infra.settings import load_settings

DEFAULTS = Profile()


def found_together(
    homes: Sequence[Path], name: str, *, profile: Profile = DEFAULTS, code: tuple[str, ...] = ()
) -> None:
    """Found, join and sign, each party in its home. Raises `ManifestError`."""
    opened = [(settings, open_keys(settings)) for settings in map(load_settings, homes)]
    names = tuple(settings.party for settings, _ in opened)
    now = utc_now()
    path = found(*opened[0], name, now, profile=profile, code=code, invited=names[1:]).path
    for settings, keys in opened[1:]:
        path = join(settings, keys, path, now).path
    # The first round ends with a file that all have signed, the second hands it to everybody.
    for settings, keys in (*opened, *opened):
        path = sign(settings, keys, path, now).path
