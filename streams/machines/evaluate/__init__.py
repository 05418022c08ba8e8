"""Evaluation on the hold-out: hosts tell their part of each logit, the guest measures."""

from streams.machines.evaluate.machine import EvaluateMachine

__all__ = ["EvaluateMachine"]
