"""A party's own register of cohorts: what its jobs revealed of the same rows, all together."""

from streams.machines.cohort.machine import CohortMachine
from streams.machines.cohort.protocol import TRANSITIONS

__all__ = ["TRANSITIONS", "CohortMachine"]
