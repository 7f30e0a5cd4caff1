"""The named buffers of a running program: device memory from torch's pools, host copies, activations.

Host copies are found by name: a copy of buffer `x` reads or writes `x on host`; of a part of it, the longest name that
it begins with. What is allocated in the load phase is filled with its weights; host copies stay for the next run of the
program.
"""

from collections.abc import Callable
from math import ceil
from typing import Any

from offsim.program.commands import COMPUTE, HOST_POOLS, Allocate, Compute, Copy, Free, Piece, StreamProgram

from .contents import HOST_SUFFIX, SHARD_SUFFIX, BufferContents, weights_name
from .device import LiveDevice
from .kernels import ELEMENT, Activations, output_elements

ACTIVATIONS = "activations"
LEAST_NOISE = 2**20
"""Elements to fill fresh activations with, where no kernel asks for more."""
PlannedCall = Callable[[], object]
"""What a command does when its turn comes, prepared beforehand."""


class Memory:
    """The named buffers of one rank."""

    def __init__(
        self, program: StreamProgram, device: LiveDevice, contents: BufferContents, rank: int, side_rows: frozenset[int]
    ) -> None:
        self.device, self.contents, self.rank, self.ranks = device, contents, rank, program.ranks
        self.buffers: dict[str, Any] = {}
        self.host: dict[str, Any] = {}
        self.loading = False
        self.always_filled = False
        """Activations are filled at every allocation, so that results can be compared."""
        self.activations = Activations(device.torch_device, side_rows)
        self.activations.reserve_noise(LEAST_NOISE)
        self._filled: set[int] = set()
        self._pieces = _pieces(program)
        self._spare = ELEMENT * max((output_elements(k) for k in _attentions(program)), default=0)
        self.activations.spare_bytes = self._spare

    def clear(self) -> None:
        """Give back all but the host copies."""
        self.buffers.clear()
        state = self.activations
        state.buffer = state.outside = state.spare = None

    def ends(self, command: Copy, bytes_: int) -> tuple[Any, Any]:
        """The device side and the host side of a copy."""
        device_side = piece_of(self.buffers[command.buffer], command.piece)
        if bytes_ < device_side.numel():
            start = self.rank * bytes_
            start = start if start + bytes_ <= device_side.numel() else 0
            device_side = device_side[start : start + bytes_]
        names = (f"{command.name} on host", f"{command.buffer} on host")
        found = next((name for name in names if name in self.buffers), None) or self._whole_of(command.name)
        return device_side, piece_of(self.buffers[found], command.piece)[: device_side.numel()]

    def _whole_of(self, name: str) -> str:
        """The host's copy of what `name` is a part of: of `encoder layer`, `encoder on host`."""
        wholes = [b for b in self.buffers if b.endswith(HOST_SUFFIX) and name.startswith(b.removesuffix(HOST_SUFFIX))]
        if not wholes:
            raise KeyError(f"copy {name!r}: no buffer {name + HOST_SUFFIX!r} nor one that it is a part of")
        return max(wholes, key=len)

    def allocate(self, command: Allocate) -> PlannedCall:
        """The function that makes an allocation when its turn comes."""
        name, bytes_ = command.buffer, ceil(command.bytes)
        if name == ACTIVATIONS:
            return lambda: self._allocate_activations(bytes_ - self._spare)

        def call() -> None:
            if command.pool in HOST_POOLS and self.loading:
                self.buffers[name] = self._host_copy(name, bytes_, command.pool)
                return
            self.buffers[name] = buffer = self.device.empty(bytes_, command.pool)
            if self.loading:
                self.contents.fill(buffer, name)

        return call

    def _host_copy(self, name: str, bytes_: int, pool: str) -> Any:
        """Weights on the host, filled once and kept for the next run of this program."""
        if name not in self.host or self.host[name].numel() != bytes_:
            self.host[name] = self.device.empty(bytes_, pool)
            shard = name.endswith(SHARD_SUFFIX + HOST_SUFFIX)
            count = self._pieces.get(name.removesuffix(HOST_SUFFIX), 1)
            for k in range(count) if shard else ():
                part = piece_of(self.host[name], (k, count))
                self.contents.fill(part, weights_name(name), (k * self.ranks + self.rank) * part.numel())
            if not shard:
                self.contents.fill(self.host[name], weights_name(name))
        return self.host[name]

    def _allocate_activations(self, bytes_: int) -> None:
        buffer = self.device.empty(-(-bytes_ // 256) * 256, COMPUTE)
        if buffer.data_ptr() not in self._filled or self.always_filled:
            # Memory that comes for the first time may hold zeros, which a GPU multiplies with less power.
            self._filled.add(buffer.data_ptr())
            self._fill_with_noise(buffer)
        self.buffers[ACTIVATIONS] = buffer
        self._use(buffer.view(self.activations.noise.dtype))

    def _fill_with_noise(self, buffer: Any) -> None:
        noise = self.activations.noise.view(buffer.dtype)
        for start in range(0, buffer.numel(), noise.numel()):
            part = buffer[start : start + noise.numel()]
            part.copy_(noise[: part.numel()])

    def free(self, command: Free) -> PlannedCall:
        """The function that frees a buffer when its turn comes; memory returns to its pool in host order."""
        name = command.buffer
        if name == ACTIVATIONS:
            return self._free_activations
        if command.recorded:
            return lambda: self.device.record_use(self.buffers.pop(name), command.recorded)
        return lambda: self.buffers.pop(name)

    def _free_activations(self) -> None:
        del self.buffers[ACTIVATIONS]
        self._use(None)

    def _use(self, buffer: Any) -> None:
        """What kernels issued from now on work in: a device that defers work must change it in the stream's order."""

        def change() -> None:
            state = self.activations
            state.buffer, state.outside, state.spare = buffer, None, None
            state.hold_spare()

        self.device.put(COMPUTE, change)


def piece_of(buffer: Any, piece: Piece) -> Any:
    """One of so many pieces of a tensor, equal but for rounding."""
    which, count = piece
    return buffer[which * buffer.numel() // count : (which + 1) * buffer.numel() // count]


def _pieces(program: StreamProgram) -> dict[str, int]:
    """In how many pieces copies are made, by the copy's name."""
    distinct = {id(section.commands): section.commands for section in program.sections}.values()
    return {c.name: c.piece[1] for commands in distinct for c in commands if isinstance(c, Copy)}


def _attentions(program: StreamProgram) -> list[Any]:
    return [
        kernel
        for commands in {id(section.commands): section.commands for section in program.sections}.values()
        for command in commands
        if isinstance(command, Compute)
        for kernel in command.kernels
        if kernel.kernel_class == "attention"
    ]
