"""A party's auditor: what both ends of each stream of a job wrote down, signed by both or contradicted."""

from streams.machines.audit.machine import AuditMachine, Signer
from streams.machines.audit.protocol import TRANSITIONS

__all__ = ["TRANSITIONS", "AuditMachine", "Signer"]
