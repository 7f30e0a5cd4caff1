"""One simulated rank: its streams, copy engines and multiprocessors, and how commands run on them."""

from collections.abc import Callable, Generator
from typing import Any

from simpy import Event

from offsim.program.commands import COMPUTE, Collective, Compute, Copy
from offsim.program.timeline import Label, SpanKind, Timeline
from offsim.scenario.scenario import Scenario

from .collective import Collectives
from .copy_engine import CopyEngine
from .durations import Durations
from .environment import PromptEnvironment
from .fabric import Fabric
from .gpu import GPU
from .issue import PassagePlan
from .network import Network
from .stream import Chunk, Passed, Place, Stream


class Rank:
    """The device side of one rank."""

    def __init__(
        self,
        env: PromptEnvironment,
        index: int,
        scenario: Scenario,
        durations: Durations,
        fabric: Fabric,
        network: Network,
        collectives: Collectives,
        timeline: Timeline,
    ) -> None:
        self.env = env
        self.index = index
        pcie = scenario.node.pcie
        self.latency = pcie.latency.value
        self.further_call = pcie.further_call.value if pcie.further_call is not None else 0.0
        self.durations = durations
        self.fabric = fabric
        self.network = network
        self.collectives = collectives
        self.timeline = timeline
        self.groups: dict[str, tuple[int, ...]] = {}
        self.members: dict[str, tuple[int, ...]] = {}
        self.gpu = GPU(env, scenario.node, scenario.simulation)
        self.engines = {"H2D": CopyEngine(env), "D2H": CopyEngine(env)}
        self.streams: dict[str, Stream] = {}
        self.kept: dict[str, str] = {}
        self.at_mark: Callable[[Chunk, int], None] | None = None
        """Called where the compute stream begins a section (block -1) or a block."""
        self.check_host: Callable[[], None] = lambda: None
        """Called where a stream has to wait for the host."""
        self._records: dict[str, Place] = {}

    def stream(self, name: str) -> Stream:
        """A stream, made on first use."""
        if name not in self.streams:
            self.streams[name] = Stream(self.env, name, self, marks=name == COMPUTE and self.at_mark is not None)
        return self.streams[name]

    def begin_passage(self, plan: PassagePlan, passed: Passed, number: int, *, first: bool) -> Chunk:
        """A passage that the host begins to issue: its commands are put on the streams, not yet released."""
        streams = {name: self.stream(name) for name in plan.items}
        starts = {name: stream.issued for name, stream in streams.items()}
        chunk = Chunk(plan, passed, number, starts, first=first)
        chunk.earlier = {event: self._records[event] for event in plan.earlier if event in self._records}
        for name, stream in streams.items():
            stream.append(chunk, plan.items[name], starts[name])
        return chunk

    def end_passage(self, chunk: Chunk) -> None:
        """All of a passage has been issued: later ones may wait for what it recorded."""
        for event, (name, count) in chunk.plan.records.items():
            self._records[event] = (self.streams[name], chunk.starts[name] + count)

    def recorded(self, chunk: Chunk, part: int, awaited: tuple[str, int] | str) -> Place | None:
        """What a wait in this part refers to: a place on a stream; None if the event was never recorded."""
        if isinstance(awaited, str):
            return chunk.earlier.get(awaited)
        name, count = awaited
        return self.streams[name], chunk.starts[name] + chunk.plan.begins[part].get(name, 0) + count

    def note(
        self,
        stream: Stream,
        kind: SpanKind,
        label: Label,
        start: float,
        bytes_: float = 0.0,
        delays: dict[str, float] | None = None,
        cause: str = "",
        track: str = "",
    ) -> None:
        """Record a span that ends now."""
        now = self.env.now
        if now > start:
            lost = tuple(delays.items()) if delays else ()
            self.timeline.notes.append((self.index, track or stream.name, kind, label, start, now, bytes_, lost, cause))

    def note_wait(self, stream: Stream, event: Label, cause: str) -> None:
        """Record that a stream waited for an event of stream `cause` until now."""
        self.note(stream, "wait", event, stream.started, cause=cause)

    def note_event(self, event: Label) -> None:
        """An event of this rank has been reached now."""
        self.timeline.reached.append((self.index, event, self.env.now))

    def compute(self, stream: Stream, command: Compute) -> Event:
        """Kernels on the multiprocessors; the event fires at their end."""
        work = stream.work = self.gpu.start(self.durations.pieces(command))
        return work.done

    def computed(self, stream: Stream) -> None:
        """The kernels that a stream runs have ended."""
        work = stream.work
        assert work is not None
        self.note(stream, "compute", stream.label_at(work.started), work.started, delays=work.lost)

    def copy(self, stream: Stream, command: Copy) -> Generator[Event, Any, None]:
        """A copy: its turn on the engine, fixed latency, then bytes at the link's rate."""
        direction, engine, env = command.direction, self.engines[command.direction], self.env
        turn = None if self.kept.get(direction) == stream.name else engine.request(stream.name)
        if turn is not None:
            stream.awaiting = f"the {direction} copy engine"
            yield turn
            stream.awaiting = ""
        began = env.now
        fixed = self.latency + (command.calls - 1) * self.further_call
        if fixed:
            yield env.timeout(fixed)
        flow_class = self.fabric.copy_class(self.index, direction, command.host_memory)
        self.gpu.set_active(direction, +1)
        done = env.event()
        flow = self.network.start(flow_class, command.bytes, done.succeed)
        yield done
        self.gpu.set_active(direction, -1)
        self.note(stream, direction, stream.label_at(stream.started), stream.started, command.bytes, flow.delays)
        self.note(
            stream, direction, stream.label_at(began), began, command.bytes, flow.delays, track=f"{direction} engine"
        )
        self._pass_on(stream, direction)

    def _pass_on(self, stream: Stream, direction: str) -> None:
        """Keep the engine for the stream's next copy, or let the next in line have it."""
        self.kept.pop(direction, None)
        if stream.next_is_copy(direction):
            self.kept[direction] = stream.name
            self.engines[direction].granted = self.env.now
        else:
            self.engines[direction].release()

    def collective(self, stream: Stream, command: Collective) -> Generator[Event, Any, None]:
        """A collective: its kernel gets multiprocessors at a kernel boundary, then meets the other ranks."""
        group = self.groups[command.group]
        if len(group) == 1:
            return
        boundary = self.gpu.boundary()
        if boundary is not None:
            yield boundary
        arrived = self.env.now
        self.gpu.set_active("collective", +1)
        meeting = self.collectives.arrive(self.index, command, group, self.members[command.group])
        if len(meeting.members) > 1:
            stream.awaiting = f"ranks {sorted(set(meeting.members) - meeting.arrived)} in {command.name!r}"
        yield meeting.done[self.index]
        stream.awaiting = ""
        self.gpu.set_active("collective", -1)
        began = meeting.began[self.index]
        if began > arrived:
            label = stream.label_at(arrived)
            self.timeline.notes.append((self.index, stream.name, "rendezvous", label, arrived, began, 0.0, (), ""))
        delays = meeting.last_flow(self.index).delays
        self.note(stream, "collective", stream.label_at(began), began, command.bytes, delays)
