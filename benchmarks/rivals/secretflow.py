"""SecretFlow's logistic regressions, each party in a process: `python -m benchmarks.rivals.secretflow TABLE ss|hess`.

TABLE is a `.npz` file with the aligned rows: `guest`, `host` (standardised features), `label`, and `training`, the
number of rows to train on; the others are the hold-out. `ss` shares everything (SEMI2K, whose dealer of random numbers
is one of the parties: its fastest protocol, and the weakest); `hess` encrypts with 2048-bit Paillier, shares the rest.
Alignment, TLS, and a record of what happened are not part of it.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals.tables import free_ports, peak_megabytes

NAMES = ("guest", "host")

#: Passes over the data and the step size; the rows of one step grow with the table.
PASSES, LEARNING_RATE, L2 = {"ss": 8, "hess": 2}, 0.3, 0.01


def rows_a_step(rows: int) -> int:
    """A sixteenth of the table, from 64 to 1024."""
    return min(1024, max(64, rows // 16))


def take_part(name: str, protocol: str, table: Path, ports: list[int], reports: Any) -> None:
    """One party of the run; the guest tells what came out."""
    import secretflow
    from secretflow.data import FedNdarray, PartitionWay
    from secretflow.ml.linear.hess_sgd import HESSLogisticRegression
    from secretflow.ml.linear.ss_sgd import SSRegression

    addresses = dict(zip(NAMES, ports, strict=False))
    parties = {party: {"address": f"127.0.0.1:{p}", "listen_addr": f"127.0.0.1:{p}"} for party, p in addresses.items()}
    secretflow.init(cluster_config={"parties": parties, "self_party": name}, ray_mode=False)
    guest, host = (secretflow.PYU(party) for party in NAMES)
    nodes = [{"party": party, "address": f"127.0.0.1:{port}"} for party, port in zip(NAMES, ports[2:], strict=True)]
    spu = secretflow.SPU({"nodes": nodes, "runtime_config": {"protocol": "SEMI2K", "field": "FM128"}})

    with np.load(table) as data:
        columns = {party: data[party] for party in NAMES}
        label, training = data["label"], int(data["training"])

    def features(rows: slice) -> Any:
        parts = {guest: guest(lambda: columns["guest"][rows])(), host: host(lambda: columns["host"][rows])()}
        return FedNdarray(parts, PartitionWay.VERTICAL)

    known = FedNdarray({guest: guest(lambda: label[:training])()}, PartitionWay.VERTICAL)
    began, spent = time.perf_counter(), time.process_time()
    size, passes = rows_a_step(training), PASSES[protocol]
    if protocol == "ss":
        model = SSRegression(spu)
        model.fit(features(slice(training)), known, passes, LEARNING_RATE, size, "t1", "logistic", "l2", L2)
    else:
        keys = [secretflow.HEU(heu_config(keeper), spu.cluster_def["runtime_config"]["field"]) for keeper in NAMES]
        model = HESSLogisticRegression(spu, keys[1], keys[0])
        model.fit(features(slice(training)), known, LEARNING_RATE, passes, size)
    predicted = secretflow.reveal(model.predict(features(slice(training, None))))
    report = {
        "name": name,
        "passes": passes,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - spent,
        "memory_mb": peak_megabytes(),
        "auc": area(label[training:], np.asarray(predicted).ravel()),
    }
    reports.put(report)
    secretflow.shutdown()


def heu_config(keeper: str) -> dict[str, Any]:
    """One party has the private key, the other one computes."""
    other = NAMES[1 - NAMES.index(keeper)]
    return {
        "sk_keeper": {"party": keeper},
        "evaluators": [{"party": other}],
        "mode": "PHEU",
        "encoding": {"cleartext_type": "DT_I32", "encoder": "IntegerEncoder", "encoder_args": {"scale": 1}},
        "he_parameters": {"schema": "zpaillier", "key_pair": {"generate": {"bit_size": 2048}}},
    }


def area(label: Any, score: Any) -> float:
    """The area under the ROC curve, by ranks; ties count half."""
    above = score[label == 1][:, None] - score[label == 0][None, :]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def main() -> None:
    """Run both parties; processor seconds are of both together, memory of the one that took more."""
    table, protocol = Path(sys.argv[1]), sys.argv[2]
    processes = multiprocessing.get_context("spawn")
    reports = processes.Queue()
    ports = free_ports(4)
    parties = [processes.Process(target=take_part, args=(name, protocol, table, ports, reports)) for name in NAMES]
    for party in parties:
        party.start()
    found = {report["name"]: report for report in (reports.get(timeout=1500) for _ in parties)}
    for party in parties:
        party.join(timeout=60)
        party.kill()
    result = {
        "passes": found["guest"]["passes"],
        "seconds": max(report["seconds"] for report in found.values()),
        "cpu_seconds": sum(report["cpu_seconds"] for report in found.values()),
        "memory_mb": max(report["memory_mb"] for report in found.values()),
        "auc": found["guest"]["auc"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
