"""The bench inside the simulator: the commands of a probe run in the engine on a node profile.

The same probes that calibrate a machine so check a calibration: what comes back must be what the profile says. A gate
is a host that issues in no time and is never held up by a full queue. Every run starts on an idle, cool chip, so
settling changes nothing. Left out: collectives while one rank alone copies (all ranks of a program issue the same), and
noise that is not a factor on durations.
"""

from functools import cache
from random import Random

from msgspec import structs

from calibration.probes import PROBES
from calibration.probes.bench import ProbeReading, Unsupported, program_of
from calibration.probes.probe import CalibrationMode, Probe
from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration, ProbeSample
from offsim.engine.host_costs import HostCosts
from offsim.engine.simulate import simulate
from offsim.program.commands import Collective, Command, StreamProgram
from offsim.program.systems.resident import Resident
from offsim.scenario.host import Overheads
from offsim.scenario.load import load_model
from offsim.scenario.model import Model
from offsim.scenario.node import Node
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload

ENDLESS_QUEUE = 1_000_000
PROBED_SECTION = 1
JITTER = 0.25
"""Noise of one duration against the noise that a whole run shares."""


class SimulatedBench:
    """A bench of the engine on a node profile; `noise` is the relative spread of durations between runs (0: none)."""

    def __init__(self, node: Node, noise: float = 0.0, seed: int = 0) -> None:
        self.node = inventory_of(node)
        self.ranks = node.gpus
        self.transport = self.node.transport
        self._issuing = node
        self._gated = node.with_overheads(_no_overheads(node.host.overheads))
        self._noise, self._random = noise, Random(seed)

    def run(
        self,
        commands: tuple[Command, ...],
        *,
        only_rank: int | None = None,
        settle: float = 0.0,  # noqa: ARG002
        gated: bool = True,
    ) -> ProbeReading:
        """Run the commands in the engine; raises Unsupported for collectives with copies on one of several ranks."""
        ranks = self.ranks if only_rank is None else self._ranks_beside(only_rank, commands)
        program = program_of(commands, ranks)
        timeline = simulate(_scenario(self._gated if gated else self._issuing, ranks), program)
        window = timeline.window(0, PROBED_SECTION)
        host_seconds = self._issue_seconds(program) if gated else window.end - window.start
        return ProbeReading(self._noisy(timeline.instants), host_seconds * self._factor(self._noise), {})

    def _ranks_beside(self, only_rank: int, commands: tuple[Command, ...]) -> int:
        """Ranks to simulate if one copies: without collectives it is on its own, so that one is enough."""
        if only_rank == 0 and not any(isinstance(command, Collective) for command in commands):
            return 1
        if self.ranks > 1:
            raise Unsupported("the simulator's ranks all issue the same commands")
        return self.ranks

    def _issue_seconds(self, program: StreamProgram) -> float:
        """Host time of the probed commands where nothing blocks the host."""
        costs = HostCosts(self._issuing.host.overheads)
        return sum(costs.of(command) for command in program.sections[PROBED_SECTION].commands)

    def _noisy(self, instants: dict[tuple[int, str], float]) -> dict[tuple[int, str], float]:
        """Durations between consecutive instants times a factor of the run and one of their own: order stays."""
        if not self._noise:
            return dict(instants)
        whole, before, now, found = self._factor(self._noise), 0.0, 0.0, {}
        for key, instant in sorted(instants.items(), key=lambda item: item[1]):
            if instant > before:
                now += (instant - before) * whole * self._factor(JITTER * self._noise)
                before = instant
            found[key] = now
        return found

    def _factor(self, spread: float) -> float:
        return self._random.lognormvariate(0.0, spread) if spread else 1.0


def simulated_samples(
    bench: SimulatedBench, mode: CalibrationMode, probes: tuple[Probe, ...] = PROBES
) -> tuple[list[ProbeSample], list[str]]:
    """Samples of every configuration of these probes, and `probe: reason` of what cannot be simulated."""
    samples: list[ProbeSample] = []
    waived: list[str] = []
    for probe in probes:
        reason = probe.can_run(bench.node)
        if reason:
            waived.append(f"{probe.key}: {reason}")
            continue
        for config in probe.configurations(mode, bench.node):
            try:
                samples.append(_sample(bench, probe, config, mode, len(samples)))
            except Unsupported as error:
                waived.append(f"{probe.key}: {error}")
    return samples, waived


def _sample(
    bench: SimulatedBench, probe: Probe, config: Configuration, mode: CalibrationMode, order: int
) -> ProbeSample:
    readings = probe.measure(bench, config, probe.repeats(mode, config))
    return ProbeSample(probe.key, config, readings, probe.held_out(config), order, {}, "", bench.transport)


def inventory_of(node: Node) -> Inventory:
    """The inventory that a node profile tells of its machine; it says nothing of software and processor."""
    clock, collectives = node.gpu.clock, node.wiring.collectives
    return Inventory(
        gpu_name=node.gpu.name,
        gpus=node.gpus,
        compute_capability="",
        memory_bytes=node.gpu.memory.value,
        driver="simulated",
        power_limit_watts=clock.limit.value if clock is not None else 0.0,
        cpu="simulated",
        cores=0,
        host_memory_bytes=node.host.memory.value,
        fingerprint=f"simulated {node.name}",
        transport=collectives.transport if node.gpus > 1 and collectives is not None else "none",
    )


def _no_overheads(overheads: Overheads) -> Overheads:
    """Commands that cost the host nothing, and streams that are never full."""
    names = (name for name in overheads.__struct_fields__ if name != "queue_depth")
    free = {name: structs.replace(getattr(overheads, name), value=0.0) for name in names}
    return structs.replace(overheads, queue_depth=ENDLESS_QUEUE, **free)


def _scenario(node: Node, ranks: int) -> Scenario:
    """The least that the engine needs around a program that is given."""
    return Scenario(_any_model(), Workload(gpus=ranks, tokens=1024), node, Resident())


@cache
def _any_model() -> Model:
    """The engine reads nothing of it when the program is given."""
    return load_model("wan2.1-t2v-1.3b")
