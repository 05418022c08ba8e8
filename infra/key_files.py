"""A key in a file: one line, sealed or not, that only its owner can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from infra.passphrase import is_sealed, open_key, seal_key
from infra.public_keys import KEY_BYTES, SecretsError

#: Whoever else may read a secret file.
OTHERS = stat.S_IRWXG | stat.S_IRWXO
#: First line of key files that came from a seed: whoever knows the seed has the keys.
UNSAFE_MARK = "# UNSAFE: derived from a seed, for demonstrations and tests only"


def line_of(key: bytes, name: str, passphrase: bytes | None, salt: bytes) -> str:
    """The key as it stands in its file: sealed if there is a passphrase."""
    return key.hex() if passphrase is None else seal_key(key, name, passphrase, salt)


def write_line(path: Path, line: str, *, is_unsafe: bool) -> None:
    """A new file that only its owner can read, on the disk when this returns. Raises `OSError`."""
    mark = UNSAFE_MARK + "\n" if is_unsafe else ""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(mark + line + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_secret(path: Path, passphrase: bytes | None) -> tuple[bytes, bool]:
    """The bytes, and whether they came from a seed. Raises `SecretsError`."""
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & OTHERS:
                raise SecretsError(
                    f"{path} can be read or changed by other users (mode {stat.S_IMODE(mode):04o}) and is not used: if "
                    f"nobody has read it, run chmod 600 {path}"
                )
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise SecretsError(
            f"{path} is missing: restore it from the backup of this home; a new party is made by `isthmus party init`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SecretsError(f"{path} cannot be read: {error}") from error
    body = "".join(line.strip() for line in lines if not line.startswith("#"))
    if is_sealed(body):
        key = open_key(body, path, passphrase)
    elif passphrase is not None:
        raise SecretsError(
            f"{path} is not sealed, though the settings name a passphrase: seal it with `isthmus party protect`"
        )
    else:
        key = _parse(body, path)
    if len(key) != KEY_BYTES:
        raise SecretsError(f"{path} holds {len(key)} bytes instead of {KEY_BYTES}: it is damaged")
    return key, UNSAFE_MARK in lines


def _parse(body: str, path: Path) -> bytes:
    try:
        return bytes.fromhex(body)
    except ValueError:
        raise SecretsError(f"{path} is damaged: it should hold {2 * KEY_BYTES} hexadecimal digits") from None
