"""Block architectures: which operations a block of each family consists of, from its sizes.

Each function follows the published module's forward order; its parameters are checked against counts of the
real class, so a shape that doesn't match its checkpoint cannot be loaded.
"""

from collections.abc import Callable

from .cosmos import cosmos
from .double_stream import flux2_double, flux2_single, flux_double, flux_single
from .ltx2 import ltx2
from .mochi import mochi, mochi_last
from .pieces import Operations, Sizes
from .single_stream import cogvideox, minimax_h3, z_image, z_image_context_refiner, z_image_noise_refiner
from .wan import wan, wan_i2v
from .wan_eager import Outside, wan_after_blocks, wan_before_blocks, wan_eager

__all__ = ["ARCHITECTURES", "EAGER", "Outside", "Sizes", "block_operations", "eager_operations", "outside_operations"]

ARCHITECTURES: dict[str, Callable[[Sizes], Operations]] = {
    "cogvideox": cogvideox,
    "cosmos": cosmos,
    "flux-double": flux_double,
    "flux-single": flux_single,
    "flux2-double": flux2_double,
    "flux2-single": flux2_single,
    "ltx2": ltx2,
    "minimax-h3": minimax_h3,
    "mochi": mochi,
    "mochi-last": mochi_last,
    "wan": wan,
    "wan-i2v": wan_i2v,
    "z-image": z_image,
    "z-image-context-refiner": z_image_context_refiner,
    "z-image-noise-refiner": z_image_noise_refiner,
}


def block_operations(block: Sizes) -> Operations:
    """The operations of one block, in the order in which the module runs them."""
    return ARCHITECTURES[block.architecture](block)


EAGER: dict[str, Callable[[Sizes], Operations]] = {"wan": wan_eager}
"""Architectures of which every kernel of the diffusers library's forward is known, with the modules' names."""


def eager_operations(block: Sizes) -> Operations:
    """The operations of one block as the diffusers library runs them; KeyError if they are not known."""
    return EAGER[block.architecture](block)


def outside_operations(block: Sizes, outside: Outside) -> tuple[Operations, Operations]:
    """What the diffusers library runs before and after the blocks of a Wan model."""
    return wan_before_blocks(block, outside), wan_after_blocks(block, outside)
