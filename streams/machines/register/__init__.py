"""Registration: every party keeps its half, and all registries tell the same model."""

from streams.machines.register.machine import RegisterMachine

__all__ = ["RegisterMachine"]
