"""The prime-order group ristretto255 (RFC 9496) for private set intersection, on joined buffers of 32-byte points.

Two paths give the same bytes. The native kernel (`streams/kernels/native`), where it is installed, takes several points
at a time. Otherwise libsodium (in the wheel of `rbcl`) does the arithmetic, one point after the other: its functions
are called directly on one input and one output buffer, which leaves about a microsecond of overhead a point, and
releases the interpreter lock inside each call.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

import rbcl

from streams.kernels.entropy import expand, prf
from streams.native import kernel_threads, native_backend, native_points

#: Bytes of an encoded point, of a scalar and of a tag.
POINT_BYTES: Final = 32
SCALAR_BYTES: Final = 32
TAG_BYTES: Final = 32

#: Bytes of a tag that are compared; the rest proves to the peer that the owner computed the whole tag.
MATCH_BYTES: Final = 16

_HASH_BYTES: Final = 64
_ID_TYPES: Final = ("string", "email", "phone")
_PHONE: Final = re.compile(r"\+?[1-9][0-9]{6,14}")
_PHONE_PUNCTUATION: Final = str.maketrans("", "", " -./()\u00a0")

# Own prototypes with pointer arguments: addresses inside a buffer are passed, and rbcl's functions stay as they are.
_IN_OUT: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_from_hash: Final = _IN_OUT(("crypto_core_ristretto255_from_hash", rbcl._sodium))
_scalar_reduce: Final = _IN_OUT(("crypto_core_ristretto255_scalar_reduce", rbcl._sodium))
_scalarmult: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("crypto_scalarmult_ristretto255", rbcl._sodium)
)


def normalise_id(raw: str, id_type: str) -> str:
    """Bring an identifier into the one form that both parties hash.

    `string`: Unicode NFC, outer white space removed. `email`: the same, case folded. `phone`: digits of an
    E.164 number with the country code; a leading + or 00 and the usual punctuation are dropped. Raises
    ValueError with what to do.
    """
    text = unicodedata.normalize("NFC", raw).strip()
    if not text:
        raise ValueError("the identifier is empty; remove the row or fill the identifier column")
    if id_type == "string":
        return text
    if id_type == "email":
        return unicodedata.normalize("NFC", text.casefold())
    if id_type == "phone":
        digits = text.translate(_PHONE_PUNCTUATION)
        digits = digits.removeprefix("00")
        if not _PHONE.fullmatch(digits):
            raise ValueError(
                f"the identifier with {len(text)} characters is not a phone number with its country code "
                "(7 to 15 digits, E.164); write it like +4930123456"
            )
        return digits.removeprefix("+")
    raise ValueError(f"the identifier type {id_type!r} is unknown; use one of {', '.join(_ID_TYPES)}")


def hash_ids(ids: Iterable[str], context: bytes) -> bytes:
    """Map normalised identifiers to points: from_hash(SHA-512(context || id)), with lengths. 32 bytes each, joined."""
    prefix = _id_prefix(context)
    if native := native_points():
        return bytes(native.hash_ids(list(ids), prefix, kernel_threads(), native_backend()))
    start = hashlib.sha512(prefix)
    digests = bytearray()
    for text in ids:
        state = start.copy()
        body = text.encode("utf-8")
        state.update(len(body).to_bytes(8, "big") + body)
        digests += state.digest()
    return hash_to_points(bytes(digests))


def blind_ids(ids: Iterable[str], context: bytes, factor: bytes) -> bytes:
    """`hash_ids` and then `multiply`; the native kernel saves the encodings in between."""
    if (native := native_points()) and len(factor) == SCALAR_BYTES:
        texts = list(ids)
        arguments = (texts, _id_prefix(context), factor, kernel_threads(), native_backend())
        return _accept(native.blind_ids(*arguments), len(texts))
    return multiply(hash_ids(ids, context), factor)


def hash_to_points(digests: bytes) -> bytes:
    """Map joined 64-byte uniform strings to points (RFC 9496, section 4.3.4)."""
    count = _count(digests, _HASH_BYTES, "digests")
    if native := native_points():
        return bytes(native.hash_to_points(digests, kernel_threads(), native_backend()))
    source, target, result = _buffers(digests, count)
    for index in range(count):
        _from_hash(target + POINT_BYTES * index, source + _HASH_BYTES * index)
    return result.raw


def scalar(key: bytes) -> bytes:
    """Draw a non-zero scalar from a 32-byte key: 512 bits reduced modulo the group order, 32 bytes little-endian."""
    source = ctypes.create_string_buffer(expand(key, _HASH_BYTES), _HASH_BYTES)
    result = ctypes.create_string_buffer(SCALAR_BYTES)
    _scalar_reduce(result, source)
    if result.raw == bytes(SCALAR_BYTES):
        return scalar(prf(key, "zero scalar"))
    return result.raw


def multiply(points: bytes, factor: bytes) -> bytes:
    """Multiply each joined 32-byte point by one scalar.

    Raises ValueError with the index of the first point that is not a canonical encoding or is the identity.
    """
    count = _count(points, POINT_BYTES, "points")
    if len(factor) != SCALAR_BYTES:
        raise ValueError(f"a scalar has {SCALAR_BYTES} bytes, not {len(factor)}")
    if native := native_points():
        return _accept(native.multiply_points(points, factor, kernel_threads(), native_backend()), count)
    return _accept(_products(points, factor, count), count)


def _accept(products: bytes | int, count: int) -> bytes:
    """The products, if none of so many points was refused."""
    if isinstance(products, int):
        raise ValueError(f"point {products} of {count} is the identity or not a canonical ristretto255 encoding")
    return products


def _products(points: bytes, factor: bytes, count: int) -> bytes | int:
    """The products, or the index of the first point that is refused."""
    source, target, result = _buffers(points, count)
    for index in range(count):
        # libsodium 1.0.18 ignores the highest bit, which would give each point two encodings.
        if points[POINT_BYTES * index + 31] > 127 or _scalarmult(
            target + POINT_BYTES * index, factor, source + POINT_BYTES * index
        ):
            return index
    return result.raw


def tag_points(points: bytes, context: bytes) -> bytes:
    """Digest each joined point to 32 bytes under `context`: first 16 the tag to match, last 16 the proof."""
    count = _count(points, POINT_BYTES, "points")
    prefix = b"isthmus/psi/tag" + len(context).to_bytes(8, "big") + context
    if native := native_points():
        return bytes(native.tag_points(points, prefix))
    start = hashlib.sha256(prefix)
    tags = bytearray()
    for index in range(count):
        state = start.copy()
        state.update(points[POINT_BYTES * index : POINT_BYTES * (index + 1)])
        tags += state.digest()
    return bytes(tags)


def _id_prefix(context: bytes) -> bytes:
    return b"isthmus/psi/id" + len(context).to_bytes(8, "big") + context


def _count(joined: bytes, width: int, what: str) -> int:
    count, rest = divmod(len(joined), width)
    if rest:
        raise ValueError(f"joined {what} have {width} bytes each, but {len(joined)} bytes came: {rest} too many")
    return count


def _buffers(source: bytes, count: int) -> tuple[int, int, ctypes.Array[ctypes.c_char]]:
    """Addresses of input and output, and the output. The caller holds `source` for as long as the address is in use."""
    result = ctypes.create_string_buffer(POINT_BYTES * count)
    source_address = ctypes.cast(ctypes.c_char_p(source), ctypes.c_void_p).value or 0
    return source_address, ctypes.addressof(result), result
