"""What all runs and bounds of one program of one scenario have in common: worked out once, as it is needed."""

from offsim.program.commands import StreamProgram
from offsim.scenario.scenario import Scenario

from .durations import Durations
from .fabric import Fabric
from .folding import FoldedFabric, fold
from .host_costs import HostCosts
from .issue import Plans
from .symmetry import Symmetry, find_symmetry
from .values_in_use import ValuesInUse


class Prepared:
    """The plans of what hosts will issue, which ranks are alike, and the fabrics that transfers use."""

    def __init__(self, scenario: Scenario, program: StreamProgram) -> None:
        self.scenario, self.program = scenario, program
        overheads = scenario.node.host.overheads
        self.values = ValuesInUse()
        """What of the node runs and bounds have read."""
        self.durations = Durations(scenario, self.values)
        self.costs = HostCosts(overheads, self.values)
        self.plans = Plans(self.costs, self.durations, overheads.queue_depth)
        self._symmetry: Symmetry | None = None
        self._fabrics: dict[bool, Fabric] = {}
        self._folded: dict[bool, FoldedFabric | None] = {}

    def fabric(self, *, proportional_weight: bool = False) -> Fabric:
        """The fabric of the scenario's node."""
        if proportional_weight not in self._fabrics:
            node, groups = self.scenario.node, self.program.groups
            self._fabrics[proportional_weight] = Fabric(node, groups, proportional_weight, self.values)
        return self._fabrics[proportional_weight]

    def folded(self, *, proportional_weight: bool = False) -> FoldedFabric | None:
        """The node's fabric, folded; None if no ranks are alike, whatever the weights of collectives."""
        if self.program.ranks == 1:
            return None
        if proportional_weight not in self._folded:
            fabric = self.fabric(proportional_weight=proportional_weight)
            self._symmetry = self._symmetry or find_symmetry(fabric, self.program)
            self._folded[proportional_weight] = fold(fabric, self._symmetry)
        return self._folded[proportional_weight]
