"""The GPU's part of a node profile: kernel tables at full clock, then the clock model on top of them."""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import structs

from calibration.samples.sample_file import ProbeSample
from offsim.scenario.gpu import GPU, usual_unpacking
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.usual import usual

from .clock_values import fitted_clock
from .fitting import Fit, bytes_of, note_table
from .tables import (
    attention_key,
    attention_work,
    by_key,
    curve,
    interpolation_error,
    merged_points,
    product_key,
    product_work,
    rate_points,
    relayout_bytes,
    unpack_bits,
    unpack_bytes,
)

LARGE = 2e9
"""Bytes of an elementwise kernel that no cache serves."""


class ShapedKernels(NamedTuple):
    """Kernels whose rates a GPU has by their shape, each by a size."""

    probe: str
    shape: Callable[[ProbeSample], str]
    size: Callable[[ProbeSample], float]
    work: Callable[[ProbeSample], float]

    def tables(self, fit: Fit, source: str) -> dict[str, Curve]:
        """Tables of work per second by size, one per shape, in the order of the shapes' names."""
        groups = sorted(by_key(fit.of(self.probe), self.shape).items())
        return {
            shape: curve(merged_points(rate_points(group, self.size, self.work)), source) for shape, group in groups
        }

    def note(self, fit: Fit, tables: dict[str, Curve]) -> None:
        """Add the held-out errors of all tables to the summary."""
        errors: list[float] = []
        for shape, group in by_key(fit.of(self.probe), self.shape).items():
            errors += interpolation_error(tables[shape], rate_points(group, self.size, self.work, held_out=True))
        note_table(fit, f"gpu.{self.probe}_shapes", f"{len(tables)} shapes", errors, fit.of(self.probe))


PRODUCTS = ShapedKernels("gemm", product_key, lambda sample: float(sample.config["rows"]), product_work)
ATTENTIONS = ShapedKernels("attention", attention_key, lambda sample: float(sample.config["queries"]), attention_work)


def fit_gpu(fit: Fit) -> GPU:
    """The GPU with its kernel tables at full clock, and the clock model where a load reached the power limit."""
    source = f"bursts at full clock, {fit.header.date[:10]}"
    products, attentions = PRODUCTS.tables(fit, source), ATTENTIONS.tables(fit, source)
    elementwise = curve(merged_points(rate_points(fit.of("elementwise"), bytes_of, bytes_of)), source)
    relayouts = merged_points(rate_points(fit.of("relayout"), relayout_bytes, relayout_bytes))
    unpacked = merged_points(rate_points(fit.of("unpack"), unpack_bits, unpack_bytes))
    gpu = GPU(
        name=fit.inventory.gpu_name,
        memory=Quantity(fit.inventory.memory_bytes, "measured", "nvidia-smi, memory.total"),
        context=usual().gpu.context,
        gemm=max(products.values(), key=Curve.highest),
        attention={"default": _usual_attention(attentions)},
        # Smaller kernels are served by the cache.
        memory_bandwidth=Quantity(elementwise.at(LARGE), "measured", source),
        gemm_shapes=products,
        attention_shapes=attentions,
        elementwise=elementwise,
        relayout=curve(relayouts, source) if relayouts else None,
        unpack=curve(unpacked, source) if unpacked else usual_unpacking(),
        workspace=_workspace(fit),
    )
    _note_tables(fit, gpu)
    return structs.replace(gpu, clock=fitted_clock(fit, gpu))


def _usual_attention(tables: dict[str, Curve]) -> Curve:
    """What stands for attention of other shapes: whole sequences of whole tiles, with the most heads."""
    whole = [key for key in tables if key.count("x") == 1 and not key.endswith("-ragged")]
    return tables[max(whole or tables, key=lambda key: int(key.split("x")[0]))]


def _workspace(fit: Fit) -> Quantity:
    """What the first product allocated, or, in a calibration that did not look, what it does on other nodes."""
    found, otherwise = (
        max((s.state.get("workspace_bytes", 0.0) for s in fit.samples), default=0.0),
        usual().gpu.workspace,
    )
    return structs.replace(otherwise, value=found) if found else otherwise


def _note_tables(fit: Fit, gpu: GPU) -> None:
    """Add the held-out errors of all tables that were measured to the summary."""
    PRODUCTS.note(fit, gpu.gemm_shapes)
    ATTENTIONS.note(fit, gpu.attention_shapes)
    rows = [
        ("elementwise", gpu.elementwise, bytes_of, bytes_of),
        ("relayout", gpu.relayout, relayout_bytes, relayout_bytes),
        ("unpack", gpu.unpack, unpack_bits, unpack_bytes),
    ]
    for probe, fitted, size, work in rows:
        if fitted is not None and fit.of(probe):
            errors = interpolation_error(fitted, rate_points(fit.of(probe), size, work, held_out=True))
            note_table(fit, f"gpu.{probe}", f"{fitted.highest() / 1e9:.0f} GB/s at most", errors, fit.of(probe))
