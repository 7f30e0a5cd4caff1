"""What buffers hold: reproducible random weights, the same wherever and however they are stored.

The bytes of a block depend on its name alone, so a block's output is the same under every policy. Values are bf16,
normal, scaled by 0.014 (about 1 / sqrt(5120)), so that products neither vanish nor overflow: a GPU multiplies zeros
with less power. Whole experts are laid out as their blocks, one after the other, and then the rest.
"""

from math import ceil
from typing import Any
from zlib import crc32

import torch

from offsim.program.offloading.hooks import EXPERT_NAMES, weights_of
from offsim.scenario.scenario import Scenario

BASE_ELEMENTS = 2**24
WEIGHT_STD = 0.014
HOST_SUFFIX = " on host"
SHARD_SUFFIX = " shard"

BufferPart = tuple[str, int]
"""A named piece of a buffer, and its bytes."""


class BufferContents:
    """Fills buffers by name with reproducible random weights."""

    def __init__(self, device: Any, layout: dict[str, list[BufferPart]] | None = None) -> None:
        generator = torch.Generator().manual_seed(20)
        base = torch.randn(BASE_ELEMENTS, generator=generator, dtype=torch.float32)
        self._base = (base * WEIGHT_STD).to(torch.bfloat16).view(torch.uint8).to(device)
        self.layout = layout or {}

    def fill(self, tensor: Any, name: str, start: int = 0) -> None:
        """Put the bytes from `start` of the named weights into a tensor of bytes."""
        if name not in self.layout:
            self._fill(tensor, name, start)
            return
        at = 0
        for part, bytes_ in self.layout[name]:
            self._fill(tensor[at : at + bytes_], part, 0)
            at += bytes_

    def _fill(self, tensor: Any, name: str, start: int) -> None:
        length = self._base.numel()
        offset = (crc32(name.encode()) * 2 + start) % length
        done = 0
        while done < tensor.numel():
            n = min(length - offset, tensor.numel() - done)
            tensor[done : done + n].copy_(self._base[offset : offset + n])
            done, offset = done + n, 0

    def offset(self, buffer: str, part: str) -> int:
        """First byte of a part within a buffer: 0 where the buffer is that part."""
        at = 0
        for name, bytes_ in self.layout.get(buffer, ()):
            if name.endswith(f".{part}"):
                return at
            at += bytes_
        return 0


def expert_layout(scenario: Scenario) -> dict[str, list[BufferPart]]:
    """Names of whole experts -> their parts: blocks in order, then all else."""
    sizes = weights_of(scenario)
    found = {}
    for expert, name in enumerate(EXPERT_NAMES[: sizes.experts]):
        parts = [
            (sizes.buffer(expert, index, block), ceil(sizes.block[index]))
            for index, count in enumerate(sizes.count)
            for block in range(count)
        ]
        found[name] = [*parts, (f"{name} other", ceil(sizes.other))]
    return found


def weights_name(buffer: str) -> str:
    """The weights that a buffer (or the host's copy of it, or a shard) holds."""
    return buffer.removesuffix(HOST_SUFFIX).removesuffix(SHARD_SUFFIX)
