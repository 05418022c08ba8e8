"""What an alignment's transcript tells to those who may see all of it but hold neither exponent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from schemas.alignment import BlindedPoints, DoubleBlindedTags, MatchedRows
from schemas.alignment_states import GuestAlignment
from schemas.codec import decode, encode
from schemas.jobs import Stage
from schemas.record import Blob, Record
from streams.kernels.ristretto import hash_ids, hash_to_points, multiply, scalar, tag_points
from streams.machine import ToEvents, ToPeer
from streams.machines.align import AlignMachine
from streams.machines.align.blinding import blind
from tests.kernels.ristretto_paths import PATHS, take_path
from tests.machines.driver import Driver
from tests.machines.parties import make_dataset, make_spec, role_of, secret_of, start_task

COMMON = [f"+4917{n:08}" for n in range(20)]
GUEST_ONLY = [f"canary-of-the-guest-{n}" for n in range(12)]
HOST_ONLY = [f"canary-of-the-host-{n}" for n in range(15)]


def align(guest: list[str], host: list[str]) -> Driver:
    """A whole alignment, its transcript kept."""
    datasets = {"guest": make_dataset(guest), "host": make_dataset(host)}
    machines = {(party, "align"): AlignMachine(party, secret_of(party), 8) for party in datasets}
    driver = Driver(dict(machines))
    for party, dataset in datasets.items():
        driver.send(party, "align", start_task(Stage.ALIGN, role_of(party), make_spec(), dataset), dataset)
    return driver.run()


def records_of(driver: Driver) -> Iterator[Record]:
    for delivery in driver.wire:
        yield decode(delivery.data)


def wire_bytes(driver: Driver) -> bytes:
    return b"".join(delivery.data for delivery in driver.wire)


def seen_values(driver: Driver) -> set[bytes]:
    """Every 16 aligned bytes of points, tags and proofs that travelled: first halves of points included."""
    found: set[bytes] = set()
    for record in records_of(driver):
        match record:
            case BlindedPoints(_, _, points):
                found |= {points[start : start + 16] for start in range(0, len(points), 16)}
            case DoubleBlindedTags(_, _, tags):
                found |= {tags[start : start + 16] for start in range(0, len(tags), 16)}
            case MatchedRows():
                found |= {record.proofs[start : start + 16] for start in range(0, len(record.proofs), 16)}
    return found


def test_no_identifier_and_no_row_number_of_it_leaves_its_house() -> None:
    driver = align(COMMON + GUEST_ONLY, HOST_ONLY + COMMON)
    outside = [wire_bytes(driver)]
    for entry in driver.trace:
        outside += [encode(o.record) for o in entry.outputs if isinstance(o, ToPeer | ToEvents)]
    for name in (*COMMON, *GUEST_ONLY, *HOST_ONLY, "canary", "+4917"):
        assert not any(name.encode() in data for data in outside)


def test_secrets_and_exponents_do_not_travel() -> None:
    driver = align(COMMON, COMMON)
    everything = wire_bytes(driver) + b"".join(entry.state for entry in driver.trace)
    for party in ("guest", "host"):
        secret = secret_of(party)
        assert secret not in everything and secret[:16] not in everything


def dictionary_hits(seen: set[bytes], guesses: list[str]) -> int:
    """How many guesses an eavesdropper finds by hashing: plain digests, points, and tags of points, no exponents."""
    contexts = [b"", b"job-1", b"string", b"guest", b"host", b"isthmus"]
    hits = 0
    for guess in guesses:
        candidates = [hashlib.sha256(guess.encode()).digest(), hashlib.sha512(guess.encode()).digest()]
        for context in contexts:
            point = hash_ids([guess], context)
            candidates += [point, tag_points(point, context)]
        halves = {c[start : start + 16] for c in candidates for start in range(0, len(c), 16)}
        hits += bool(halves & seen)
    return hits


def test_a_dictionary_of_all_identifiers_finds_none_in_the_transcript() -> None:
    """The same dictionary opens a protocol of salted hashes completely, where the salt is known to the parties."""
    hashed = {hashlib.sha256(name.encode()).digest()[:16] for name in COMMON}
    assert dictionary_hits(hashed, COMMON) == len(COMMON)

    driver = align(COMMON + GUEST_ONLY, HOST_ONLY + COMMON)
    assert dictionary_hits(seen_values(driver), COMMON + GUEST_ONLY + HOST_ONLY) == 0


def test_the_same_dictionary_works_for_whoever_holds_the_exponent() -> None:
    """The attack is the right one, only the exponent is missing: with it every blinded row of the guest is found."""
    driver = align(COMMON + GUEST_ONLY, HOST_ONLY + COMMON)
    state = next(e.after for e in driver.trace if isinstance(e.after, GuestAlignment) and e.after.links[0].ready)
    assert isinstance(state, GuestAlignment)
    guesses = COMMON + GUEST_ONLY + HOST_ONLY
    chunk = replace(state.links[0], ids=(Blob.of(json.dumps(guesses).encode()),), sent=0)
    candidates = blind(secret_of("guest"), state.setup, "guest", chunk).points
    seen = seen_values(driver)
    found = [name for k, name in enumerate(guesses) if candidates[32 * k : 32 * k + 16] in seen]
    assert found == COMMON + GUEST_ONLY


def test_two_runs_of_one_job_on_different_tables_share_no_value() -> None:
    """A party that is run again on corrected data must not let its peer subtract one transcript from the other."""
    first = seen_values(align(COMMON + GUEST_ONLY, COMMON))
    second = seen_values(align(COMMON + GUEST_ONLY[1:] + ["another"], COMMON))
    assert not first & second
    assert first == seen_values(align(COMMON + GUEST_ONLY, COMMON))


def test_positions_do_not_show_the_order_of_either_table() -> None:
    """Rank correlation of joint order, both tables' orders and the positions sent is that of chance."""
    names = [f"person-{n}" for n in range(400)]
    driver = align(names, names)
    rows = {
        party: np.frombuffer(driver.handed_over[party, "train"][0].rows.content, "<u4")  # type: ignore[attr-defined]
        for party in ("guest", "host")
    }
    assert (rows["guest"] == rows["host"]).all()
    positions = np.frombuffer(b"".join(r.positions for r in records_of(driver) if isinstance(r, MatchedRows)), "<u4")
    natural = np.arange(400)
    for one, other in ((rows["guest"], natural), (positions, natural), (positions, rows["host"])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2  # Four standard deviations of chance.


# --- the curve trap that the choice of group avoids ---

_P = 2**255 - 19
_A = 486_662


def on_curve(u: int) -> bool:
    """Whether u is the coordinate of a point of Curve25519 itself and not of its twist, by Euler's criterion."""
    return pow(u * (u * u + _A * u + 1), (_P - 1) // 2, _P) in (0, 1)


def multiply_x25519(u: int, scalar_bytes: bytes) -> int:
    """RFC 7748, section 5, with integers."""
    k = int.from_bytes(scalar_bytes, "little") & ~7 & ((1 << 255) - 1) | (1 << 254)
    x1, x2, z2, x3, z3, swap = u, 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = (k >> t) & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b = (x2 + z2) % _P, (x2 - z2) % _P
        c, d = (x3 + z3) % _P, (x3 - z3) % _P
        da, cb, aa, bb = d * a % _P, c * b % _P, a * a % _P, b * b % _P
        e = (aa - bb) % _P
        x3, z3 = (da + cb) ** 2 % _P, x1 * (da - cb) ** 2 % _P
        x2, z2 = aa * bb % _P, e * (aa + 121_665 * e) % _P
    if swap:
        x2, z2 = x3, z3
    return x2 * pow(z2, _P - 2, _P) % _P


@pytest.mark.parametrize("path", PATHS)
def test_hashing_to_x25519_shows_a_bit_of_every_identifier(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SHA-256(id) as u-coordinate: the side of the twist survives blinding, so a dictionary shrinks by half.

    Ristretto255 has no twist to be on: its map gives points of the one group, and its decoder refuses the rest.
    """
    take_path(monkeypatch, path)
    exponent = hashlib.sha256(b"an exponent").digest()
    sides = set()
    for n in range(24):
        u = int.from_bytes(hashlib.sha256(f"person-{n}".encode()).digest(), "little") % 2**255 % _P
        assert on_curve(multiply_x25519(u, exponent)) == on_curve(u)
        sides.add(on_curve(u))
    assert sides == {True, False}

    refused = 0
    for n in range(64):
        raw = hashlib.sha256(f"person-{n}".encode()).digest()
        try:
            multiply(raw, scalar(exponent))
        except ValueError:
            refused += 1
        multiply(hash_to_points(hashlib.sha512(raw).digest()), scalar(exponent))
    assert refused >= 40  # About 15 of 16 strings are no ristretto255 encodings; digests never go in undecoded.
