"""Pinned host memory, carved from large slabs that are pinned once.

Pinning costs about 0.4 s per GiB, so slabs outlive the programs that use them. torch's own allocator would round each
block up to a power of two; that rounding is predicted (results.memory), not replayed.
"""

from typing import Any

import torch

SLAB = 2**32
ALIGNMENT = 4096


class PinnedMemory:
    """Slabs of page-locked bytes, of which programs take what they need (ordinary bytes where `pin` is false)."""

    def __init__(self, *, pin: bool) -> None:
        self._pin = pin
        self._slabs: list[Any] = []
        self._free: list[tuple[int, int]] = []
        """(slab, first free byte)."""

    def take(self, bytes_: int) -> Any:
        """A tensor of `bytes_` bytes that nobody else has until `reset`."""
        for i, (slab, start) in enumerate(self._free):
            if start + bytes_ <= self._slabs[slab].numel():
                end = start + -(-bytes_ // ALIGNMENT) * ALIGNMENT
                self._free[i] = (slab, end)
                return self._slabs[slab][start : start + bytes_]
        size = max(SLAB, bytes_) if self._pin else bytes_
        self._slabs.append(torch.empty(size, dtype=torch.uint8, pin_memory=self._pin))
        self._free.append((len(self._slabs) - 1, -(-bytes_ // ALIGNMENT) * ALIGNMENT))
        return self._slabs[-1][:bytes_]

    def reset(self) -> None:
        """Let everything that was taken be free again; the slabs stay pinned."""
        self._free = [(slab, 0) for slab in range(len(self._slabs))]
