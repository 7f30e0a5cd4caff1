"""What runs beside something else takes longer: by how much, on one GPU."""

from msgspec import Struct

from .dimensions import SlowdownQuantity


class Interference(Struct, frozen=True, forbid_unknown_fields=True):
    """How much longer something takes while other things are active on its GPU; what is left out slows nothing.

    Relative: 0.09 makes it 9 % longer.
    """

    h2d: SlowdownQuantity | None = None
    d2h: SlowdownQuantity | None = None
    collective: SlowdownQuantity | None = None
    """Beside any collective; for a kind of collective: beside the other kind, with which it shares what NVLink, or the
    way to host memory, lets pass."""


class KernelInterference(Struct, frozen=True, forbid_unknown_fields=True):
    """What copies and collectives on a GPU cost its kernels, by their class."""

    gemm: Interference = Interference()
    attention: Interference = Interference()
    elementwise: Interference = Interference()
    relayout: Interference = Interference()
