"""Kernels alone, at full clock: short bursts after idling, so that average power stays below the limit.

Products by rows for every (inputs, outputs) of the models' blocks, attention by length, elementwise and relayout
kernels by bytes, unpacking by the bits of a packed value.
"""

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration
from offsim.program.commands import COMPUTE, Allocate, Command, Compute, Kernel
from offsim.program.systems.scheduled_layerwise.transfer import BF16_BITS, unpacking

from .bench import Bench
from .probe import CalibrationMode, Probe, Readings
from .shapes import KEPT_OUT, cross_attentions, grid, products, self_attentions
from .writing import (
    attention_kernel,
    compute,
    elementwise_kernel,
    product_kernel,
    relayout_kernel,
    timed,
    working_memory,
)

BURST_SECONDS = 5e-3
SETTLE = 8e-3
GUESSED_FLOPS = 6e14
GUESSED_MEMORY_RATE = 3e12
LONGEST_PROBED_KERNEL = 0.2
"""No kernel that takes longer is measured [s]."""
TEXT_ROWS = 512


def guessed_seconds(kernel: Kernel) -> float:
    """About how long a kernel takes, to choose how many make a burst."""
    return max(kernel.flops / GUESSED_FLOPS, kernel.bytes / GUESSED_MEMORY_RATE, 5e-6)


class KernelProbe(Probe):
    """A probe of one kernel, repeated for a few milliseconds."""

    rounds = (3, 5)

    def kernel(self, config: Configuration) -> Kernel:
        """The kernel of a configuration."""
        raise NotImplementedError

    def repeats(self, mode: CalibrationMode, config: Configuration) -> int:
        long = guessed_seconds(self.kernel(config)) > 0.04
        return 3 if long else self.rounds[mode == "full"]

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        expected = guessed_seconds(self.kernel(config))
        count = min(64, max(1, round(BURST_SECONDS / expected)))
        commands = self.program(config, count)
        settle = max(SETTLE, 1.5 * expected)
        return {"seconds": [bench.run(commands, settle=settle).between("begin", "end") / count for _ in range(repeats)]}

    def program(self, config: Configuration, count: int) -> tuple[Command, ...]:
        """The commands that run the kernel so many times between records, after the memory that it works in."""
        kernel = self.kernel(config)
        return (*working_memory((kernel,)), *timed(COMPUTE, [compute("probe", (kernel,) * count)]))


class ProductKernels(KernelProbe):
    """Matrix products of the models' blocks, by rows."""

    key, title, identifies = "gemm", "products of DiT blocks", ("gpu.gemm", "gpu.gemm_shapes")

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        found: list[Configuration] = []
        for (inputs, outputs), rows_kinds in sorted(products().items()):
            rows: set[int] = set()
            rows |= {1} if "condition" in rows_kinds else set()
            rows |= {TEXT_ROWS} if "text" in rows_kinds else set()
            rows |= set(grid(mode)) if rows_kinds & {"image", "joint"} else set()
            found += [{"rows": n, "inputs": inputs, "outputs": outputs} for n in sorted(rows)]
        return found

    def kernel(self, config: Configuration) -> Kernel:
        return product_kernel(int(config["rows"]), int(config["inputs"]), int(config["outputs"]))

    def held_out(self, config: Configuration) -> bool:
        return config["rows"] in KEPT_OUT


class AttentionKernels(KernelProbe):
    """Attention over the sequence and to the text, by length."""

    key, title, identifies = "attention", "attention of DiT blocks", ("gpu.attention", "gpu.attention_shapes")
    usual_seconds = 0.3

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        found: list[Configuration] = []
        for heads, width in self_attentions():
            found += [_attention(heads, width, n, n) for n in grid(mode)]
        for heads, width, keys in cross_attentions():
            found += [_attention(heads, width, n, keys) for n in grid(mode)]
        return [config for config in found if guessed_seconds(self.kernel(config)) < LONGEST_PROBED_KERNEL]

    def kernel(self, config: Configuration) -> Kernel:
        return attention_kernel(
            int(config["heads"]), int(config["queries"]), int(config["keys"]), int(config["head_dim"])
        )

    def held_out(self, config: Configuration) -> bool:
        return config["queries"] in KEPT_OUT


def _attention(heads: int, head_dim: int, queries: int, keys: int) -> Configuration:
    return {"heads": heads, "head_dim": head_dim, "queries": queries, "keys": keys}


class ElementwiseKernels(KernelProbe):
    """Elementwise kernels by their traffic."""

    key, title, identifies = "elementwise", "elementwise kernels", ("gpu.elementwise", "gpu.memory_bandwidth")
    sizes = (4, 10, 20, 40, 60, 80, 120, 160, 240, 350, 480, 700, 960, 1400, 2000, 3000, 5000)

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        chosen = self.sizes if mode == "full" else self.sizes[1::3]
        return [{"bytes": megabytes * 10**6} for megabytes in chosen]

    def kernel(self, config: Configuration) -> Kernel:
        return elementwise_kernel(int(config["bytes"]))

    def held_out(self, config: Configuration) -> bool:
        return config["bytes"] in (60 * 10**6, 350 * 10**6, 1400 * 10**6)


class RelayoutKernels(KernelProbe):
    """Permuting copies around all-to-alls."""

    key, title, identifies = "relayout", "relayout kernels", ("gpu.relayout", "gpu.relayout_bandwidth")

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        widths = (5120, 3072)
        return [{"rows": rows, "parts": 2, "columns": width // 2} for width in widths for rows in grid(mode)]

    def kernel(self, config: Configuration) -> Kernel:
        return relayout_kernel(int(config["rows"]), int(config["parts"]), int(config["columns"]))

    def held_out(self, config: Configuration) -> bool:
        return config["rows"] in KEPT_OUT


class UnpackingKernels(KernelProbe):
    """Packed weights made bf16 by the kernel that replays unpack with, in memory of a Wan block's size.

    A smaller size is held out: it tells whether one rate holds for all.
    """

    key, title, identifies = "unpack", "unpacking of packed weights", ("gpu.unpack",)
    sizes = (250, 703)

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        chosen = self.sizes if mode == "full" else self.sizes[1:]
        return [{"bits": bits, "bytes": megabytes * 10**6} for bits in (8, 4) for megabytes in chosen]

    def kernel(self, config: Configuration) -> Kernel:
        return unpacking(packed_bytes(config), float(config["bytes"]))

    def held_out(self, config: Configuration) -> bool:
        return config["bytes"] == self.sizes[0] * 10**6

    def program(self, config: Configuration, count: int) -> tuple[Command, ...]:
        sizes = {"packed": packed_bytes(config), "unpacked": float(config["bytes"])}
        # A command each: the executor unpacks a buffer once a command.
        once = Compute(COMPUTE, "unpack", (self.kernel(config),), ("packed",), ("unpacked",))
        return (*(Allocate(name, size, COMPUTE) for name, size in sizes.items()), *timed(COMPUTE, [once] * count))


def packed_bytes(config: Configuration) -> float:
    """Bytes that `bytes` of bf16 take while packed."""
    return float(config["bits"]) / BF16_BITS * float(config["bytes"])
