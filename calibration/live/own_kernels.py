"""The project's own CUDA kernels on live memory.

Accesses beside copies are timed on one axis: events around the kernel and after every copy, all against one first
event. The copies begin before the kernel, read memory of their own, and are issued more and more until they last long
enough.
"""

from itertools import cycle, islice
from statistics import median
from typing import Any

import torch

from calibration.kernels.bindings import KernelLibrary, load_kernel_library
from calibration.probes.own_programs import OUTLASTING, AccessRates, rates_inside
from calibration.probes.writing import MIB

from .session import Session

HOST_BUFFER_BYTES = 512 * MIB
"""Bytes of the buffer in host memory: twice what a large processor's cache could hold."""
BYTES_PER_THREAD_BLOCK = 128 * MIB
"""Bytes moved by one thread block; all blocks together move the buffer once at most."""
ITERATIONS = 3
COPY_BESIDE_BYTES = 64 * MIB
FEWEST_COPIES, MOST_COPIES = 16, 512
LEAD = 2
"""How many copies are done before the accesses begin."""


class LiveKernels:
    """Triads and SM accesses to host memory on this session's GPU."""

    def __init__(self, session: Session) -> None:
        self.session = session
        major, minor = torch.cuda.get_device_capability()
        self.library: KernelLibrary = load_kernel_library(native=f"sm_{major}{minor}")
        self.library.prepare()
        self._memory: tuple[Any, Any] | None = None
        self._copied: tuple[Any, Any] | None = None
        self._copies = FEWEST_COPIES

    def triad_seconds(self, bytes_: int, iterations: int) -> list[float]:
        """Seconds of a = b + s c over arrays of so many bytes; moves three times as many."""
        device = self.session.device.torch_device
        a, b, c = (torch.randn(bytes_ // 4, device=device) for _ in range(3))
        torch.cuda.synchronize()
        stream = torch.cuda.current_stream().cuda_stream
        return self.library.triad_seconds(a.data_ptr(), b.data_ptr(), c.data_ptr(), bytes_, 2.0, iterations, stream)

    def sm_rates(self, direction: str, blocks: int, *, beside_copies: bool) -> AccessRates | None:
        """What thread blocks move to or from pinned memory, and H2D copies beside; None if these did not last."""
        moved = min(HOST_BUFFER_BYTES, blocks * BYTES_PER_THREAD_BLOCK)
        if beside_copies:
            return self._beside_copies(direction, blocks, moved)
        host, device = self._buffers()
        stream = torch.cuda.current_stream().cuda_stream
        seconds = self.library.sm_read_seconds if direction == "read" else self.library.sm_write_seconds
        times = seconds(host.data_ptr(), device.data_ptr(), HOST_BUFFER_BYTES, moved, blocks, ITERATIONS, stream)
        return AccessRates(moved / median(times), 0.0)

    def _beside_copies(self, direction: str, blocks: int, moved: int) -> AccessRates | None:
        """Rates beside copies, measured again with twice as many copies until they outlast the accesses."""
        while True:
            window, ends = self._timed_beside(direction, blocks, moved)
            lasted = ends[-1] - ends[0] > OUTLASTING * (window[1] - window[0]) and ends[-1] > window[1]
            if lasted or self._copies >= MOST_COPIES:
                return rates_inside(*window, moved, ends, COPY_BESIDE_BYTES)
            self._copies *= 2

    def _timed_beside(self, direction: str, blocks: int, moved: int) -> tuple[tuple[float, float], list[float]]:
        """Begin and end of the accesses, and the instants after 0, 1, 2, ... copies."""
        host, device = self._buffers()
        access = self.library.sm_read if direction == "read" else self.library.sm_write
        first, begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        torch.cuda.synchronize()
        first.record()
        marks = self._issue_copies()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            stream.wait_event(marks[LEAD])
            begin.record()
            access(host.data_ptr(), device.data_ptr(), HOST_BUFFER_BYTES, moved, blocks, stream.cuda_stream)
            end.record()
        torch.cuda.synchronize()
        at = [first.elapsed_time(event) / 1e3 for event in (begin, end, *marks)]
        return (at[0], at[1]), at[2:]

    def _issue_copies(self) -> list[Any]:
        """Back-to-back H2D copies on a stream of their own, with an event before the first and after each."""
        source, target = self._copy_buffers()
        stream = torch.cuda.Stream()
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(self._copies + 1)]
        with torch.cuda.stream(stream):
            marks[0].record()
            for mark, piece in zip(
                marks[1:], islice(cycle(source.split(COPY_BESIDE_BYTES)), self._copies), strict=True
            ):
                target.copy_(piece, non_blocking=True)
                mark.record()
        return marks

    def _buffers(self) -> tuple[Any, Any]:
        """Host and device side of the accesses."""
        if self._memory is None:
            self._memory = _pinned(), self._on_device(HOST_BUFFER_BYTES)
        return self._memory

    def _copy_buffers(self) -> tuple[Any, Any]:
        if self._copied is None:
            self._copied = _pinned(), self._on_device(COPY_BESIDE_BYTES)
        return self._copied

    def _on_device(self, bytes_: int) -> Any:
        return torch.empty(bytes_, dtype=torch.uint8, device=self.session.device.torch_device)


def _pinned() -> Any:
    return torch.empty(HOST_BUFFER_BYTES // 8, dtype=torch.int64).random_().view(torch.uint8).pin_memory()
