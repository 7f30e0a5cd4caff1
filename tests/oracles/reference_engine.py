"""The engine, written the slow and obvious way: everything that goes on is looked at again after each instant.

Written from what design and docstrings say, for programs whose queues never fill. It shares with the engine the fabric
(rows and classes of flows), kernel durations, host costs, and the fair-share solver, which has an oracle of its own;
not the event loop, streams, hosts, copy engines, multiprocessors, collectives, network or any shortcut. There is no
clock model here.
"""

from collections import Counter
from math import inf

from offsim.engine.collective import FabricRoutes, ends
from offsim.engine.durations import Durations
from offsim.engine.fabric import Fabric
from offsim.engine.host_costs import HostCosts
from offsim.engine.sharing import shared_rates
from offsim.program.commands import Collective, Command, Compute, Copy, Record, StreamProgram, Synchronize, Wait
from offsim.program.passages import stream_of
from offsim.scenario.scenario import Scenario
from tests.changed_nodes import slowdowns

from .reference_state import Meeting, Rank, Task, Transfer

SAME = 1e-13
"""What is left when this part of the clock is left, is nothing: rounding."""


class Reference:
    """One run; `finished` of every rank are the (stream, name, end) of its work that takes any time."""

    def __init__(self, scenario: Scenario, program: StreamProgram) -> None:
        self.scenario, self.program = scenario, program
        self.node = scenario.node
        self.fabric = Fabric(self.node, program.groups)
        self.routes = FabricRoutes(self.fabric, aggregated=False)
        self.durations, self.costs = Durations(scenario), HostCosts(self.node.host.overheads)
        self.ranks = [Rank(number, program) for number in range(program.ranks)]
        self.meetings: dict[object, Meeting] = {}
        self.now = 0.0

    def run(self) -> list[Rank]:
        """Until nothing is left."""
        while True:
            while any(self._host(rank) or self._device(rank) for rank in self.ranks):
                pass
            self._share()
            if any(map(self._ended, self._flows())):
                continue  # Some have no bytes.
            following = min(self._instants(), default=inf)
            if following == inf:
                return self.ranks
            self._advance(following - self.now)
            self.now = following

    def _gone(self, left: float) -> bool:
        return left <= SAME * max(self.now, 1e-3)

    # Hosts

    def _host(self, rank: Rank) -> bool:
        """Issue what is due; whether anything was."""
        if rank.waits:
            if any(task.state != "done" for task in rank.waits):
                return False
            rank.waits = []
            rank.clock = max(rank.clock, self.now) + rank.after_wait
            return True
        if not rank.issuing or rank.clock > self.now:
            return False
        command = next(rank.commands, None)
        if command is None:
            rank.issuing = False
            return True
        self._issue(rank, command)
        return True

    def _issue(self, rank: Rank, command: Command) -> None:
        if isinstance(command, Synchronize):
            rank.waits, rank.after_wait = self._awaited(rank, command), self.node.host.overheads.synchronize.value
            if not rank.waits:
                rank.clock += rank.after_wait
            return
        rank.clock += self.costs.of(command)
        stream = stream_of(command)
        if stream is None:
            return
        task = Task(command, rank.clock)
        if isinstance(command, Wait):
            task.awaited = rank.records.get(command.event)
        if isinstance(command, Record):
            rank.records[command.event] = task
        rank.streams.setdefault(stream, []).append(task)
        if isinstance(command, Copy) and command.host_memory != "pinned":
            rank.waits, rank.after_wait = [task], 0.0

    def _awaited(self, rank: Rank, command: Synchronize) -> list[Task]:
        if command.scope == "event":
            found = [rank.records[command.target]] if command.target in rank.records else []
        elif command.scope == "stream":
            found = rank.streams.get(command.target, [])
        else:
            found = [task for tasks in rank.streams.values() for task in tasks]
        return [task for task in found if task.state != "done"]

    # Devices

    def _device(self, rank: Rank) -> bool:
        """Let the head of every stream do what it can at this instant; whether anything happened."""
        happened = False
        for name, tasks in rank.streams.items():
            if tasks and tasks[0].issued <= self.now * (1 + SAME):
                happened |= self._head(rank, name, tasks)
        return happened

    def _head(self, rank: Rank, name: str, tasks: list[Task]) -> bool:
        task = tasks[0]
        before = task.state
        task.begun = self.now if before == "new" else task.begun
        command = task.command
        if isinstance(command, Record):
            task.state = "done"
        elif isinstance(command, Wait):
            if task.awaited is None or task.awaited.state == "done":
                task.state = "done"
        elif isinstance(command, Compute):
            self._compute(rank, task, command)
        elif isinstance(command, Copy):
            self._copy(rank, name, task, command)
        else:
            assert isinstance(command, Collective)
            self._collective(rank, task, command)
        if task.state == "done":
            del tasks[0]
            if isinstance(command, Compute | Copy | Collective) and self.now > task.begun:
                rank.finished.append((name, command.name, self.now))
        return task.state != before

    def _compute(self, rank: Rank, task: Task, command: Compute) -> None:
        if task.state == "new":
            task.pieces = [[piece.kernel_class, piece.seconds, None] for piece in self.durations.pieces(command)]
            rank.kernels.append(task)
            task.state = "queued"
        elif rank.kernels[0] is task:
            while task.pieces and self._gone(task.pieces[0][1]):  # type: ignore[arg-type]
                del task.pieces[0]
            if task.pieces and task.pieces[0][2] is None:
                task.pieces[0][2] = self.now
            if not task.pieces:
                del rank.kernels[0]
                task.state = "done"

    def _copy(self, rank: Rank, name: str, task: Task, command: Copy) -> None:
        engine, pcie = rank.engines[command.direction], self.node.wiring.pcie
        if task.state == "new":
            if task not in engine:
                engine.append(task)
            task.state = "queued"
        elif task.state == "queued" and engine[0] is task:
            further = pcie.further_call.value if pcie.further_call is not None else 0.0
            task.until = self.now + pcie.latency.value + (command.calls - 1) * further
            task.state = "latency"
        elif task.state == "latency" and self._gone(task.until - self.now):
            flow_class = self.fabric.copy_class(rank.number, command.direction, command.host_memory)
            rank.copying[id(task)] = Transfer(flow_class, command.bytes)  # type: ignore[index]
            task.state = "running"
        elif task.state == "running" and self._ended(rank.copying[id(task)]):  # type: ignore[index]
            del rank.copying[id(task)]  # type: ignore[arg-type]
            del engine[0]
            self._keep(engine, rank.streams[name][1:], command.direction)
            task.state = "done"

    def _keep(self, engine: list[Task], later: list[Task], direction: str) -> None:
        """The stream's next work, if it is an issued copy of this direction, goes before all who wait."""
        for task in later:
            if task.issued > self.now:
                return
            if not isinstance(task.command, Record):
                if isinstance(task.command, Copy) and task.command.direction == direction:
                    engine.insert(0, task)
                return

    def _collective(self, rank: Rank, task: Task, command: Collective) -> None:
        group = self._group(rank, command)
        if len(group) == 1:
            task.state = "done"
            return
        if task.state == "new":
            # A kernel that begins at this very instant does not hold it up.
            running = rank.kernels[0].pieces[:1] if rank.kernels else []
            task.pieces = [piece for piece in running if piece[2] is not None and piece[2] < self.now]  # type: ignore[operator]
            task.state = "queued"
        elif task.state == "queued" and (not task.pieces or self._gone(task.pieces[0][1])):  # type: ignore[arg-type]
            rank.calls[group, command.stream] += 1
            key = (group, command.stream, rank.calls[group, command.stream])
            if key not in self.meetings:
                transfers = [(ends(t, group), t[2], t[3]) for t in self.routes.transfers(command, group)]
                self.meetings[key] = Meeting(transfers)
            rank.meets[id(task)] = (self.meetings[key], self.routes.latency(command))
            self.meetings[key].arrived.add(rank.number)
            task.state = "running"
        elif task.state == "running":
            meeting, latency = rank.meets[id(task)]
            self._meet(meeting, latency)
            own = {i for i, (ranks, _, _) in enumerate(meeting.transfers) if rank.number in ranks}
            if own <= meeting.ended:
                del rank.meets[id(task)]
                task.state = "done"

    def _group(self, rank: Rank, command: Collective) -> tuple[int, ...]:
        return next(group for group in self.program.groups[command.group] if rank.number in group)

    def _meet(self, meeting: Meeting, latency: float) -> None:
        for i, (ranks, flow_class, bytes_) in enumerate(meeting.transfers):
            if i not in meeting.begun and meeting.arrived.issuperset(ranks):
                meeting.begun[i] = self.now + latency
            if i in meeting.begun and i not in meeting.flowing and self._gone(meeting.begun[i] - self.now):
                meeting.flowing[i] = Transfer(flow_class, bytes_)
            if i in meeting.flowing and i not in meeting.ended and self._ended(meeting.flowing[i]):
                meeting.ended.add(i)

    # Time

    def _ended(self, transfer: Transfer) -> bool:
        return transfer.rate > 0 and self._gone(transfer.left / transfer.rate)

    def _flows(self) -> list[Transfer]:
        copies = [transfer for rank in self.ranks for transfer in rank.copying.values()]
        meetings = {id(meeting): meeting for rank in self.ranks for meeting, _ in rank.meets.values()}.values()
        return copies + [t for m in meetings for i, t in m.flowing.items() if i not in m.ended]

    def _share(self) -> None:
        """Everybody's rate while nothing changes."""
        flows = self._flows()
        if flows:
            active = Counter(flow.flow_class for flow in flows)
            rates, _, _ = shared_rates(self.fabric.rows, active)
            of_class = dict(zip(sorted(active, key=lambda c: c.index), rates, strict=True))
            for flow in flows:
                flow.rate = of_class[flow.flow_class]

    def _factor(self, rank: Rank, kernel_class: object) -> float:
        beside = {name for transfer in rank.copying.values() for _, name in transfer.flow_class.active_as}
        beside |= {"collective"} if rank.meets else set()
        factor = 1.0
        for (victim, aggressor), slowdown in slowdowns(self.node).items():
            if victim == kernel_class and aggressor in beside:
                factor *= 1 + slowdown
        return factor

    def _running(self, rank: Rank) -> list[object] | None:
        return rank.kernels[0].pieces[0] if rank.kernels and rank.kernels[0].pieces else None

    def _instants(self) -> list[float]:
        """When something may change next."""
        found = [self.now + flow.left / flow.rate for flow in self._flows()]
        for rank in self.ranks:
            if not rank.waits and rank.issuing:
                found.append(rank.clock)
            piece = self._running(rank)
            if piece is not None:
                found.append(self.now + piece[1] * self._factor(rank, piece[0]))  # type: ignore[operator]
            for tasks in rank.streams.values():
                if tasks:
                    found += [tasks[0].issued, tasks[0].until if tasks[0].state == "latency" else inf]
            for meeting, _ in rank.meets.values():
                found += [at for i, at in meeting.begun.items() if i not in meeting.flowing]
        return [instant for instant in found if self.now < instant < inf]

    def _advance(self, seconds: float) -> None:
        for flow in self._flows():
            flow.left -= flow.rate * seconds
        for rank in self.ranks:
            piece = self._running(rank)
            if piece is not None:
                piece[1] -= seconds / self._factor(rank, piece[0])  # type: ignore[operator]
