"""Private set intersection: which rows the parties share, without showing the others."""

from streams.machines.align.machine import AlignMachine

__all__ = ["AlignMachine"]
