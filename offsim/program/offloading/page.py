"""What a page of `offsim.program.systems` says about one offload policy, beside the commands that it issues."""

from collections.abc import Iterator
from typing import Generic, Literal, NamedTuple, TypeVar

from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario

from .hooks import PolicyProgram

Ladder = tuple[Policy, ...]
"""Policies that differ in one parameter, in order of growing device memory: a search takes some of those that fit,
and the last one that does."""
Replayed = Literal["streams", "library"]
"""streams: the stream program itself ran on GPUs. library: the real library ran, with its eager kernels and hooks."""
PolicyKind = TypeVar("PolicyKind", bound=Policy)


class LaunchLine(NamedTuple):
    """How a real system is asked for a policy."""

    system: str
    """The system's name, and from when on it can."""
    text: str
    """Flags or code to paste."""


class Page(Generic[PolicyKind]):
    """One policy. A subclass names its parameters and makes its program; the rest may stay as it is here."""

    parameters: type[PolicyKind]
    """The struct that the `policy` table of a scenario becomes; its tag is the policy's name."""
    listed: int = 100
    """Where it stands in lists and searches: lower numbers first, then by name."""
    replayed_as: Replayed | None = None
    """The kind of runs that its predictions were compared with; None: with none, and results say so."""

    def program(self, scenario: Scenario, policy: PolicyKind) -> PolicyProgram:
        """The hooks that issue the policy's commands, in their initial state."""
        raise NotImplementedError

    def refusal(self, scenario: Scenario, policy: PolicyKind) -> str:
        """Why no real system would run the scenario with this policy, with key and value; empty if one would."""
        return ""

    def candidates(self, scenario: Scenario) -> Iterator[Ladder]:
        """The parameter values that are worth searching for this model, workload and node.

        Every candidate costs some 5 ms for every way to run the request: some tens of a policy, not hundreds.
        """
        yield (self.parameters(),)

    def launch_lines(self, scenario: Scenario, policy: PolicyKind) -> Iterator[LaunchLine]:
        """How real systems are asked for this policy in this scenario; nothing where none is known to offer it."""
        yield from ()

    def rounding(self, policy: PolicyKind) -> str:
        """How the policy changes what the model computes; empty if it doesn't."""
        return ""

    def blocks_ahead(self, scenario: Scenario, policy: PolicyKind) -> int | None:
        """How many blocks the policy fetches ahead, where it streams blocks."""
        return None
