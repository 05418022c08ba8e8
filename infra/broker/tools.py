"""Kafka's own command-line tools, run from the jars of the embedded broker: what operators use, tests use as well."""

from __future__ import annotations

import subprocess
from pathlib import Path

from infra.broker.jars import fetch_jars
from infra.broker.java import java_command

#: Names as in the `bin` folder of a Kafka distribution.
TOOLS = {
    "kafka-acls": "org.apache.kafka.tools.AclCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-dump-log": "kafka.tools.DumpLogSegments",
    "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-transactions": "org.apache.kafka.tools.TransactionsCommand",
}
TOOL_DEADLINE_SECONDS = 60.0


class ToolError(Exception):
    """A tool ended with an error; the message holds what it wrote."""


def run_tool(name: str, *arguments: str, cache: Path | None = None) -> str:
    """What the tool printed on standard output. Raises `ToolError`, `JarError`.

    >>> run_tool("kafka-consumer-groups", "--bootstrap-server", broker.bootstrap, "--all-groups", "--describe")
    """
    if name not in TOOLS:
        raise ToolError(f"no tool {name!r}; there are {', '.join(sorted(TOOLS))}")
    command = java_command(fetch_jars(cache), TOOLS[name], *arguments, options=("-Xmx256m",))
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=TOOL_DEADLINE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{name} took over {TOOL_DEADLINE_SECONDS:.0f} s") from error
    if done.returncode != 0:
        raise ToolError(f"{name} {' '.join(arguments)} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
