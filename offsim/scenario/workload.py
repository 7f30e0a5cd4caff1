"""What is generated, on how many GPUs, and how the sequence is split over them.

Padded tokens drive FLOPs and bytes: until February 2026 SGLang sharded the sequence by latent frame and
padded frames up to a multiple of the ranks; since then it shards tokens.
"""

from math import ceil
from typing import Annotated, Literal

from msgspec import Meta, Struct

from .model import Dtype, FlowShift, Fraction, Model, Steps
from .units import Seconds, Text

Gpus = Annotated[int, Meta(ge=1, le=1024)]
Pixels = Annotated[int, Meta(ge=1, le=100_000)]


class Workload(Struct, frozen=True, forbid_unknown_fields=True):
    """One request of a pipeline and its parallel layout."""

    gpus: Gpus = 1
    width: Pixels | None = None
    height: Pixels | None = None
    frames: Pixels | None = None
    tokens: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    """Image tokens of one forward, instead of width, height and frames."""
    steps: Steps | None = None
    cfg: Literal["sequential", "batched", "split", "none"] | None = None
    """How guidance runs its two forwards; default: sequential, or none for distilled models."""
    flow_shift: FlowShift | None = None
    boundary_ratio: Fraction | None = None
    sequence_parallel: Gpus | None = None
    """Ulysses degree; default: every GPU that CFG doesn't split off."""
    token_sharding: Literal["tokens", "frames"] = "tokens"
    all_to_all_calls: Literal[2, 4, 8] = 4
    """Calls per self-attention block: 8 (cross-attention exchanged too), 4, or 2 (packed QKV)."""
    attention_backend: Text = "default"
    kernels: Literal["fused", "eager"] = "fused"
    """fused: norms, modulation and rotation pass over memory once. eager: as the diffusers library runs them."""
    compiled: bool = False
    """torch.compile of the whole forward. Hooks between blocks then break the graph: see program.block."""
    weight_dtype: Dtype = "bf16"
    step_end: Literal["stream", "device", "none"] = "stream"
    """What the host synchronises at the end of a step."""
    compile: Seconds = 0.0
    """Extra host time of the first step: torch.compile, autotuning."""
    communicator_start: Seconds = 0.0
    """Extra host time of the first step: NCCL communicators."""
    communicator_warm_up: bool = False
    """Communicators start while the model is loaded instead."""
    compute_efficiency: Annotated[float, Meta(ge=0.01, le=100)] = 1.0
    """Divides every compute duration: the one number that may be fitted to a resident run."""

    def cfg_mode(self, model: Model) -> str:
        """How guidance runs: as stated, else as the model needs it."""
        return self.cfg or ("sequential" if model.guidance == "cfg" else "none")

    def ulysses(self, model: Model) -> int:
        """The sequence parallel degree: as stated, else all GPUs, or half of them if CFG is split."""
        if self.sequence_parallel is not None:
            return self.sequence_parallel
        return max(1, self.gpus // 2) if self.cfg_mode(model) == "split" else self.gpus

    def batch(self, model: Model) -> int:
        """Samples per forward."""
        return 2 if self.cfg_mode(model) == "batched" else 1

    def forwards(self, model: Model) -> int:
        """Forwards that one rank runs per step."""
        return 2 if self.cfg_mode(model) == "sequential" else 1

    def padded_tokens(self, model: Model) -> int:
        """Image tokens of one sample, padding included: the sequence length that is computed.

        Wan at 1280 x 720, 81 frames: 21 latent frames x 3600 = 75,600; padded to 24 frames: 86,400.
        """
        degree = self.ulysses(model)
        if self.tokens is None and self.token_sharding == "frames":
            return ceil(self.token_frames(model) / degree) * degree * self._tokens_per_frame(model)
        return ceil(self.own_tokens(model) / degree) * degree

    def own_tokens(self, model: Model) -> int:
        """Image tokens of one sample without padding."""
        return self.tokens or self.token_frames(model) * self._tokens_per_frame(model)

    def pixels(self) -> int:
        """Pixels of one output frame (0 when the workload gives tokens only)."""
        return (self.width or 0) * (self.height or 0)

    def _tokens_per_frame(self, model: Model) -> int:
        _, stride_h, stride_w = model.vae_stride
        _, patch_h, patch_w = model.patch
        return ((self.height or 0) // stride_h // patch_h) * ((self.width or 0) // stride_w // patch_w)

    def token_frames(self, model: Model) -> int:
        """Latent frames of tokens: what `token_sharding = "frames"` shares out."""
        latent = ((self.frames or 1) - 1) // model.vae_stride[0] + 1
        return ceil(latent / model.patch[0])
