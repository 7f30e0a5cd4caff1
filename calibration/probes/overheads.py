"""What issuing commands costs the host thread."""

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration
from offsim.program.commands import COMPUTE, Allocate, Command, Copy, Free, Kernel, Record, Synchronize, Wait

from .bench import Bench
from .probe import CalibrationMode, Probe, Readings
from .writing import attention_kernel, compute, elementwise_kernel, product_kernel, repeated_collectives, working_memory

HOST_COST_KEYS = ("launch", "copy", "event", "allocation", "synchronize", "collective")
SMALL_BYTES = 4096


class CommandOverheads(Probe):
    """The host's time of many equal commands, kind by kind."""

    key, title = "overheads", "host time of one command"
    identifies = tuple(f"host.overheads.{kind}" for kind in HOST_COST_KEYS)
    rounds = (7, 15)
    usual_seconds = 0.4

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        kinds = HOST_COST_KEYS if node.gpus > 1 else HOST_COST_KEYS[:-1]
        return [{"command": kind} for kind in kinds]

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
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
            before: list[Command] = [
                Allocate("small", SMALL_BYTES, COMPUTE),
                Allocate("small on host", SMALL_BYTES, "pinned"),
            ]
            return before, [Copy("copy", "small", "H2D", SMALL_BYTES, "pinned", "small") for _ in range(60)], 60
        if kind == "event":
            pairs = [c for i in range(40) for c in (Record(COMPUTE, f"event {i}"), Wait("copy", f"event {i}"))]
            return [], list(pairs), 80
        if kind == "allocation":
            first: list[Command] = [Record(COMPUTE, "begin")]
            size = 256 * 2**20
            return [], first + [c for _ in range(50) for c in (Allocate("buffer", size, COMPUTE), Free("buffer"))], 50
        if kind == "synchronize":
            return [], [Synchronize("stream", COMPUTE) for _ in range(50)], 50
        return (
            [Allocate("activations", 64 * SMALL_BYTES, COMPUTE)],
            repeated_collectives("all-to-all", SMALL_BYTES, 40),
            40,
        )


def tiny_block() -> tuple[Kernel, ...]:
    """A block's kernels, in its proportions, too small to count."""
    small, move = product_kernel(64, 128, 128), elementwise_kernel(64 * 128 * 4)
    look = attention_kernel(2, 64, 64, 64)
    return (move, small, move, look, small, move, small, small, move, look, small, move, small, move, small, move)
