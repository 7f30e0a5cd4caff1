"""A diffusion pipeline as offsim sees it: block lists, the weights around them, text encoder and VAE.

Block weights are what offloading moves; everything else in the transformer (`other_parameters`: embeddings,
final norm and projection) stays on the device unless a policy says otherwise. Experts of a mixture over
timesteps (Wan2.2) share one shape. Left out: LoRA adapters, quantisation scales.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .architectures import ARCHITECTURES, EAGER, block_operations, eager_operations, outside_operations
from .operations import Attention, Linear, Operation, parameter_count
from .units import Name, Text
from .wording import shown

Count = Annotated[int, Meta(ge=1, le=1_000_000_000_000)]
Size = Annotated[int, Meta(ge=1, le=1_000_000)]
"""Columns, heads and other sizes of one layer."""
Few = Annotated[int, Meta(ge=1, le=1000)]
Stride = Annotated[int, Meta(ge=1, le=256)]
Parameters = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]
Steps = Annotated[int, Meta(ge=1, le=10_000)]
FlowShift = Annotated[float, Meta(gt=0, le=1000)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Dtype = Literal["bf16", "fp16", "fp32", "fp8", "int8", "int4"]

DTYPE_BYTES: dict[Dtype, float] = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}


class BlockList(Struct, frozen=True, forbid_unknown_fields=True):
    """One ModuleList of equal blocks."""

    name: Text
    count: Few
    architecture: str
    """Key of `architectures.ARCHITECTURES`: which operations a block is made of."""
    parameters: Count
    """Parameters of one block, counted on the real class: checked against the derived number."""
    hidden: Size
    heads: Size
    head_dim: Size
    ffn: Size
    text_hidden: Size | None = None
    """Width of the text stream where it differs from `hidden`, or of the cross-attention's context."""
    text_ffn: Size | None = None
    tensors: Size | None = None
    """Parameter tensors of one block: how many copies an unconsolidated transfer makes."""
    extra: dict[str, Annotated[int, Meta(ge=0, le=1_000_000)]] = {}
    """Further sizes that only one architecture knows (low-rank modulation, audio tower, ...)."""

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            known = ", ".join(sorted(ARCHITECTURES))
            raise ValueError(f"architecture={shown(self.architecture)}: allowed are {known}")
        try:
            operations = self.operations()
        except ArithmeticError:
            raise ValueError(f"extra: architecture {self.architecture!r} needs sizes of at least 1") from None
        derived = parameter_count(operations)
        if derived != self.parameters:
            raise ValueError(f"parameters={self.parameters:,}: this shape has {derived:,} per block")
        columns = {op.inputs for op in operations if isinstance(op, Linear)}
        if any(isinstance(op, Attention) and op.width not in columns for op in operations):
            raise ValueError(f"heads={self.heads}: heads x head_dim suits no product of this block")

    def operations(self) -> tuple[Operation, ...]:
        """The operations of one block, in order."""
        return block_operations(self)

    def eager_operations(self) -> tuple[Operation, ...] | None:
        """The operations of one block as the diffusers library runs them; None if not known.

        They are kernel by kernel, and named as the library's modules.
        """
        return eager_operations(self) if self.architecture in EAGER else None

    def tensor_count(self) -> int:
        """Parameter tensors of one block: as counted, else weight and bias per product and one per norm."""
        if self.tensors is not None:
            return self.tensors
        counted = [op for op in self.operations() if op.parameters]
        return sum(2 if isinstance(op, Linear) and op.bias else 1 for op in counted)


class Embeddings(Struct, frozen=True, forbid_unknown_fields=True):
    """What the diffusers library's Wan has around its blocks: patches, timestep, text, and the way back to patches."""

    text_width: Size
    """Columns of the text encoder's output."""
    inputs: Size = 64
    """Columns of a patch of latents: channels x patch."""
    outputs: Size = 64
    frequencies: Size = 256
    positions: Size = 1024
    """Rows of the rotary tables."""


class Component(Struct, frozen=True, forbid_unknown_fields=True):
    """A text encoder or VAE: only its weights and its working memory matter here."""

    name: Text
    parameters: Parameters
    dtype: Dtype = "bf16"
    layers: Few = 1
    """How many equal layers a layerwise or sharded scheme splits it into."""
    workspace_per_pixel: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Peak bytes of activations per output pixel of one decoded frame (VAE), as memory by phase has them."""
    whole_per_pixel: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Peak bytes per output pixel of a video decoder that neither tiles frames nor shares them out; 0: not known."""
    whole_per_frame: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Bytes on top of `whole_per_pixel`, per output pixel and frame of the video. See `whole`."""
    source: str = ""

    @property
    def weight_bytes(self) -> float:
        """Bytes of the component's weights in its own dtype."""
        return self.parameters * DTYPE_BYTES[self.dtype]

    def whole(self, pixels: int, frames: int) -> float:
        """Bytes of activations of decoding so many frames of so many pixels without tiling; 0 if not known."""
        return (self.whole_per_pixel + self.whole_per_frame * frames) * pixels


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """A diffusion transformer with its pipeline's other components."""

    name: Name
    title: Text
    blocks: Annotated[tuple[BlockList, ...], Meta(min_length=1)]
    other_parameters: Parameters
    """Transformer parameters outside the block lists, of one expert."""
    source: Text
    checkpoint: str = ""
    experts: Annotated[int, Meta(ge=1, le=2)] = 1
    text_tokens: Annotated[int, Meta(ge=0, le=1_000_000)] = 512
    patch: tuple[Stride, Stride, Stride] = (1, 2, 2)
    """Latent (frames, rows, columns) that make one token."""
    vae_stride: tuple[Stride, Stride, Stride] = (4, 8, 8)
    """Pixels (frames, rows, columns) per latent element."""
    guidance: Literal["cfg", "distilled"] = "cfg"
    """cfg: two forwards a step unless the workload says otherwise. distilled: one."""
    steps: Steps = 50
    flow_shift: FlowShift = 1.0
    boundary_ratio: Fraction | None = None
    """Share of the training timesteps above which the high-noise expert runs (two experts only)."""
    embeddings: Embeddings | None = None
    """Where the layers outside the blocks are known one by one: what leaf modules need."""
    text_encoder: Component | None = None
    vae: Component | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        outside = self.outside_operations()
        if outside is not None and (derived := parameter_count((*outside[0], *outside[1]))) != self.other_parameters:
            raise ValueError(f"other_parameters={self.other_parameters:,}: these embeddings have {derived:,}")
        if self.experts == 2 and self.boundary_ratio is None:
            raise ValueError("boundary_ratio: missing; experts = 2 needs it")
        if self.text_encoder is not None and self.vae is not None and self.text_encoder.name == self.vae.name:
            raise ValueError(f"vae.name={shown(self.vae.name)}: the text encoder has this name; give it another")
        names = [blocks.name for blocks in self.blocks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"blocks: two lists are named {shown(twice)}")

    def outside_operations(self) -> tuple[tuple[Operation, ...], tuple[Operation, ...]] | None:
        """What the diffusers library runs before and after the blocks; None if that is not known."""
        if self.embeddings is None or self.blocks[0].architecture not in EAGER:
            return None
        return outside_operations(self.blocks[0], self.embeddings)

    @property
    def knows_modules(self) -> bool:
        """Whether every module with weights is known by name: in the blocks and around them."""
        return self.outside_operations() is not None and all(b.architecture in EAGER for b in self.blocks)

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
