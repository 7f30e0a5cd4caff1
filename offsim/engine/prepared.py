"""What all runs and bounds of one program of one scenario have in common: worked out once, as it is needed."""

from offsim.program.commands import StreamProgram
from offsim.scenario.scenario import Scenario

from .durations import Durations
from .fabric import Fabric
from .folding import FoldedFabric, fold
from .host_costs import HostCosts
from .issue import Plans
from .symmetry import Symmetry, find_symmetry


class Prepared:
    """The plans of what hosts will issue, and which ranks are alike."""

    def __init__(self, scenario: Scenario, program: StreamProgram) -> None:
        self.scenario, self.program = scenario, program
        overheads = scenario.node.overheads
        self.durations = Durations(scenario)
        self.costs = HostCosts(overheads)
        self.plans = Plans(self.costs, self.durations, overheads.queue_depth)
        self._symmetry: Symmetry | None = None

    def fold(self, fabric: Fabric) -> FoldedFabric | None:
        """A fabric of the scenario's node folded for the program; None if no ranks are alike.

        Which ranks are does not depend on the weights of collectives, in which fabrics differ.
        """
        if self.program.ranks == 1:
            return None
        if self._symmetry is None:
            self._symmetry = find_symmetry(fabric, self.program)
        return fold(fabric, self._symmetry)
