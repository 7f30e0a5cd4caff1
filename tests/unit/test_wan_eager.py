"""The eager kernels of Wan blocks against the diffusers library's own class: weights, kernels, traffic, lifetimes."""

from collections import Counter

import pytest

from offsim.scenario.load import load_model
from offsim.scenario.model import Model
from offsim.scenario.operations import Attention, Elementwise, Linear, Operation, parameter_count

pytest.importorskip("torch", reason="needs torch: pip install -e '.[libraries]'")
pytest.importorskip("diffusers", reason="needs diffusers: pip install -e '.[libraries]'")

import torch
from diffusers import WanTransformer3DModel
from torch.utils._pytree import tree_leaves

from calibration.live.diffusers_forwards.elementwise import RUNS_PER_BLOCK, groups_of
from calibration.live.diffusers_forwards.model import WanShape
from tests.unit.alive import Alive

TOKENS, TEXT = 8190, 512
MODEL = load_model("wan2.2-t2v-a14b")
VIEWS = ("view", "t", "unsqueeze", "slice", "expand", "transpose", "permute", "split", "select", "alias", "detach")
VIEWS += ("unbind", "as_strided", "_unsafe_view", "lift_fresh", "split_with_sizes")
ATTENTION, EMPTY = "new_empty_strided", "empty_like"
"""What stands for attention here, and what only asks for memory."""


def all_operations(model: Model) -> list[tuple[str, Operation]]:
    """Operations of a model with one block, each with the name of the module around it."""
    outside = model.outside_operations()
    block = model.blocks[0].eager_operations()
    assert outside is not None and block is not None
    return [("", op) for op in outside[0]] + [("blocks.0.", op) for op in block] + [("", op) for op in outside[1]]


@pytest.fixture(scope="module")
def library():
    """The library's model with one block of Wan-14B shape, without memory."""
    with torch.device("meta"):
        return WanTransformer3DModel(**WanShape(blocks=1).config()).to(torch.bfloat16).eval()


def test_eager_operations_have_the_parameters_of_the_fused_ones():
    for name in ("wan2.2-t2v-a14b", "wan2.1-t2v-1.3b"):
        blocks = load_model(name).blocks[0]
        assert parameter_count(blocks.eager_operations()) == blocks.parameters


def test_every_module_with_weights_has_the_librarys_name_and_tensors(library):
    """The real list: 27 tensors in a block, 16 modules with some; two buffers; nothing left over on either side."""
    theirs: dict[str, list[int]] = {}
    for name, parameter in library.named_parameters():
        theirs.setdefault(name.rpartition(".")[0], []).append(parameter.numel())
    ours: dict[str, list[int]] = {}
    for prefix, op in all_operations(MODEL):
        if op.tensors:
            whole = isinstance(op, Elementwise) and op.whole
            ours.setdefault(prefix.rstrip(".") if whole else prefix + op.name, []).extend(op.tensors)
    assert ours == theirs
    assert sum(len(sizes) for name, sizes in ours.items() if name.startswith("blocks")) == MODEL.blocks[0].tensors
    buffers = [b.numel() * 4 for _, b in library.named_buffers()]
    assert [list(op.buffers) for _, op in all_operations(MODEL) if isinstance(op, Elementwise) and op.buffers] == [
        buffers
    ]


class Kernels(Alive):
    """Notes every kernel of a forward with its class and bytes, and the most bytes of tensors alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, float]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0]
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        outputs = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        if name in VIEWS:
            return out
        if name != EMPTY:
            # An in-place copy only writes its target.
            read = inputs[1:] if name == "copy_" else inputs
            self.found.append((name, sum(map(touched, [*read, *outputs]))))
        for tensor in outputs if name != "copy_" else ():
            self.watch(tensor.untyped_storage())
        return out


def touched(tensor) -> float:  # type: ignore[no-untyped-def]
    """Bytes of the rows that a kernel touches: all of them even if it takes every second column; broadcasts once."""
    distinct = [(n, s) for n, s in zip(tensor.shape, tensor.stride(), strict=True) if s]
    last = 2 if distinct and min(s for _, s in distinct) == 2 else 1
    count = 1
    for n, _ in distinct:
        count *= n
    return count * last * tensor.element_size()


def fused_rms_norm(x, shape, weight=None, eps=None):  # type: ignore[no-untyped-def]
    """One kernel, as on a GPU; without one it is composed of seven."""
    return x.clone()


def fused_attention(query, key, value, **options):  # type: ignore[no-untyped-def]
    """One kernel that keeps no scores and whose output is laid out as its queries, as on a GPU."""
    return query.new_empty_strided(query.shape, query.stride())


@pytest.fixture(scope="module")
def ran(library) -> Kernels:  # type: ignore[no-untyped-def]
    """The library's forward at 8,190 tokens, without memory or time."""
    library.rope.float()
    new = {"dtype": torch.bfloat16, "device": "meta"}
    latents, text = torch.empty(1, 16, 21, 30, 52, **new), torch.empty(1, TEXT, 4096, **new)
    inputs = {"hidden_states": latents, "encoder_hidden_states": text}
    kernels = Kernels()
    timestep = torch.empty(1, dtype=torch.int64, device="meta")
    with pytest.MonkeyPatch.context() as patch, torch.no_grad(), kernels:
        patch.setattr(torch.nn.functional, "rms_norm", fused_rms_norm)
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused_attention)
        library(**inputs, timestep=timestep, return_dict=False)
    return kernels


def rows(kind: str) -> int:
    return {"image": TOKENS, "text": TEXT, "condition": 1}[kind]


def test_the_library_runs_these_kernels_and_moves_these_bytes(ran):
    """Of everything over image or text rows: as many kernels of each kind, and their bytes within 0.5 %."""
    products = ("addmm", "convolution")
    theirs = Counter("gemm" if name in products else "attention" for name, size in ran.found if is_large(name))
    large = [size for name, size in ran.found if not is_large(name) and size > 1e6]
    ours = [op for _, op in all_operations(MODEL)]
    assert theirs["gemm"] == sum(isinstance(op, Linear) for op in ours)
    assert theirs["attention"] == sum(isinstance(op, Attention) for op in ours)
    elementwise = [op for op in ours if isinstance(op, Elementwise) and op.rows != "condition"]
    # Both rotary tables are made by a kernel each; here they are one operation.
    assert len(large) == len(elementwise) + 1
    moved = sum(2 * op.elements * rows(op.rows) for op in elementwise)
    assert moved == pytest.approx(sum(large), rel=0.005)


def is_large(name: str) -> bool:
    return name in ("addmm", "convolution") or name == ATTENTION


def test_the_most_that_is_alive_is_what_operations_say(ran):
    """22 bytes per token and column where the FFN's residual is added: 923 MB, besides the rotary tables and text."""
    block = MODEL.blocks[0].eager_operations()
    ours = 2 * TOKENS * max(op.live for op in block)
    assert ours == 22 * TOKENS * 5120
    tables, text = 2 * TOKENS * 128 * 4, TEXT * 5120 * 2
    assert ours + tables + text == pytest.approx(ran.peak, rel=0.005)


def test_the_elementwise_groups_that_are_timed_alone_run_the_blocks_kernels(ran):
    """As many kernels over image rows as a block has, and their bytes, in the library's own words."""
    shape = WanShape(blocks=1)
    moved, count = 0.0, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "rms_norm", fused_rms_norm)
        for name, group in groups_of(shape, TOKENS, torch.device("meta")).items():
            kernels = Kernels()
            with torch.no_grad(), kernels:
                group()
            large = [size for _, size in kernels.found if size > 1e6]
            moved, count = moved + RUNS_PER_BLOCK[name] * sum(large), count + RUNS_PER_BLOCK[name] * len(large)
    image = [op for op in MODEL.blocks[0].eager_operations() if isinstance(op, Elementwise) and op.rows == "image"]
    assert count == len(image)
    assert moved == pytest.approx(sum(2 * op.elements * TOKENS for op in image), rel=0.005)
