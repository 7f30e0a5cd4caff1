"""Probes: what a calibration asks a node, in the order in which it asks.

Clocks come before what they would disturb; a few minutes in all. Held out of every calibration: collectives beside
copies by size, which check it, three flows at once and whole blocks, which replays measure.
"""

from .collectives import AllGather, AllToAll
from .contention import CollectivePair, CopyCollective, KernelCollective, KernelCopy
from .copies import Bidirectional, Chunks, CopyOrder, D2HSweep, H2DSweep, Pageable, Together
from .draw import Draw, DrawTogether
from .kernels_time import AttentionKernels, ElementwiseKernels, ProductKernels, RelayoutKernels, UnpackingKernels
from .overheads import CommandOverheads
from .own_programs import SmAccess, Triad
from .pair_sizes import PairSizes
from .power import Duty, Soak, SoakTogether
from .probe import Probe

__all__ = ["PROBES", "Probe"]

PROBES: tuple[Probe, ...] = (
    CommandOverheads(),
    H2DSweep(),
    D2HSweep(),
    Chunks(),
    Pageable(),
    Bidirectional(),
    CopyOrder(),
    Triad(),
    SmAccess(),
    ProductKernels(),
    AttentionKernels(),
    ElementwiseKernels(),
    RelayoutKernels(),
    UnpackingKernels(),
    KernelCopy(),
    Draw(),
    Soak(),
    Duty(),
    Together(),
    AllToAll(),
    AllGather(),
    CopyCollective(),
    KernelCollective(),
    CollectivePair(),
    DrawTogether(),
    SoakTogether(),
    PairSizes(),
)
