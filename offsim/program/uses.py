"""What the sections of a program are for: a request's uses of components, the steps of its denoising loop among them.

A request is an ordered list of uses: its prompt is encoded, its latents are denoised step by step, and decoded. All
uses are alike to those who bound, time and add up sections. Loading comes before all requests.
"""

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple, Protocol

UseKind = Literal["load", "encode", "denoise", "switch", "decode"]
"""A `switch` is a denoising step that begins with a change of experts."""
DENOISING: frozenset[UseKind] = frozenset(("denoise", "switch"))
"""The kinds of uses that the denoising loop is made of."""


class Use(NamedTuple):
    """One use of a component by a request: what a section of a program is for."""

    kind: UseKind
    component: str = ""
    """The name of the component; empty if the section uses none, or several."""
    request: int | None = 0
    """Which of the requests in a row, counted from 0; None before all of them."""
    step: int | None = None
    """Which denoising step of the request, counted from 0; None outside the denoising loop."""

    @property
    def is_step(self) -> bool:
        """Whether the use is a denoising step; one that begins with a switch is one, too."""
        return self.step is not None


LOADING = Use("load", request=None)
"""Everything before the first request: weights come into memory."""


class TimedUse(Protocol):
    """A use and how long it took."""

    @property
    def use(self) -> Use: ...

    @property
    def duration(self) -> float:
        """Seconds that the use took, as the slowest rank saw it."""
        ...


def total_seconds(timed: Iterable[TimedUse], kinds: Collection[UseKind] = DENOISING) -> float:
    """The seconds that all uses of these kinds took together; the denoising time, unless told otherwise."""
    return sum(one.duration for one in timed if one.use.kind in kinds)
