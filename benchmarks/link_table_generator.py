"""Generates the public tables of the link functions in streams/kernels/link_tables: run once, pin, never at run time.

    python -m benchmarks.link_table_generator            write the tables and print their digests
    python -m benchmarks.link_table_generator --check    recompute and compare with what is stored

Basis: sigma(a + b) on [-A, A] x [-B, B]; phi_0(a) is the mean over b; the rest is a truncated singular value
decomposition. The even basis weighs both sides by the Chebyshev density 1 / sqrt(1 - x^2), which costs a little in the
middle and takes the sup error down by a factor 2 to 4 against the uniform weight; the centred basis weighs them by
(1 - x^2)^4, about a normal density of a third of the clip. Singular functions are carried from the
quadrature nodes to the table points by the Nystroem formula, scaled so that max |phi_k| = max |psi_k|, positive at
a = A, and rounded to 2^-14 (phi_0: 2^-28). Singular values are separated by factors, so machines with different
LAPACKs agree to about 1e-11 before rounding and the integers are the same; --check proves it.
"""

from __future__ import annotations

import argparse
import decimal
from pathlib import Path

import gmpy2
import numpy as np
from numpy.typing import NDArray

from streams.kernels import link_table
from streams.kernels.fixed_point import LINK_BITS, RESIDUAL_BITS
from streams.kernels.link_table import POINTS, Basis, LinkTable, TableArrays
from streams.kernels.link_tables import arrays_digest
from streams.kernels.sigmoid import SIGMOID_POINTS, SIGMOID_STEP_BITS

FOLDER = Path(link_table.__file__).parent / "link_tables"
NODES = 400
#: Weights of the Chebyshev nodes: (1 - x^2) to this power, i.e. the densities (1 - x^2)^-1/2 and (1 - x^2)^4.
WEIGHT_POWER = {Basis.EVEN: 0.0, Basis.CENTRED: 4.5}
#: A table ends at the first rank whose sup error is below this, and never before MIN_RANK.
TARGET_SUP_ERROR = 5e-4
MIN_RANK = 8
MAX_RANK = {Basis.EVEN: 44, Basis.CENTRED: 12}
#: Beyond this the singular functions are noise of the decomposition.
SMALLEST_SINGULAR_VALUE = 1e-10
#: Points per side of the grid on which the sup error is measured: it meets table points and the gaps between.
ERROR_GRID = 1366


def sigma(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function, without overflow."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def make_table(basis: Basis, guest_clip: int, host_clip: int) -> TableArrays:
    """The integer basis of one box and its measured sup errors by rank."""
    nodes = np.cos((np.arange(NODES) + 0.5) * np.pi / NODES)
    weights = (1.0 - nodes * nodes) ** WEIGHT_POWER[basis]
    weights /= weights.sum()
    roots = np.sqrt(weights)
    a_nodes, b_nodes = guest_clip * nodes, host_clip * nodes
    kernel = sigma(a_nodes[:, None] + b_nodes[None, :])
    means = kernel @ weights
    left, singular, right_t = np.linalg.svd((kernel - means[:, None]) * roots[:, None] * roots)
    ranks = min(MAX_RANK[basis], int(np.count_nonzero(singular > SMALLEST_SINGULAR_VALUE)))
    on_a = sigma(guest_clip * np.linspace(-1.0, 1.0, POINTS)[:, None] + b_nodes)
    on_b = sigma(a_nodes[:, None] + host_clip * np.linspace(-1.0, 1.0, POINTS))
    phi_0 = on_a @ weights
    phi = (on_a - phi_0[:, None]) @ (right_t[:ranks].T * roots[:, None])
    psi = (on_b - means[:, None]).T @ (left[:, :ranks] * roots[:, None]) / singular[:ranks]
    phi_top, psi_top = np.abs(phi).max(axis=0), np.abs(psi).max(axis=0)
    balance = np.sqrt(psi_top / phi_top) * np.sign(phi[-1])
    phi, psi = phi * balance, psi / balance
    arrays = TableArrays(
        phi_0=np.rint(np.ldexp(phi_0, RESIDUAL_BITS)).astype(np.int32),
        phi=np.rint(np.ldexp(phi, LINK_BITS)).astype(np.int16),
        psi=np.rint(np.ldexp(psi, LINK_BITS)).astype(np.int16),
        sup_error=np.zeros(ranks),
    )
    exact, rounded = sup_errors(LinkTable(basis, guest_clip, host_clip, arrays), phi, psi, phi_0)
    reached = np.flatnonzero(rounded <= TARGET_SUP_ERROR)
    ranks = max(MIN_RANK, int(reached[0]) + 1) if reached.size else ranks
    for rank in (4, 6, 8, ranks):
        print(f"  {basis} ({guest_clip},{host_clip}) R={rank}: {exact[rank - 1]:.2e}, integers {rounded[rank - 1]:.2e}")
    stored = np.array([round_up(float(error)) for error in rounded[:ranks]])
    return TableArrays(arrays.phi_0, arrays.phi[:, :ranks].copy(), arrays.psi[:, :ranks].copy(), stored)


def round_up(error: float) -> float:
    """Three significant digits, upwards from half a percent and a quarter table unit more.

    The grid misses the true maximum by less, and the last bits of a machine's exp do not enter the digest.
    """
    return float(
        decimal.Context(prec=3, rounding=decimal.ROUND_CEILING).create_decimal(error * 1.005 + 2.0 ** -(LINK_BITS + 2))
    )


def sup_errors(
    table: LinkTable,
    phi: NDArray[np.float64],
    psi: NDArray[np.float64],
    phi_0: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sup error by rank of the real basis (on table points) and of the integer tables (between them too)."""
    guest_clip, host_clip = table.guest_clip, table.host_clip
    coarse = slice(None, None, 8)
    grid = np.linspace(-1.0, 1.0, POINTS)[coarse]
    rest = sigma(guest_clip * grid[:, None] + host_clip * grid[None, :]) - phi_0[coarse, None]
    exact = np.zeros(phi.shape[1])
    for k in range(phi.shape[1]):
        rest -= phi[coarse, k : k + 1] * psi[coarse, k]
        exact[k] = np.abs(rest).max()
    a = link_table.grid_logits(guest_clip, ERROR_GRID)
    b = link_table.grid_logits(host_clip, ERROR_GRID)
    phi_int, psi_int = table.phi(a, table.max_rank), table.psi(b, table.max_rank)
    real_a, real_b = link_table.as_real(a), link_table.as_real(b)
    rest = sigma(real_a[:, None] + real_b[None, :]) - np.ldexp(phi_int[:, :1].astype(np.float64), -RESIDUAL_BITS)
    rounded = np.zeros(table.max_rank)
    for k in range(table.max_rank):
        rest -= np.ldexp((phi_int[:, k + 1 : k + 2] * psi_int[:, k]).astype(np.float64), -RESIDUAL_BITS)
        rounded[k] = np.abs(rest).max()
    return exact, rounded


def make_sigmoid() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """sigma(z) and log(1 + e^-z) at z = k 2^-9, k = 0..12288, with 28 fractional bits, correctly rounded by MPFR."""
    sigmas, losses = [], []
    with gmpy2.context(precision=128):
        for k in range(SIGMOID_POINTS):
            tail = gmpy2.exp(-gmpy2.mpfr(k) / 2**SIGMOID_STEP_BITS)
            sigmas.append(int(gmpy2.rint((1 / (1 + tail)) * 2**RESIDUAL_BITS)))
            losses.append(int(gmpy2.rint(gmpy2.log1p(tail) * 2**RESIDUAL_BITS)))
    return np.array(sigmas, dtype=np.int32), np.array(losses, dtype=np.int32)


def main() -> None:
    """Write or check every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the stored tables instead of writing")
    check = parser.parse_args().check
    FOLDER.mkdir(exist_ok=True)
    files: dict[str, dict[str, NDArray[np.generic]]] = {}
    for key in link_table.TABLES:
        arrays = make_table(*key)
        name = link_table.file_name(*key)
        files[name] = {"phi_0": arrays.phi_0, "phi": arrays.phi, "psi": arrays.psi, "sup_error": arrays.sup_error}
        basis, *box = key
        print(f'    (Basis.{basis.name}, {box[0]}, {box[1]}): "{link_table.content_digest(*key, arrays).hex()}",')
    sigmas, losses = make_sigmoid()
    files["sigmoid.npz"] = {"sigma": sigmas, "loss": losses}
    print(f'sigmoid: "{arrays_digest("sigmoid", (sigmas, losses)).hex()}"')
    for name, columns in files.items():
        if check:
            with np.load(FOLDER / name) as stored:
                same = set(stored.files) == set(columns) and all(
                    np.array_equal(stored[k], v) for k, v in columns.items()
                )
            print(f"{name}: {'same' if same else 'DIFFERS'}")
            if not same:
                raise SystemExit(1)
        else:
            np.savez_compressed(FOLDER / name, allow_pickle=False, **columns)


if __name__ == "__main__":
    main()
