"""Measured claims: `python -m benchmarks NAME --json`, each beside its rival or its limit."""
