"""An embedded Apache Kafka, and Kafka's own command-line tools from the same jars."""

from infra.broker.embedded import BrokerError, EmbeddedBroker
from infra.broker.jars import JarError
from infra.broker.java import Compilers
from infra.broker.tools import ToolError, run_tool

__all__ = ["BrokerError", "Compilers", "EmbeddedBroker", "JarError", "ToolError", "run_tool"]
