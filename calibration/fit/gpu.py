"""The GPU's part of a node profile: kernel tables at full clock, then the clock model on top of them."""

from offsim.scenario.node import GPU, UNPACKING
from offsim.scenario.quantity import Curve, Quantity

from . import toml
from .clock import ClockFit, fit_clock
from .clock_parameters import AVERAGING, Powers, completed
from .draw import COPYING, EXCHANGING, collective_power, copy_power, idle_power
from .fitting import Fit, bytes_of, note_table
from .summary import SummaryRow
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
CLOCK_UNITS = {"energy": ("pJ", 1e-12), "window": ("ms", 1e-3), "power_exponent": ("", 1.0), "knee": ("", 1.0)}
"""Group of the clock's values -> unit and factor in a profile."""
WORKSPACE = 2.0**25
"""cuBLAS on Hopper: 32 MiB, where the samples don't say."""


def fit_gpu(fit: Fit) -> GPU:
    """Tables of kernels; the GPU without a clock, for the clock's fit."""
    source = f"bursts at full clock, {fit.header.date[:10]}"
    products = {
        key: curve(merged_points(rate_points(group, lambda s: float(s.config["rows"]), product_work)), source)
        for key, group in sorted(by_key(fit.of("gemm"), product_key).items())
    }
    attentions = {
        key: curve(merged_points(rate_points(group, lambda s: float(s.config["queries"]), attention_work)), source)
        for key, group in sorted(by_key(fit.of("attention"), attention_key).items())
    }
    elementwise = curve(merged_points(rate_points(fit.of("elementwise"), bytes_of, bytes_of)), source)
    relayouts = merged_points(rate_points(fit.of("relayout"), relayout_bytes, relayout_bytes))
    relayout = curve(relayouts, source) if relayouts else None
    unpacked = merged_points(rate_points(fit.of("unpack"), unpack_bits, unpack_bytes))
    unpack = curve(unpacked, source) if unpacked else UNPACKING
    _note_tables(fit, products, attentions)
    _note_rates(fit, elementwise, relayout, unpack)
    widest = max(products.values(), key=lambda c: c.highest())
    longest = _usual_attention(attentions)
    memory = fit.inventory.memory_bytes
    # Smaller ones are served by the cache.
    bandwidth = Quantity(elementwise.at(LARGE), "measured", source)
    fit.table(
        "gpu",
        [
            ("name", f'"{fit.inventory.gpu_name}"'),
            ("memory_GiB", toml.quantity(memory, "measured", "nvidia-smi, memory.total", None, 2.0**30)),
            ("context_GiB", toml.quantity(0.9 * 2**30, "guess", "CUDA context, NCCL buffers", None, 2.0**30)),
            ("gemm_TFLOPS", _points(widest)),
            ("memory_bandwidth_GBps", toml.quantity(bandwidth.value, "measured", source, None, 1e9)),
            ("elementwise_GBps", toml.points(elementwise, "", 1e9)),
            ("relayout_GBps", toml.points(relayout, "", 1e9)) if relayout else None,
            ("unpack_GBps", toml.points(unpack, "", 1e9)),
            (
                "workspace_MiB",
                toml.quantity(_workspace(fit), "measured", "allocated by the first product", None, 2.0**20),
            ),
        ],
    )
    fit.table("gpu.attention", [("default", toml.points(longest, "TFLOPS", 1e12))])
    fit.table("gpu.gemm_shapes", [(f'"{key}"', toml.points(c, "TFLOPS", 1e12)) for key, c in products.items()])
    fit.table("gpu.attention_shapes", [(f'"{key}"', toml.points(c, "TFLOPS", 1e12)) for key, c in attentions.items()])
    return GPU(
        name=fit.inventory.gpu_name,
        memory=Quantity(memory, "measured", source),
        context=Quantity(0.9 * 2**30, "guess", source),
        gemm=widest,
        attention={"default": longest},
        memory_bandwidth=bandwidth,
        gemm_shapes=products,
        attention_shapes=attentions,
        elementwise=elementwise,
        relayout=relayout,
        unpack=unpack,
    )


def _usual_attention(tables: dict[str, Curve]) -> Curve:
    """What stands for attention of other shapes: whole sequences of whole tiles, with the most heads."""
    whole = [key for key in tables if key.count("x") == 1 and not key.endswith("-ragged")]
    return tables[max(whole or tables, key=lambda key: int(key.split("x")[0]))]


def _points(fitted: Curve) -> str:
    return toml.points(fitted, "", 1e12)


def _workspace(fit: Fit) -> float:
    return max((s.state.get("workspace_bytes", 0.0) for s in fit.samples), default=0.0) or WORKSPACE


def _note_tables(fit: Fit, products: dict[str, Curve], attentions: dict[str, Curve]) -> None:
    """Held-out errors of tables by shape."""
    rows = [
        ("gpu.gemm_shapes", "gemm", products, product_key, lambda s: float(s.config["rows"]), product_work),
        (
            "gpu.attention_shapes",
            "attention",
            attentions,
            attention_key,
            lambda s: float(s.config["queries"]),
            attention_work,
        ),
    ]
    for name, probe, tables, key, size, work in rows:
        errors: list[float] = []
        for shape, group in by_key(fit.of(probe), key).items():
            errors += interpolation_error(tables[shape], rate_points(group, size, work, held_out=True))
        note_table(fit, name, f"{len(tables)} shapes", errors, fit.of(probe))


def _note_rates(fit: Fit, elementwise: Curve, relayout: Curve | None, unpack: Curve) -> None:
    """Held-out errors of rates of memory, where they were measured."""
    rows = [
        ("elementwise", elementwise, bytes_of, bytes_of),
        ("relayout", relayout, relayout_bytes, relayout_bytes),
        ("unpack", unpack, unpack_bits, unpack_bytes),
    ]
    for probe, fitted, size, work in rows:
        if fitted is not None and fit.of(probe):
            errors = interpolation_error(fitted, rate_points(fit.of(probe), size, work, held_out=True))
            note_table(fit, f"gpu.{probe}", f"{fitted.highest() / 1e9:.0f} GB/s at most", errors, fit.of(probe))


def _power(watts: float | None, source: str, otherwise: str, usual: float = 0.0) -> str:
    """A power that was measured if there is a source for it, else a guess."""
    if watts is None or not source:
        return toml.quantity(usual if watts is None else watts, "guess", otherwise)
    return toml.quantity(watts, "measured", source)


def add_clock(fit: Fit, gpu: GPU) -> None:
    """The clock's tables; without a power limit or a load that reaches it a line in the summary that says so."""
    limit = fit.inventory.power_limit_watts
    idle, idle_source = idle_power(fit)
    found = None
    if limit:
        found = fit_clock(fit.of("soak"), fit.of("soak-together"), fit.of("duty"), gpu, Powers(limit, idle))
    if found is None:
        why = "no load reached the power limit, or no clock was read" if limit else "nvidia-smi tells no power limit"
        fit.rows.append(SummaryRow("gpu.clock", "none", "", "", 0, why))
        return
    burst = ("measured", "energy counter") if found.burst_counted else ("guess", "as far above the limit as two H100")
    powers = [
        ("limit_W", toml.quantity(limit, "measured", "nvidia-smi, power.limit")),
        ("burst_W", toml.quantity(found.powers.burst, *burst)),
        ("averaging_ms", toml.quantity(AVERAGING, "guess", "bursts of 0.8 s on all chips", None, 1e-3)),
        ("idle_W", _power(idle, idle_source, "as one of 2 x H100 drew")),
        (
            "collective_W",
            _power(collective_power(fit, idle), "energy counter", "as on two of 2 x H100", EXCHANGING),
        ),
        ("copy_W", _power(copy_power(fit, idle), "energy counter", "as on one of 2 x H100", COPYING)),
    ]
    exponent = [*_fitted(fit, found, "power_exponent"), *_usual(found, "power_exponent")]
    fit.table("gpu.clock", [*powers, *_fitted(fit, found, "window"), *exponent])
    for group in ("energy", "knee"):
        fit.table(f"gpu.clock.{group}", [*_fitted(fit, found, group), *_usual(found, group)])
    worst = max(found.errors.items(), key=lambda item: abs(item[1]))
    note = f"worst of {len(found.errors)} loads: {worst[0]} {100 * worst[1]:+.1f} %"
    fit.rows.append(SummaryRow("gpu.clock", f"{found.highest_MHz:.0f} MHz at most", "", "", len(found.errors), note))


def _fitted(fit: Fit, found: ClockFit, group: str) -> list[tuple[str, str] | None]:
    """Lines of what was found, noted in the summary."""
    chosen = {name: e for name, e in found.values.items() if name.split(".")[0] == group}
    source = "soak and duty probes"
    return [fit.entry(f"gpu.clock.{name}", e, *CLOCK_UNITS[group], source) for name, e in chosen.items()]


def _usual(found: ClockFit, group: str) -> list[tuple[str, str]]:
    """Lines of what these loads don't tell."""
    unit, factor = CLOCK_UNITS[group]
    values = completed({name: estimate.value for name, estimate in found.values.items()})
    names = [name for name in values if name.split(".")[0] == group and name not in found.values]
    keys = [name.removeprefix(f"{group}.") + (f"_{unit}" if unit else "") for name in names]
    source = "no load here tells it by itself: median of five H100 SXM"
    lines = [toml.quantity(values[name], "guess", source, None, factor) for name in names]
    return list(zip(keys, lines, strict=True))
