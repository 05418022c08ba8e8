"""The coordinators' conversation: a job is submitted, agreed to by all, run stage by stage, and ended everywhere."""

from streams.machines.job.machine import JobMachine, phase_of
from streams.machines.job.policy import Policy
from streams.machines.job.validation import validate_spec

__all__ = ["JobMachine", "Policy", "phase_of", "validate_spec"]
