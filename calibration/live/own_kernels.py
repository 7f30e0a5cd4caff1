"""The project's own CUDA kernels on live memory."""

from typing import Any

import torch

from calibration.kernels.library import Library, load

from .session import Session

MIB = 2**20
BUFFER = 256 * MIB
MOVED = 512 * MIB
COPIES = 30
COPY = 64 * MIB


class LiveKernels:
    """Triads and SM reads of host memory on this session's GPU."""

    def __init__(self, session: Session) -> None:
        self.session = session
        major, minor = torch.cuda.get_device_capability()
        self.library: Library = load(native=f"sm_{major}{minor}")
        self.library.prepare()
        self._memory: tuple[Any, Any, Any] | None = None

    def triad_seconds(self, bytes_: int, iterations: int) -> list[float]:
        """See calibration.probes.own_programs.OwnKernels."""
        device = self.session.device.torch_device
        a, b, c = (torch.randn(bytes_ // 4, device=device) for _ in range(3))
        torch.cuda.synchronize()
        stream = torch.cuda.current_stream().cuda_stream
        return self.library.triad_seconds(a.data_ptr(), b.data_ptr(), c.data_ptr(), bytes_, 2.0, iterations, stream)

    def sm_rates(self, direction: str, blocks: int, *, beside_copies: bool) -> tuple[float, float]:
        """See calibration.probes.own_programs.OwnKernels."""
        host, device, landing = self._buffers()
        stream = torch.cuda.current_stream().cuda_stream
        seconds = self.library.sm_read_seconds if direction == "read" else self.library.sm_write_seconds
        moved = min(MOVED, blocks * 64 * MIB)
        copies = self._copies(host, landing) if beside_copies else None
        times = seconds(host.data_ptr(), device.data_ptr(), BUFFER, moved, blocks, 2, stream)
        torch.cuda.synchronize()
        rate = moved / min(times)
        if copies is None:
            return rate, 0.0
        begin, end = copies
        return rate, COPIES * COPY / (begin.elapsed_time(end) / 1e3)

    def _copies(self, host: Any, landing: Any) -> tuple[Any, Any]:
        """Back-to-back H2D copies on another stream, between two events."""
        stream = torch.cuda.Stream()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(stream):
            begin.record()
            for _ in range(COPIES):
                landing.copy_(host[:COPY], non_blocking=True)
            end.record()
        return begin, end

    def _buffers(self) -> tuple[Any, Any, Any]:
        if self._memory is None:
            host = torch.empty(BUFFER, dtype=torch.uint8).random_().pin_memory()
            device, landing = (
                torch.empty(size, dtype=torch.uint8, device=self.session.device.torch_device) for size in (BUFFER, COPY)
            )
            self._memory = host, device, landing
        return self._memory
