"""The joiner's work written with two stock stream processors: what a user would pick instead.

    python -m benchmarks._join_rivals faust|quixstreams BOOTSTRAP FOLDER

Two topics, `left` (a request and the guest's part) and `right` (the host's part), both keyed by the request's id, are
joined into `joined`: the sum of both parts, once a request. No sealing, no audit record, no deadlines. faust gives
at-least-once (its exactly-once loses records); quixstreams gives exactly-once, as the joiner does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LEFT, RIGHT, JOINED = "left", "right", "joined"


def run_faust(bootstrap: str, folder: Path) -> None:
    """One worker; the table's changelog is on the broker."""
    import faust

    app = faust.App(
        "rival-faust",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=str(folder / "faust"),
        topic_partitions=1,
        topic_replication_factor=1,
        web_enabled=False,
        processing_guarantee="at_least_once",
        broker_commit_interval=0.2,
        stream_wait_empty=False,
    )
    joined = app.topic(JOINED, key_type=bytes, value_type=bytes, value_serializer="raw")
    waiting = app.Table("waiting", partitions=1)

    async def join(stream: Any) -> None:
        async for key, value in stream.items():
            part = json.loads(value)
            name = key.decode()
            other = waiting.pop(name, None)
            if other is None:
                waiting[name] = part
            else:
                await joined.send(key=key, value=json.dumps({"logit": other["part"] + part["part"]}).encode())

    # Both topics in one agent: an entry is touched by one task only.
    app.agent(app.topic(LEFT, RIGHT, key_type=bytes, value_type=bytes, value_serializer="raw"))(join)
    worker = faust.Worker(app, override_logging=False, redirect_stdouts=False, quiet=True, loglevel="ERROR")
    worker.spinner = None
    worker.execute_from_commandline()


def run_quixstreams(bootstrap: str, folder: Path) -> None:
    """One application; its state is RocksDB with a changelog on the broker."""
    from quixstreams import Application

    app = Application(
        broker_address=bootstrap,
        consumer_group="rival-quixstreams",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=str(folder / "quixstreams"),
        commit_interval=0.2,
        loglevel="ERROR",
    )
    left = app.topic(LEFT, key_deserializer="bytes", value_deserializer="json")
    right = app.topic(RIGHT, key_deserializer="bytes", value_deserializer="json")
    joined = app.topic(JOINED, key_serializer="bytes", value_serializer="json")

    def join(part: dict[str, Any], state: Any) -> dict[str, Any] | None:
        other = state.get("part")
        if other is None:
            state.set("part", part["part"])
            return None
        state.delete("part")
        return {"logit": other + part["part"]}

    parts = app.dataframe(left).concat(app.dataframe(right))
    parts.apply(join, stateful=True).filter(lambda value: value is not None).to_topic(joined)
    app.run()


if __name__ == "__main__":
    {"faust": run_faust, "quixstreams": run_quixstreams}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
