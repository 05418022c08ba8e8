"""What a coordinator knows about its own party: which jobs it lets run without asking, and whom it can talk to."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.jobs import JobSpec, Leak, Privacy
from schemas.profiles import KeyProfile
from streams.machines.job.validation import LEAST_KEY_BITS


@dataclass(frozen=True)
class Policy:
    """A host approves a job by itself when `auto_approve` and `accept_leaks` covers all that the job may reveal."""

    auto_approve: bool
    accept_leaks: tuple[Leak, ...] = ()

    def approves(self, spec: JobSpec) -> bool:
        """Whether nobody needs to be asked."""
        return self.auto_approve and set(spec.accept_leaks) <= set(self.accept_leaks)


@dataclass(frozen=True)
class OwnParty:
    """The coordinator's own party. `peers` are those whose keys it has; `None`: that is not checked."""

    name: str
    policy: Policy
    peers: frozenset[str] | None = None
    #: Privacy classes that the federation lets jobs ask for.
    privacy: frozenset[Privacy] = frozenset(Privacy)
    least_key_bits: int = LEAST_KEY_BITS
    #: The furthest from exact randomisers that it lets them go.
    key_profile: KeyProfile = KeyProfile.EXACT
