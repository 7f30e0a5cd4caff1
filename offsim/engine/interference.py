"""How much longer kernels and collectives take beside what, from what a node says of their interference.

A slowdown counts as in use once its victim has run while its aggressor was active.
"""

from offsim.program.commands import CollectiveName
from offsim.scenario.interference import Interference, KernelInterference
from offsim.scenario.quantity import Quantity

from .durations import Pieces
from .values_in_use import ValuesInUse

OTHER_KIND = {"all-to-all": "all-gather", "all-gather": "all-to-all"}
"""The collective that a kind of collective meets on its way."""
LossShares = tuple[tuple[str, float], ...]
"""(culprit, part of the time lost)."""
UNSLOWED: tuple[float, LossShares] = (1.0, ())


def beside(victim: str, aggressor: str) -> str:
    """What a program has once a victim runs beside an aggressor: the subject of the slowdown's value."""
    return f"{victim} beside {aggressor}"


def kernel_slowdowns(interference: KernelInterference, values: ValuesInUse) -> dict[str, dict[str, float]]:
    """Relative slowdowns of kernels, by class and aggressor: {"gemm": {"H2D": 0.09}} makes products 9 % longer."""
    found: dict[str, dict[str, float]] = {}
    for kernel_class in interference.__struct_fields__:
        by = _slowdowns(getattr(interference, kernel_class), "collective")
        if by:
            found[kernel_class] = {
                aggressor: values.number_about(slowdown, beside(kernel_class, aggressor)) for aggressor, slowdown in by
            }
    return found


def collective_slowdowns(
    interference: Interference, kind: CollectiveName, values: ValuesInUse
) -> tuple[tuple[str, float], ...]:
    """Slowdowns of a kind of collective as (aggressor, relative slowdown), in alphabetical order."""
    by = _slowdowns(interference, OTHER_KIND[kind]) if kind in OTHER_KIND else ()
    return tuple(
        sorted((aggressor, values.number_about(slowdown, beside(kind, aggressor))) for aggressor, slowdown in by)
    )


def _slowdowns(interference: Interference, collective: str) -> list[tuple[str, Quantity]]:
    """(aggressor, slowdown) of a victim; `collective` is what a collective beside it is called."""
    named = (("H2D", interference.h2d), ("D2H", interference.d2h), (collective, interference.collective))
    return [(aggressor, slowdown) for aggressor, slowdown in named if slowdown is not None]


class Surroundings:
    """What is active beside the kernels, and what that does to them: the same whenever the same things are active."""

    def __init__(self, active: frozenset[str], slowdowns: dict[str, dict[str, float]], values: ValuesInUse) -> None:
        self.active = active
        self._slowdowns, self._values = slowdowns, values
        self._met: set[int] = set()
        self.of_class: dict[str, tuple[float, LossShares]] = {}
        """Kernel class -> (how many times longer, whom that is charged to)."""
        self._rests: dict[int, list[float]] = {}
        self._lost: dict[int, dict[str, float]] = {}
        for kernel_class, by in slowdowns.items():
            guilty = {aggressor: slowdown for aggressor, slowdown in by.items() if aggressor in active}
            factor, total = 1.0, sum(guilty.values())
            for slowdown in guilty.values():
                factor *= 1 + slowdown
            shares = [(f"{aggressor} interference", s / total) for aggressor, s in guilty.items() if s > 0]
            self.of_class[kernel_class] = (factor, tuple(shares))

    def meet(self, pieces: Pieces) -> None:
        """Say that kernels run here: what slows them counts from now on. `pieces` live as long as the run."""
        if id(pieces) not in self._met:
            self._met.add(id(pieces))
            for piece in pieces:
                for aggressor in self.active.intersection(self._slowdowns.get(piece.kernel_class, ())):
                    self._values.occurs(beside(piece.kernel_class, aggressor))

    def rests(self, pieces: Pieces) -> list[float]:
        """The seconds that all later pieces take here, for each one. `pieces` live as long as the run."""
        rests = self._rests.get(id(pieces))
        if rests is None:
            rests = self._rests[id(pieces)] = [0.0] * len(pieces)
            for i in range(len(pieces) - 1, 0, -1):
                factor, _ = self.of_class.get(pieces[i].kernel_class, UNSLOWED)
                rests[i - 1] = rests[i] + pieces[i].seconds * factor
        return rests

    def lost(self, pieces: Pieces) -> dict[str, float]:
        """Seconds by culprit that all of the pieces lose here. `pieces` live as long as the run."""
        lost = self._lost.get(id(pieces))
        if lost is None:
            lost = self._lost[id(pieces)] = {}
            for piece in pieces:
                factor, shares = self.of_class.get(piece.kernel_class, UNSLOWED)
                for culprit, share in shares:
                    lost[culprit] = lost.get(culprit, 0.0) + piece.seconds * (factor - 1) * share
        return lost
