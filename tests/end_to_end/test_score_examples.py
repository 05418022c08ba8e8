"""The examples of online scoring: run as a stranger would, on a real broker, where a thread plays the joiner."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import examples.score_request
from infra.broker import EmbeddedBroker
from schemas.codec import decode, encode
from schemas.scoring import Outcome, Purpose, RequestFeature, ScoreReason, ScoreRequested
from tests.producers.score_responder import Responder, points_of, scored
from tests.views.score_cases import BEGAN_US, joined

FOLDER = Path(examples.score_request.__file__).parent
MINUTE_US = 60_000_000


@pytest.fixture
def party(new_party: Callable[[str], str], make_party_topics: Callable[..., object]) -> str:
    name = new_party("bank")
    make_party_topics(name)
    return name


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The example, run alone: not from this folder, and without this project on its path."""
    command = [sys.executable, "-I", str(FOLDER / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd="/")


@pytest.mark.parametrize("script", ["score_request.py", "score_results_stream.py"])
def test_an_example_imports_nothing_of_ours(script: str) -> None:
    tree = ast.parse((FOLDER / script).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module.split(".")[0] for module in modules} & {"schemas", "streams", "infra", "producers", "consumers"}


def test_what_the_example_writes_is_a_live_request_with_all_defaults() -> None:
    schema = json.loads(examples.score_request.REQUEST_SCHEMA.read_text())
    fields = {"request_id": "r", "model": "m", "entity_id": "C1", "requested_at_ms": 5, "deadline_ms": 9}
    assert decode(examples.score_request.encode(fields, schema)) == ScoreRequested("r", "m", "C1", 5, 9)


def test_what_the_example_reads_is_the_result_and_nothing_else() -> None:
    schemas = examples.score_request.load_result_schemas(examples.score_request.SCHEMAS)
    result = joined()
    assert examples.score_request.decode(encode(result), schemas)["points"] == result.points
    with pytest.raises(ValueError, match="not a ScoreJoined"):
        examples.score_request.decode(encode(ScoreRequested("r", "m", "C1", 5, 9)), schemas)


def test_the_requesting_example_prints_its_own_outcome(broker: EmbeddedBroker, party: str) -> None:
    """Not one that was taken back, nor one of another request."""
    with Responder(broker.bootstrap, party, scored, lambda request: replace(scored(request), points=1)) as responder:
        responder.write(replace(scored(ScoreRequested("other", "m", "C9", 0, 1)), points=2))
        done = run(
            "score_request.py", "--bootstrap", broker.bootstrap, "--party", party, "--model", "credit-risk@live",
            "--deadline-ms", "120000", "--feature", "age=41.5", "--request-id", "order-1", "C0077",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["request_id"], told["outcome"], told["points"]) == ("order-1", "scored", points_of("C0077"))
    ((message, request),) = responder.requests
    assert message.key() == b"order-1"
    assert (request.model, request.features, request.purpose) == (
        "credit-risk@live",
        (RequestFeature("age", 41.5),),
        Purpose.LIVE,
    )


def test_the_requesting_example_names_the_request_that_has_no_outcome(broker: EmbeddedBroker, party: str) -> None:
    arguments = ("--party", party, "--model", "m", "--deadline-ms", "1", "--request-id", "order-2", "C1")
    with Responder(broker.bootstrap, party, lambda request: None):
        done = run("score_request.py", "--bootstrap", broker.bootstrap, *arguments)
    assert done.returncode == 1
    assert "no outcome of request order-2 in time" in done.stderr


def test_the_stream_processor_counts_committed_live_outcomes_by_minute(broker: EmbeddedBroker, party: str) -> None:
    late: dict[str, Any] = {"outcome": Outcome.DEGRADED, "reason": ScoreReason.LATE, "party": "bureau"}
    with Responder(broker.bootstrap, party) as responder:
        minutes = (BEGAN_US, BEGAN_US + MINUTE_US)
        results = [joined(at, request_id=f"s{i}-{at}") for at in minutes for i in range(10)]
        results += [joined(minutes[1], request_id=f"l{i}", **late) for i in range(3)]
        results += [joined(minutes[1], request_id=f"p{i}", purpose=Purpose.PARITY) for i in range(4)]
        responder.write(*[joined(minutes[0], request_id=f"never{i}") for i in range(5)], abort=True)
        responder.write(*results)
    done = run(
        "score_results_stream.py", "--bootstrap", broker.bootstrap, "--party", party, "--group", f"stream-{party}",
        "--idle-seconds", "8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    last: Counter[tuple[str, str]] = Counter()
    for line in done.stdout.splitlines():
        told = json.loads(line)
        last[told["minute"], told["outcome"]] = told["count"]
    first, second = (datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%dT%H:%MZ") for at in minutes)
    assert last == {(first, "scored"): 10, (second, "scored"): 10, (second, "degraded"): 3}
