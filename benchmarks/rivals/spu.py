"""SecretFlow's SPU, each party in a process of its own: `python -m benchmarks.rivals.spu ROWS ecdh|rr22`.

What the parties send each other goes through a relay that counts; it includes the framing of brpc, and costs time of
the clock but none of the parties' processors.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from spu import libspu, psi

from benchmarks.rivals.relay import Relay
from benchmarks.rivals.tables import free_ports, identifiers, peak_megabytes

NAMES = ("guest", "host")


def take_part(rank: int, protocol: str, folder: Path, ports: tuple[int, int], reports: Any) -> None:
    """One party: reads its table from a file, and writes the joint rows into another."""
    link = libspu.link.Desc()
    link.recv_timeout_ms = 3_600_000
    for name, port in zip(NAMES, ports, strict=True):
        link.add_party(name, f"127.0.0.1:{port}")
    if protocol == "ecdh":
        parameters = psi.EcdhParams(curve=psi.EllipticCurveType.CURVE_25519)
        chosen = {"protocol": psi.PsiProtocol.PROTOCOL_ECDH, "ecdh_params": parameters}
    else:
        chosen = {"protocol": psi.PsiProtocol.PROTOCOL_RR22}
    config = psi.PsiExecuteConfig(
        protocol_conf=psi.PsiProtocolConfig(receiver_rank=0, broadcast_result=True, **chosen),
        input_params=psi.InputParams(path=str(folder / f"{rank}.csv"), selected_keys=["id"], keys_unique=True),
        output_params=psi.OutputParams(path=str(folder / f"{rank}-joint.csv"), disable_alignment=True),
    )
    context = libspu.link.create_brpc(link, rank)
    began, spent = time.perf_counter(), time.process_time()
    report = psi.psi_execute(config, context)
    reports.put(
        {
            "joint_rows": report.intersection_count,
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - spent,
            "peak_megabytes": peak_megabytes(),
        }
    )
    context.stop_link()


def main() -> None:
    """Run both parties; processor seconds are of both together, memory of the one that took more."""
    rows, protocol = int(sys.argv[1]), sys.argv[2]
    processes = multiprocessing.get_context("spawn")
    reports = processes.Queue()
    own = free_ports(2)
    relays = [Relay(port) for port in own]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rank, ids in enumerate(identifiers(rows)):
            (folder / f"{rank}.csv").write_text("id\n" + "\n".join(ids) + "\n", encoding="ascii")
        # Each listens on its own port and knows the other one's relay.
        known = [(own[0], relays[1].port), (relays[0].port, own[1])]
        parties = [
            processes.Process(target=take_part, args=(rank, protocol, folder, known[rank], reports)) for rank in (0, 1)
        ]
        for party in parties:
            party.start()
        found = [reports.get(timeout=1800) for _ in parties]
        for party in parties:
            party.join()
    report = {
        "joint_rows": found[0]["joint_rows"],
        "seconds": max(one["seconds"] for one in found),
        "cpu_seconds": sum(one["cpu_seconds"] for one in found),
        "megabytes": sum(relay.counted for relay in relays) / 1e6,
        "peak_megabytes": max(one["peak_megabytes"] for one in found),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
