"""What the streams of one rank share: its multiprocessors and copy engines, its ways to the host and to other ranks."""

from collections.abc import Callable

from offsim.program.commands import Collective, Copy
from offsim.program.timeline import Timeline

from .agenda import Agenda, Callback
from .collective import Channel, CollectivesInFlight, Meeting
from .copy_engine import CopyEngine
from .fabric import Fabric
from .folding import FoldedFabric
from .gpu import Multiprocessors
from .network import Classes, Network
from .prepared import Prepared
from .queue import IssuedPassage


class Device:
    """One simulated GPU, with everything but its streams."""

    def __init__(
        self,
        agenda: Agenda,
        index: int,
        prepared: Prepared,
        fabric: Fabric | FoldedFabric,
        network: Network,
        collectives: CollectivesInFlight,
        timeline: Timeline,
    ) -> None:
        self.index = index
        scenario = prepared.scenario
        self._values, self._pcie = prepared.values, scenario.node.wiring.pcie
        self._setup: dict[int, float] = {}
        """Fixed seconds of copies, by their calls."""
        self._fabric = fabric
        self.network = network
        self._collectives = collectives
        self.timeline = timeline
        self.gpu = Multiprocessors(agenda, scenario.node, scenario.simulation, prepared.values)
        self.engines = {"H2D": CopyEngine(agenda), "D2H": CopyEngine(agenda)}
        self.kept: dict[str, str] = {}
        """Direction -> the stream that keeps its engine for its next copy."""
        self.groups: dict[str, tuple[int, ...]] = {}
        """The device's group of each partition of the ranks."""
        self.members: dict[str, tuple[int, ...]] = {}
        """The simulated ranks of each group."""
        self.at_mark: Callable[[IssuedPassage, int], None] | None = None
        """Called where the compute stream begins a section (block -1) or a block."""
        self._copies: dict[tuple[str, str], Classes] = {}
        self._channels: dict[tuple[str, str], Channel] = {}

    def setup_seconds(self, command: Copy) -> float:
        """Fixed part of a copy."""
        found = self._setup.get(command.calls)
        if found is None:
            found = self._setup[command.calls] = self._setup_of(command.calls)
        return found

    def _setup_of(self, calls: int) -> float:
        """Fixed part of a copy of so many calls."""
        latency, further = self._values.number(self._pcie.latency), self._pcie.further_call
        return latency if calls == 1 or further is None else latency + (calls - 1) * self._values.number(further)

    def copies(self, command: Copy) -> Classes:
        """The class of flows that a copy is."""
        key = (command.direction, command.host_memory)
        found = self._copies.get(key)
        if found is None:
            flow_class = self._fabric.copy_class(self.index, command.direction, command.host_memory)
            self.network.rates.introduce(flow_class)
            found = self._copies[key] = self.network.classes((flow_class.index,))
        return found

    def arrive(self, command: Collective, done: Callback) -> Meeting:
        """Let this rank's kernel of a collective run; `done` is called at its end."""
        scope, stream = command.group, command.stream
        channel = self._channels.get((scope, stream))
        if channel is None:
            channel = self._collectives.channel(self.groups[scope], self.members[scope], stream)
            self._channels[scope, stream] = channel
        return channel.arrive(self.index, command, done)


def nothing() -> None:
    """Do nothing: nobody is interested."""
