"""Key files that are sealed with a passphrase, and where the passphrase comes from: never from a file of the home.

A sealed key file holds one line: `scrypt N R P salt nonce sealed`, numbers in decimal, the rest in hexadecimal digits.
The key is scrypt (RFC 7914) of the passphrase, the cipher AES-256-GCM-SIV (RFC 8452), bound to the file's name.
"""

from __future__ import annotations

import functools
import os
import secrets
import subprocess
from pathlib import Path
from typing import Annotated, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import Field, model_validator

from infra.public_keys import KEY_BYTES, SecretsError
from infra.strict_yaml import Strict

SCHEME = "scrypt"
#: 64 MiB and a fifth of a second, as OWASP's list of equally strong settings has it.
COST, BLOCK_SIZE, PARALLEL = 2**16, 8, 2
SALT_BYTES, NONCE_BYTES = 16, 12
#: A password manager may ask its user.
COMMAND_SECONDS = 120


class KeySettings(Strict):
    """Where the passphrase of the key files comes from; neither: the files are not sealed."""

    #: Name of an environment variable.
    passphrase_env: Annotated[str, Field(min_length=1)] | None = None
    #: A program and its arguments; its standard output is the passphrase.
    passphrase_command: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.passphrase_env is not None and self.passphrase_command is not None:
            raise ValueError("name passphrase_env or passphrase_command, not both")
        return self


def read_passphrase(settings: KeySettings) -> bytes | None:
    """The passphrase, if the settings name one. Raises `SecretsError`, never with what was read."""
    if settings.passphrase_env is not None:
        name = settings.passphrase_env
        if not (value := os.environ.get(name)):
            raise SecretsError(f"the environment variable {name} is not set: it holds the passphrase of the key files")
        return value.encode()
    if settings.passphrase_command is not None:
        return _ask(settings.passphrase_command)
    return None


def seal_key(key: bytes, name: str, passphrase: bytes, salt: bytes) -> str:
    """The line that a sealed key file called `name` holds."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = AESGCMSIV(_stretch(passphrase, salt, COST, BLOCK_SIZE, PARALLEL)).encrypt(nonce, key, name.encode())
    return f"{SCHEME} {COST} {BLOCK_SIZE} {PARALLEL} {salt.hex()} {nonce.hex()} {sealed.hex()}"


def open_key(line: str, path: Path, passphrase: bytes | None) -> bytes:
    """The key in the line of a sealed key file. Raises `SecretsError`."""
    if passphrase is None:
        raise SecretsError(
            f"{path} is sealed with a passphrase: say where it comes from under `keys:` in party.yaml "
            "(passphrase_env or passphrase_command)"
        )
    try:
        _, cost, block_size, parallel, salt, nonce, sealed = line.split(" ")
        numbers = (int(cost), int(block_size), int(parallel))
        salt_bytes, nonce_bytes, sealed_bytes = (bytes.fromhex(each) for each in (salt, nonce, sealed))
    except ValueError:
        raise SecretsError(f"{path} is damaged: restore it from the backup") from None
    if numbers != (COST, BLOCK_SIZE, PARALLEL) or len(nonce_bytes) != NONCE_BYTES:
        raise SecretsError(f"{path} was not sealed by this release of Isthmus, or is damaged")
    try:
        return AESGCMSIV(_stretch(passphrase, salt_bytes, *numbers)).decrypt(
            nonce_bytes, sealed_bytes, path.name.encode()
        )
    except (InvalidTag, ValueError):
        raise SecretsError(f"{path} does not open: the passphrase is wrong, or the file was changed") from None


def is_sealed(line: str) -> bool:
    """Whether the line of a key file is a sealed one."""
    return line.startswith(f"{SCHEME} ")


# All files of a home have one salt, so that a process stretches its passphrase once.
@functools.lru_cache(8)
def _stretch(passphrase: bytes, salt: bytes, cost: int, block_size: int, parallel: int) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=cost, r=block_size, p=parallel).derive(passphrase)


def _ask(command: tuple[str, ...]) -> bytes:
    program = command[0]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "gave no answer in time" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise SecretsError(f"the passphrase_command {program!r} cannot be used: {reason}") from None
    passphrase = done.stdout.removesuffix(b"\n")
    if done.returncode or not passphrase:
        raise SecretsError(
            f"the passphrase_command {program!r} ended with code {done.returncode} and "
            f"{'no' if not passphrase else 'some'} output: run it by hand to see why"
        )
    return passphrase
