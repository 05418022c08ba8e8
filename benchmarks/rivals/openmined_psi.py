"""OpenMined's PSI, both parties in one process: `python -m benchmarks.rivals.openmined_psi ROWS`.

The server's set travels as such, without a filter: nothing is found that is not there.
"""

from __future__ import annotations

import json
import sys
import time

import private_set_intersection.python as psi

from benchmarks.rivals.tables import identifiers, peak_megabytes


def main() -> None:
    """Intersect, count, report."""
    rows = int(sys.argv[1])
    guest, host = identifiers(rows)
    began, spent = time.perf_counter(), time.process_time()
    client, server = psi.client.CreateWithNewKey(True), psi.server.CreateWithNewKey(True)
    setup = server.CreateSetupMessage(1e-9, rows, host, psi.DataStructure.RAW)
    request = client.CreateRequest(guest)
    response = server.ProcessRequest(request)
    found = client.GetIntersection(setup, response)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - spent
    report = {
        "joint_rows": len(found),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "megabytes": sum(len(message.SerializeToString()) for message in (setup, request, response)) / 1e6,
        "peak_megabytes": peak_megabytes(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
