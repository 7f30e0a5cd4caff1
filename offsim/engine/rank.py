"""One simulated rank: its device and its streams, and what its host has put on them."""

from offsim.program.timeline import Timeline

from .collective import CollectivesInFlight
from .device import Device
from .environment import PromptEnvironment
from .fabric import Fabric
from .folding import FoldedFabric
from .issue import PassagePlan
from .network import Network
from .prepared import Prepared
from .queue import IssuedPassage, Passed, PlaceInQueue
from .stream import Stream


class Rank(Device):
    """The device side of one rank."""

    def __init__(
        self,
        env: PromptEnvironment,
        index: int,
        prepared: Prepared,
        fabric: Fabric | FoldedFabric,
        network: Network,
        collectives: CollectivesInFlight,
        timeline: Timeline,
    ) -> None:
        super().__init__(env.agenda, index, prepared, fabric, network, collectives, timeline)
        self.env = env
        self.streams: dict[str, Stream] = {}
        self._issued: dict[int, IssuedPassage] = {}
        """The latest passage of every plan, in order of issue."""

    def stream(self, name: str) -> Stream:
        """The stream of a name, made on first use."""
        found = self.streams.get(name)
        if found is None:
            found = self.streams[name] = Stream(self.env, name, self)
        return found

    def begin_passage(self, plan: PassagePlan, passed: Passed, number: int, *, first: bool) -> IssuedPassage:
        """Put the commands of a passage that the host begins to issue on the streams, not yet released."""
        chunk = IssuedPassage(plan, passed, number, {name: self.stream(name) for name in plan.items}, first=first)
        chunk.earlier = [self._record(event) for event in plan.earlier]
        for stream in chunk.streams.values():
            stream.append(chunk)
        return chunk

    def end_passage(self, chunk: IssuedPassage) -> None:
        """Take note that all of a passage has been issued: later ones may wait for what it recorded."""
        self._issued.pop(id(chunk.plan), None)
        self._issued[id(chunk.plan)] = chunk

    def _record(self, event: str) -> PlaceInQueue | None:
        """The latest record of an event, in earlier passages."""
        for chunk in reversed(self._issued.values()):
            if event in chunk.plan.records:
                name, count = chunk.plan.records[event]
                return self.streams[name], chunk.starts[name] + count
        return None

    def let_go(self) -> None:
        """Let go of everything once the run is over: nothing refers to itself, so all goes without a collector."""
        for stream in self.streams.values():
            stream.let_go()
        self.streams.clear()
        self._issued.clear()
        self.at_mark = None
