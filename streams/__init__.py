"""Kernels (numbers), machines (messages), the exactly-once engine (Kafka) and the read-side views."""
