"""An embedded Apache Kafka, and Kafka's own command-line tools from the same jars."""

from infra.broker.embedded import BrokerError, EmbeddedBroker
from infra.broker.jars import JarError
from infra.broker.java import Tuning
from infra.broker.tools import ToolError, run_tool

__all__ = ["BrokerError", "EmbeddedBroker", "JarError", "ToolError", "Tuning", "run_tool"]
