"""Curve25519 in Edwards form with integers, cofactor and all: what a protocol gets that skips Ristretto (RFC 8032)."""

from __future__ import annotations

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, P) % P
_ROOT = pow(2, (P - 1) // 4, P)
Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    """The complete addition law."""
    (x1, y1), (x2, y2) = a, b
    k = _D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def multiply(factor: int, point: Point) -> Point:
    """By doubling and adding."""
    result = NEUTRAL
    while factor:
        if factor & 1:
            result = add(result, point)
        point, factor = add(point, point), factor >> 1
    return result


def lift(y: int) -> Point | None:
    """A point with this y, if there is one."""
    u, v = (y * y - 1) % P, (_D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        x = x * _ROOT % P
    return None if (v * x * x - u) % P else (x, y)


def small_points() -> list[Point]:
    """All eight points whose order divides the cofactor, multiples of one of order eight, in order."""
    for y in range(2, 100):
        point = lift(y)
        generator = NEUTRAL if point is None else multiply(ORDER, point)
        if multiply(4, generator) != NEUTRAL:
            return [multiply(k, generator) for k in range(8)]
    raise AssertionError("half of all points have a part of order eight")


def encodings(point: Point) -> set[bytes]:
    """With the sign of x, without, and not reduced modulo p where 255 bits have room for that."""
    x, y = point
    forms = {y | (x & 1) << 255, y, y + P}
    return {form.to_bytes(32, "little") for form in forms if form < 2**256}
