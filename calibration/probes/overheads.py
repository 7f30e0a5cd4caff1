"""What issuing commands costs the host thread."""

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Config
from offsim.program.commands import COMPUTE, Allocate, Command, Copy, Free, Kernel, Record, Synchronize, Wait

from .bench import Bench
from .probe import Mode, Probe, Readings
from .writing import attention, collectives, compute, elementwise, product, working_memory

KINDS = ("launch", "copy", "event", "allocation", "synchronize", "collective")
SMALL = 4096


class Overheads(Probe):
    """Many equal commands, by the host's clock."""

    key, title = "overheads", "host time of one command"
    identifies = tuple(f"overheads.{kind}" for kind in KINDS)
    rounds = (7, 15)
    usual_seconds = 0.4

    def configurations(self, mode: Mode, node: Inventory) -> list[Config]:  # noqa: ARG002
        kinds = KINDS if node.gpus > 1 else KINDS[:-1]
        return [{"command": kind} for kind in kinds]

    def measure(self, bench: Bench, config: Config, repeats: int) -> Readings:
        kind = str(config["command"])
        before, inside, count = self._commands(kind)
        gated = kind != "synchronize"
        return {"seconds": [bench.run((*before, *inside), gated=gated).host_seconds / count for _ in range(repeats)]}

    def _commands(self, kind: str) -> tuple[list[Command], list[Command], int]:
        """Memory, commands, and how many of them count."""
        if kind == "launch":
            kernels = tiny_block()
            return working_memory(kernels), [compute("small", kernels) for _ in range(8)], 8 * len(kernels)
        if kind == "copy":
            before: list[Command] = [Allocate("small", SMALL, COMPUTE), Allocate("small on host", SMALL, "pinned")]
            return before, [Copy("copy", "small", "H2D", SMALL, "pinned", "small") for _ in range(60)], 60
        if kind == "event":
            pairs = [c for i in range(40) for c in (Record(COMPUTE, f"event {i}"), Wait("copy", f"event {i}"))]
            return [], list(pairs), 80
        if kind == "allocation":
            first: list[Command] = [Record(COMPUTE, "begin")]
            size = 256 * 2**20
            return [], first + [c for _ in range(50) for c in (Allocate("buffer", size, COMPUTE), Free("buffer"))], 50
        if kind == "synchronize":
            return [], [Synchronize("stream", COMPUTE) for _ in range(50)], 50
        return [Allocate("activations", 64 * SMALL, COMPUTE)], collectives("all-to-all", SMALL, 40), 40


def tiny_block() -> tuple[Kernel, ...]:
    """A block's kernels, in its proportions, too small to count."""
    small, move = product(64, 128, 128), elementwise(64 * 128 * 4)
    look = attention(2, 64, 64, 64)
    return (move, small, move, look, small, move, small, small, move, look, small, move, small, move, small, move)
