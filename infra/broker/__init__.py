"""An embedded Apache Kafka from packages alone."""
