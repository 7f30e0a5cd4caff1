"""How often sequential offload asks the driver for memory: the library's tensors, in a model of torch's allocator."""

import weakref
from typing import Any, NamedTuple

import pytest

pytest.importorskip("torch", reason="needs torch: pip install -e '.[libraries]'")
pytest.importorskip("diffusers", reason="needs diffusers: pip install -e '.[libraries]'")

import torch
from diffusers import WanTransformer3DModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from calibration.live.diffusers_forwards.model import LATENTS, WanShape
from calibration.validate.diffusers_prediction import DRIVER_CALLS_PER_TENSOR
from tests.unit.test_wan_eager import VIEWS, fused_attention, fused_rms_norm

MIB = 2**20
TENSORS = 27


class Piece(NamedTuple):
    """Memory within one segment that came from the driver."""

    bytes: int
    segment: int


class Allocator:
    """torch's rules for large memory: best fit, cut where more than 1 MiB is left; segments of 20 MiB, or from 10 MiB
    on of the size itself, rounded to 2 MiB. Free pieces of a segment count as one."""

    def __init__(self) -> None:
        self.taken = 0
        """Segments that were asked of the driver."""
        self._whole: dict[int, int] = {}
        self._cached: list[Piece] = []
        self._live: dict[Any, Piece] = {}

    def allocate(self, key: Any, bytes_: int) -> None:
        if bytes_ <= MIB:
            return
        fitting = [piece for piece in self._cached if piece.bytes >= bytes_]
        piece = min(fitting) if fitting else self._segment(bytes_)
        if fitting:
            self._cached.remove(piece)
        rest = piece.bytes - bytes_
        if rest > MIB:
            self._cached.append(Piece(rest, piece.segment))
            piece = Piece(bytes_, piece.segment)
        self._live[key] = piece

    def _segment(self, bytes_: int) -> Piece:
        self.taken += 1
        size = 20 * MIB if bytes_ < 10 * MIB else -(-bytes_ // (2 * MIB)) * 2 * MIB
        self._whole[self.taken] = size
        return Piece(size, self.taken)

    def free(self, key: Any) -> None:
        piece = self._live.pop(key, None)
        if piece is None:
            return
        others = [p for p in self._cached if p.segment == piece.segment]
        self._cached = [p for p in self._cached if p.segment != piece.segment]
        self._cached.append(Piece(piece.bytes + sum(p.bytes for p in others), piece.segment))

    def empty_cache(self) -> None:
        """Segments of which nothing is in use go back."""
        self._cached = [piece for piece in self._cached if piece.bytes < self._whole[piece.segment]]


class Tensors(TorchDispatchMode):
    """Allocates and frees what a forward makes and drops."""

    def __init__(self, allocator: Allocator) -> None:
        super().__init__()
        self.allocator = allocator
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        if func.__name__.partition(".")[0] not in (*VIEWS, "copy_"):
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    self._watch(tensor.untyped_storage())
        return out

    def _watch(self, storage) -> None:  # type: ignore[no-untyped-def]
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self.allocator.allocate(storage._cdata, storage.nbytes())
            weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, key: int) -> None:
        self._known.discard(key)
        self.allocator.free(key)


def offloaded(model, allocator: Allocator) -> None:  # type: ignore[no-untyped-def]
    """Every module's tensors come before it runs, the cache emptied after each, and go when it has run."""

    def before(module, inputs) -> None:  # type: ignore[no-untyped-def]
        for name, parameter in module.named_parameters(recurse=False):
            allocator.allocate((module, name), 2 * parameter.numel())
            allocator.empty_cache()

    def after(module, inputs, output) -> None:  # type: ignore[no-untyped-def]
        for name, _ in module.named_parameters(recurse=False):
            allocator.free((module, name))

    for module in model.modules():
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)


@pytest.mark.parametrize("tokens", [8190, 32760])
def test_a_block_asks_the_driver_twenty_times(tokens, monkeypatch):
    """Blocks but the first and the last, so that what surrounds them doesn't count."""
    with torch.device("meta"):
        model = WanTransformer3DModel(**WanShape(blocks=4).config()).to(torch.bfloat16).eval()
    allocator, counts = Allocator(), []
    offloaded(model, allocator)
    for block in model.blocks:
        block.register_forward_pre_hook(lambda module, inputs: counts.append(allocator.taken))
    monkeypatch.setattr(torch.nn.functional, "rms_norm", fused_rms_norm)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused_attention)
    new = {"dtype": torch.bfloat16, "device": "meta"}
    latents, text = torch.empty(1, 16, *LATENTS[tokens], **new), torch.empty(1, 512, 4096, **new)
    timestep = torch.empty(1, dtype=torch.int64, device="meta")
    with torch.no_grad(), Tensors(allocator):
        model(hidden_states=latents, timestep=timestep, encoder_hidden_states=text)
    calls = (counts[3] - counts[1]) / 2
    assert calls / TENSORS == pytest.approx(DRIVER_CALLS_PER_TENSOR, rel=0.1)


def test_the_allocators_model_cuts_joins_and_gives_back():
    """12 and 4 MiB fit into a segment that was 16: no second one. Emptied, 16 MiB have to be asked for again."""
    allocator = Allocator()
    allocator.allocate("a", 16 * MIB)
    allocator.free("a")
    allocator.allocate("b", 12 * MIB)
    allocator.allocate("c", 4 * MIB)
    assert allocator.taken == 1
    allocator.free("b")
    allocator.empty_cache()
    allocator.allocate("d", 12 * MIB)
    assert allocator.taken == 1
    for key in "cd":
        allocator.free(key)
    allocator.empty_cache()
    allocator.allocate("e", 16 * MIB)
    assert allocator.taken == 2
