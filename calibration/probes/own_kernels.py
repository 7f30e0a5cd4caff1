"""Timings with our own kernels: the HBM triad, and SMs that read and write pinned host memory.

Buffers and streams are raw pointers that the caller owns; each call waits for its kernels. Leaves out what runs beside
them: queue that on other streams before the call.
"""

from typing import Literal

from calibration.kernels.library import Library

TRIAD_SCALE = 3.0
TRANSFERS = 5


def triad_seconds(
    library: Library, device_pointers: tuple[int, int, int], bytes: int, iterations: int, stream: int = 0
) -> list[float]:
    """Seconds of each triad over three device arrays of `bytes` each; each moves 3 * `bytes`."""
    a, b, c = device_pointers
    return library.triad_seconds(a, b, c, bytes, TRIAD_SCALE, iterations, stream)


def sm_transfer_seconds(
    library: Library,
    host_pointer: int,
    device_pointer: int,
    bytes: int,
    blocks: int,
    direction: Literal["read", "write"],
    stream: int = 0,
    iterations: int = TRANSFERS,
) -> list[float]:
    """Seconds in which `blocks` thread blocks read or write `bytes` (a multiple of 65,536) of pinned memory, each time."""
    if direction not in ("read", "write"):
        raise ValueError(f"direction {direction!r}: expected read or write")
    measure = library.sm_read_seconds if direction == "read" else library.sm_write_seconds
    return measure(host_pointer, device_pointer, bytes, bytes, blocks, iterations, stream)


def sm_transfer_rate(
    library: Library,
    host_pointer: int,
    device_pointer: int,
    bytes: int,
    blocks: int,
    direction: Literal["read", "write"],
    stream: int = 0,
    iterations: int = TRANSFERS,
) -> list[float]:
    """As sm_transfer_seconds, in bytes/s."""
    seconds = sm_transfer_seconds(library, host_pointer, device_pointer, bytes, blocks, direction, stream, iterations)
    return [bytes / value for value in seconds]
