"""The exactly-once loop: everything between a Kafka topic and a machine."""
