"""Python's cyclic collector, kept out of what is long or timed.

Left out: collecting first. That takes a tenth of a second where a framework is loaded, of another length in every
process, so ranks would begin apart.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Switch the cyclic collector off for the body; what nobody refers to any more goes at once as ever."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
