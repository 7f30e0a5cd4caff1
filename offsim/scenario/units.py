"""Units at the edge: which suffix a key carries in a file, and the factor that makes it SI.

Inside offsim every number is in seconds, bytes, bytes/s, FLOP/s. A field of a scenario file that has a
dimension is written with its unit in the key (``h2d_GBps = 55.2``); this module is the only place that
converts. GB is 10^9 bytes, GiB is 2^30.
"""

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from msgspec import Meta

SUFFIXES: dict[str, dict[str, float]] = {
    "bytes": {"GiB": 2.0**30, "GB": 1e9, "MiB": 2.0**20, "MB": 1e6, "KiB": 2.0**10, "bytes": 1.0},
    "rate": {"GBps": 1e9, "MBps": 1e6, "TBps": 1e12},
    "time": {"us": 1e-6, "ms": 1e-3, "s": 1.0},
    "flops": {"TFLOPS": 1e12, "GFLOPS": 1e9},
    "power": {"W": 1.0, "kW": 1e3},
    "energy": {"pJ": 1e-12, "nJ": 1e-9},
}
"""Dimension -> suffix -> factor to SI; the first suffix of each is the one that messages suggest."""

RANGES = {
    "bytes": Meta(ge=0, le=1e18),
    "rate": Meta(ge=1e6, le=1e18),
    "time": Meta(ge=0, le=1e6),
    "flops": Meta(ge=1e9, le=1e24),
    "power": Meta(ge=0, le=1e6),
    "energy": Meta(ge=0, le=1e-6),
    "none": Meta(ge=-1e30, le=1e30),
}
"""Dimension -> what a file may say, in SI, unless the field says otherwise: no rate is zero or infinite."""


def dimension(name: str) -> Meta:
    """Type annotation that gives a field its dimension (a key of `SUFFIXES`)."""
    return Meta(extra={"dimension": name})


def within(bounds: Meta) -> Meta:
    """Type annotation that bounds a quantity or the values of a curve, in SI."""
    return Meta(extra={"within": bounds})


LONGEST_NAME = 100
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*\Z",
        max_length=LONGEST_NAME,
        description="a name of letters, digits and . _ + -, as wan2.2-t2v-a14b",
    ),
]
"""Names become folders and columns."""
Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, RANGES["time"], dimension("time")]


def dimension_of(annotation: Any) -> str | None:
    """The dimension that an annotated field type carries, or None for a plain number."""
    if get_origin(annotation) is Annotated:
        for meta in get_args(annotation)[1:]:
            extra = getattr(meta, "extra", None)
            if extra and "dimension" in extra:
                return str(extra["dimension"])
    if get_origin(annotation) in (Union, UnionType):
        return next((found for member in get_args(annotation) if (found := dimension_of(member))), None)
    return None


def to_si(value: float, factor: float) -> float:
    """A file's number in SI; small units divide, so that 10 us are 1e-5 s to the last digit."""
    return value * factor if factor >= 1 else value / round(1 / factor)


def key_names(field: str, dimension: str | None) -> dict[str, float]:
    """Keys that a file may use for `field`, with the factor of each to SI."""
    if dimension is None:
        return {field: 1.0}
    return {f"{field}_{suffix}": factor for suffix, factor in SUFFIXES[dimension].items()}


def usual_unit(dimension: str, value: float) -> tuple[str, float]:
    """The suffix with which people write a value, and its factor to SI: the first; of times, one that suits the value.

    >>> usual_unit("rate", 5e6), usual_unit("time", 0.03), usual_unit("time", 0.0)
    (('GBps', 1000000000.0), ('ms', 0.001), ('us', 1e-06))
    """
    units = SUFFIXES[dimension]
    fitting = [suffix for suffix, factor in units.items() if dimension == "time" and factor <= value]
    suffix = fitting[-1] if fitting else next(iter(units))
    return suffix, units[suffix]


def preferred_key(field: str, dimension: str | None) -> str:
    """The key that messages use for `field`: with the most usual unit."""
    return next(iter(key_names(field, dimension)))
