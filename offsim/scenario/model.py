"""A diffusion pipeline as offsim sees it: block lists, the weights around them, text encoder and VAE.

Block weights are what offloading moves; everything else in the transformer (`other_parameters`: embeddings,
final norm and projection) stays on the device unless a policy says otherwise. Experts of a mixture over
timesteps (Wan2.2) share one shape. Left out: LoRA adapters, quantisation scales.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .architectures import ARCHITECTURES, block_operations
from .operations import Linear, Operation, parameter_count

Count = Annotated[int, Meta(ge=1)]
Dtype = Literal["bf16", "fp16", "fp32", "fp8", "int8"]

DTYPE_BYTES: dict[Dtype, float] = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "fp8": 1.0, "int8": 1.0}


class BlockList(Struct, frozen=True, forbid_unknown_fields=True):
    """One ModuleList of equal blocks."""

    name: Annotated[str, Meta(min_length=1)]
    count: Count
    architecture: str
    """Key of `architectures.ARCHITECTURES`: which operations a block is made of."""
    parameters: Count
    """Parameters of one block, counted on the real class: checked against the derived number."""
    hidden: Count
    heads: Count
    head_dim: Count
    ffn: Count
    text_hidden: int | None = None
    """Width of the text stream where it differs from `hidden`, or of the cross-attention's context."""
    text_ffn: int | None = None
    tensors: Count | None = None
    """Parameter tensors of one block: how many copies an unconsolidated transfer makes."""
    extra: dict[str, int] = {}
    """Further sizes that only one architecture knows (low-rank modulation, audio tower, ...)."""

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture={self.architecture!r}: allowed are {', '.join(sorted(ARCHITECTURES))}")
        derived = parameter_count(self.operations())
        if derived != self.parameters:
            raise ValueError(f"parameters={self.parameters:,}: this shape has {derived:,} per block")

    def operations(self) -> tuple[Operation, ...]:
        """The operations of one block, in order."""
        return block_operations(self)

    def tensor_count(self) -> int:
        """Parameter tensors of one block: as counted, else weight and bias per product and one per norm."""
        if self.tensors is not None:
            return self.tensors
        return sum(2 if isinstance(op, Linear) and op.bias else 1 for op in self.operations() if op.parameters)


class Component(Struct, frozen=True, forbid_unknown_fields=True):
    """A text encoder or VAE: only its weights and its working memory matter here."""

    name: Annotated[str, Meta(min_length=1)]
    parameters: Annotated[int, Meta(ge=0)]
    dtype: Dtype = "bf16"
    layers: Count = 1
    """How many equal layers a layerwise or sharded scheme splits it into."""
    workspace_per_pixel: Annotated[float, Meta(ge=0)] = 0.0
    """Peak bytes of activations per output pixel of one decoded frame (VAE)."""
    source: str = ""

    @property
    def weight_bytes(self) -> float:
        """Bytes of its weights in its own dtype."""
        return self.parameters * DTYPE_BYTES[self.dtype]


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """A diffusion transformer with its pipeline's other components."""

    name: Annotated[str, Meta(min_length=1)]
    title: str
    blocks: Annotated[tuple[BlockList, ...], Meta(min_length=1)]
    other_parameters: Annotated[int, Meta(ge=0)]
    """Transformer parameters outside the block lists, of one expert."""
    source: Annotated[str, Meta(min_length=1)]
    checkpoint: str = ""
    experts: Annotated[int, Meta(ge=1, le=2)] = 1
    text_tokens: Annotated[int, Meta(ge=0)] = 512
    patch: tuple[Count, Count, Count] = (1, 2, 2)
    """Latent (frames, rows, columns) that make one token."""
    vae_stride: tuple[Count, Count, Count] = (4, 8, 8)
    """Pixels (frames, rows, columns) per latent element."""
    guidance: Literal["cfg", "distilled"] = "cfg"
    """cfg: two forwards a step unless the workload says otherwise. distilled: one."""
    steps: Count = 50
    flow_shift: Annotated[float, Meta(gt=0)] = 1.0
    boundary_ratio: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Share of the training timesteps above which the high-noise expert runs (two experts only)."""
    text_encoder: Component | None = None
    vae: Component | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        if self.experts == 2 and self.boundary_ratio is None:
            raise ValueError("experts=2 needs boundary_ratio")

    @property
    def block_count(self) -> int:
        return sum(blocks.count for blocks in self.blocks)

    @property
    def block_parameters(self) -> int:
        """Parameters of all blocks of one expert."""
        return sum(blocks.count * blocks.parameters for blocks in self.blocks)

    @property
    def parameters(self) -> int:
        """Parameters of one expert."""
        return self.block_parameters + self.other_parameters
