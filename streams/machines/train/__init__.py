"""The train stage: vertical logistic regression. `protocol.py` has the order of things and what they reveal."""

from streams.machines.train.machine import TrainMachine, phase_of
from streams.machines.train.protocol import TRANSITIONS

__all__ = ["TRANSITIONS", "TrainMachine", "phase_of"]
