"""Kernels of a program on real tensors, planned once: which torch operation works on which part of the activations.

Activations live in one buffer, whose two ends take turns: a kernel reads the end that the one before wrote and
writes the other. Products read their weights from the block's buffer, one after the other. Elementwise kernels blend
the activations with noise in place (three passes over memory in all), which keeps their size; attention's output comes
from the framework. Rows of text or conditions live beside, in buffers of their own.
Assumes that time depends on shapes and traffic; left out: biases, masks, and which elementwise function is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from offsim.program.commands import Collective, Compute, Kernel

from .device import QueuedWork

BLEND = 0.7
UNPACKED_SCALE = 2e-4
"""Factor on unpacked values: bytes of bf16 weights, read as integers, are about 70 in size; weights 0.014."""
ELEMENT = 2
"""Bytes of a bf16 activation."""

Tensor = Any


@dataclass
class ActivationPlace:
    """Where the activations are: an end of the buffer, or a tensor of the framework's."""

    low: bool = True
    outside: bool = False


@dataclass
class Activations:
    """The activation buffer of a run, and what stands beside it."""

    device: Any
    side_rows: frozenset[int] = frozenset()
    buffer: Tensor = None
    """The activations in bf16, flat; None outside a forward."""
    outside: Tensor = None
    """The last attention's output."""
    spare_bytes: int = 0
    spare: Tensor = None
    """Part of the activations' memory: given to the framework while it holds an attention's output."""
    noise: Tensor = None
    side: dict[int, Tensor] = field(default_factory=dict)
    """Number of rows -> a flat buffer of text or conditions."""

    def reserve_noise(self, elements: int) -> None:
        """Have noise of so many elements ready, for kernels outside the forward and for blending."""
        if self.noise is None or self.noise.numel() < elements:
            generator = torch.Generator(device=self.device).manual_seed(7)
            shape = (max(elements, 1),)
            self.noise = torch.empty(shape, dtype=torch.bfloat16, device=self.device)
            self.noise.normal_(generator=generator)

    def reserve_side(self, rows: int, elements: int) -> None:
        """Have twice `elements` ready for the rows that stand beside: an input and an output."""
        if rows not in self.side or self.side[rows].numel() < 2 * elements:
            self.reserve_noise(2 * elements)
            self.side[rows] = self.noise[: 2 * elements].clone()

    def part(self, elements: int, *, low: bool) -> Tensor:
        """The first elements of the buffer, or its last."""
        whole = self.buffer if self.buffer is not None else self.noise
        if elements > whole.numel():
            raise ValueError(f"activations: {elements} elements asked for, the buffer has {whole.numel()}")
        return whole[:elements] if low else whole[whole.numel() - elements :]

    def read(self, elements: int, place: ActivationPlace) -> Tensor:
        """The tensor that the next kernel reads."""
        if place.outside and self.outside is not None and self.outside.numel() >= elements:
            return self.outside[:elements]
        return self.part(elements, low=place.low)

    def done_with(self, place: ActivationPlace) -> None:
        """Give attention's output back once the next kernel has read it."""
        if place.outside and self.outside is not None:
            self.outside = None
            self.hold_spare()

    def hold_spare(self) -> None:
        """Keep what an attention's output will take, so that the level is the program's."""
        if self.spare_bytes and self.buffer is not None:
            self.spare = torch.empty(self.spare_bytes, dtype=torch.uint8, device=self.device)


def output_elements(kernel: Kernel) -> int:
    """Elements that an attention kernel's output takes from the framework."""
    samples, heads, queries, _, width = kernel.shape
    return samples * heads * queries * width


def blended(kernel: Kernel) -> int:
    """Elements that an elementwise kernel reads, blends and writes: a third of its traffic."""
    rows, elements = kernel.shape
    return max(1, rows * elements // 3)


class Planner:
    """Turns kernels into torch operations; knows at plan time which end of the buffer is current."""

    def __init__(self, activations: Activations) -> None:
        self.activations = activations
        self.place = ActivationPlace()
        self._block = ""
        self._used = 0

    def compute(self, command: Compute) -> list[Callable[[Tensor], QueuedWork]]:
        """A function for each kernel, from the weights (bytes, from the block's start) to what runs on the stream."""
        block = block_key(command.name)
        if block != self._block:
            self._block, self._used = block, 0
        return [self._kernel(kernel) for kernel in command.kernels]

    def _kernel(self, kernel: Kernel) -> Callable[[Tensor], QueuedWork]:
        if kernel.kernel_class == "gemm":
            return self._product(kernel)
        if kernel.kernel_class == "attention":
            return self._attention(kernel)
        if kernel.kernel_class == "relayout":
            return self._relayout(kernel)
        return self._elementwise(kernel)

    def _product(self, kernel: Kernel) -> Callable[[Tensor], QueuedWork]:
        rows, inputs, outputs = kernel.shape
        size = inputs * outputs * ELEMENT
        start = self._used
        self._used += size
        state = self.activations
        if rows in state.side_rows:
            state.reserve_side(rows, rows * max(inputs, outputs))
            return lambda weights: (
                lambda: _multiply(
                    state.side[rows][: rows * inputs],
                    _matrix(weights, start, size),
                    state.side[rows][state.side[rows].numel() - rows * outputs :],
                    kernel.shape,
                )
            )
        place = self._turn()

        def run(weights: Tensor) -> None:
            target = state.part(rows * outputs, low=not place.low)
            _multiply(state.read(rows * inputs, place), _matrix(weights, start, size), target, kernel.shape)
            state.done_with(place)

        return lambda weights: lambda: run(weights)

    def _turn(self) -> ActivationPlace:
        """Where the input is; the output goes to the other end."""
        place = self.place
        self.place = ActivationPlace(low=not place.low)
        return place

    def _attention(self, kernel: Kernel) -> Callable[[Tensor], QueuedWork]:
        samples, heads, queries, keys, width = kernel.shape
        state, place = self.activations, self.place
        side = keys if keys != queries and keys in state.side_rows else None
        if side is not None:
            state.reserve_side(keys, samples * heads * keys * width)
        count, per_key = output_elements(kernel), samples * heads * keys * width

        def run() -> None:
            # Not another attention's output: that is nearly constant, and so would be the weights of its values.
            q = state.part(count, low=place.low) if place.outside else state.read(count, place)
            k, v = (q, q) if side is None else (state.side[side][:per_key], state.side[side][per_key : 2 * per_key])
            if side is None and state.buffer is not None and 3 * count <= state.buffer.numel():
                triple = state.part(3 * count, low=place.low)
                k, v = triple[count : 2 * count], triple[2 * count :]
            shape = (samples, heads, keys, width)
            state.spare = None
            out = scaled_dot_product_attention(
                q.view(samples, heads, queries, width), k[:per_key].view(shape), v[:per_key].view(shape)
            )
            state.outside = out.view(-1)

        self.place = ActivationPlace(low=place.low, outside=True)
        return lambda _: run

    def _relayout(self, kernel: Kernel) -> Callable[[Tensor], QueuedWork]:
        rows, parts, columns = kernel.shape
        state, place, count = self.activations, self._turn(), rows * parts * columns

        def run() -> None:
            # No name for what is read: it would keep attention's output while its memory is taken again.
            state.part(count, low=not place.low).view(parts, rows, columns).copy_(
                state.read(count, place).view(rows, parts, columns).transpose(0, 1)
            )
            state.done_with(place)

        return lambda _: run

    def _elementwise(self, kernel: Kernel) -> Callable[[Tensor], QueuedWork]:
        state, place, count = self.activations, self.place, blended(kernel)
        state.reserve_noise(count)
        if kernel.shape[0] in state.side_rows:
            state.reserve_side(kernel.shape[0], count)
            rows = kernel.shape[0]

            def beside() -> None:
                target = state.side[rows][:count]
                torch.lerp(target, state.noise[:count], BLEND, out=target)

            return lambda _: beside

        def run() -> None:
            target = state.read(count, place)
            torch.lerp(target, state.noise[:count], BLEND, out=target)

        return lambda _: run

    def exchange(self, command: Collective, degree: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        """Input and output of a collective of activations, as bytes: of an all-reduce a rank sends each part twice."""
        sent_times = 2 if command.kind == "all-reduce" else 1
        count = round(command.bytes * degree / max(degree - 1, 1) / sent_times) // ELEMENT
        state, place = self.activations, self._turn()
        return (
            lambda: state.read(count, place).view(torch.uint8),
            lambda: state.part(count, low=not place.low).view(torch.uint8),
        )


def _matrix(weights: Tensor, start: int, size: int) -> Tensor:
    if start + size > weights.numel():
        start = 0
    return weights[start : start + size].view(torch.bfloat16)


def _multiply(inputs: Tensor, matrix: Tensor, outputs: Tensor, shape: tuple[int, ...]) -> None:
    """x W^T with the weight stored as (outputs, inputs), as torch.nn.Linear stores it."""
    rows, n_in, n_out = shape
    torch.mm(inputs.view(rows, n_in), matrix.view(n_out, n_in).t(), out=outputs.view(rows, n_out))


def device_copy(source: Tensor, target: Tensor) -> None:
    """Copy bytes as they are, or unpacked: each byte of a smaller source becomes a bf16 value, or (4 bits) two.

    Unpacked values are scaled to the size that weights have here. Of two in a byte both are the byte: time, not value.
    One kernel writes all, in order: one per value of a byte would write every other value, at half the memory's rate.
    """
    if source.numel() >= target.numel():
        target.copy_(source[: target.numel()])
        return
    values, packed = target.view(torch.bfloat16), source.view(torch.int8)
    each = values.view(packed.numel(), -1)
    torch.mul(packed.unsqueeze(1).expand_as(each), UNPACKED_SCALE, out=each)


def block_key(name: str) -> str:
    """The block that a command belongs to: `blocks.7 ffn` -> `blocks.7`."""
    return name.split(" ", 1)[0]
