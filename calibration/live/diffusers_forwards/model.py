"""The diffusers library's own WanTransformer3DModel with random weights, and its offloading modes.

Weights are drawn once on the device, as bf16; every model made of them shares one copy, on the device or on the host.
Buffers (rotary tables) stay fp32, as `from_pretrained` leaves them. Imports diffusers and accelerate when called.
"""

import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

INITIALIZER_RANGE = 0.014
"""Standard deviation of weights: about 1 / sqrt(5120), so that activations neither vanish nor overflow."""


class WanShape(NamedTuple):
    """The sizes of a Wan transformer."""

    blocks: int = 16
    heads: int = 40
    head_dim: int = 128
    ffn: int = 13824
    text_tokens: int = 512
    text_width: int = 4096

    def config(self) -> dict[str, Any]:
        """The arguments that WanTransformer3DModel is made with."""
        return {
            "num_attention_heads": self.heads,
            "attention_head_dim": self.head_dim,
            "ffn_dim": self.ffn,
            "num_layers": self.blocks,
            "text_dim": self.text_width,
        }


TINY = WanShape(blocks=3, heads=2, head_dim=12, ffn=32, text_tokens=4, text_width=16)

LATENTS = {
    8190: (21, 30, 52),
    18900: (21, 60, 60),
    32760: (21, 60, 104),
    12: (3, 4, 4),
    24: (3, 4, 8),
}
"""Tokens -> latent frames, rows and columns of a video that has so many: patches are 1 x 2 x 2."""

PolicyTable = dict[str, Any]
GROUP: dict[str, PolicyTable] = {
    "block-stream": {"level": "block", "stream": True},
    "block-stream-record": {"level": "block", "stream": True, "record_stream": True},
    "leaf-stream": {"level": "leaf", "stream": True},
    "leaf-stream-record": {"level": "leaf", "stream": True, "record_stream": True},
    "block": {"level": "block"},
    "block-stream-low-cpu": {"level": "block", "stream": True, "low_cpu_mem_usage": True},
    "leaf": {"level": "leaf"},
}
MODES: dict[str, PolicyTable] = {
    **{name: {"name": "diffusers-group", **options} for name, options in GROUP.items()},
    "sequential": {"name": "accelerate-sequential"},
}
"""Name of a mode -> the policy that a scenario has for it."""


class WanWeights:
    """Random weights, once on the device and once on the host."""

    def __init__(self, shape: WanShape, device: Any) -> None:
        self.shape, self.device = shape, device
        generator = torch.Generator(device).manual_seed(20)
        self.on_device: dict[str, Any] = {}
        for name, tensor in _skeleton(shape).named_parameters():
            drawn = torch.empty(tensor.shape, dtype=torch.bfloat16, device=device)
            drawn.normal_(0.0, INITIALIZER_RANGE, generator=generator)
            is_norm = tensor.dim() == 1 and name.endswith("weight")
            self.on_device[name] = drawn.add_(1.0) if is_norm else drawn
        self.on_host = {name: _touched_copy(tensor) for name, tensor in self.on_device.items()}

    @property
    def bytes(self) -> int:
        """Bytes of one copy of the weights."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.on_device.values())

    def model(self, *, resident: bool) -> Any:
        """A model whose parameters are these weights, on the device or on the host."""
        model = _skeleton(self.shape)
        for name, tensor in (self.on_device if resident else self.on_host).items():
            owner, _, own = name.rpartition(".")
            parameter = torch.nn.Parameter(tensor, requires_grad=False)
            model.get_submodule(owner)._parameters[own] = parameter
        rope = model.rope
        model.rope = type(rope)(rope.attention_head_dim, rope.patch_size, rope.max_seq_len)
        if resident:
            model.rope.to(self.device)
        return model.eval()

    def inputs(self, tokens: int) -> dict[str, Any]:
        """What a pipeline passes to a forward for one sample, on the device."""
        frames, rows, columns = LATENTS[tokens]
        new = {"dtype": torch.bfloat16, "device": self.device}
        return {
            "hidden_states": torch.randn(1, 16, frames, rows, columns, **new),
            "timestep": torch.tensor([500], device=self.device),
            "encoder_hidden_states": torch.randn(1, self.shape.text_tokens, self.shape.text_width, **new),
            "return_dict": False,
        }


def _skeleton(shape: WanShape) -> Any:
    """The model without memory."""
    from diffusers import WanTransformer3DModel

    with torch.device("meta"):
        return WanTransformer3DModel(**shape.config())


def _touched_copy(tensor: Any) -> Any:
    """A copy on the host, its pages touched by all cores first: a copy into fresh pages runs at 1.5 GB/s."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype)
    copy.zero_()
    return copy.copy_(tensor)


def offload(model: Any, policy: PolicyTable, device: Any) -> None:
    """Apply a mode of the library to a model on the host, as its documentation says."""
    if policy["name"] == "accelerate-sequential":
        from accelerate import cpu_offload

        # As DiffusionPipeline.enable_sequential_cpu_offload calls it.
        cpu_offload(model, device, offload_buffers=len(model._parameters) > 0)
        return
    stream = policy.get("stream", False)
    model.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type=f"{policy['level']}_level",
        num_blocks_per_group=policy.get("num_blocks_per_group", 1),
        use_stream=stream,
        record_stream=policy.get("record_stream", False),
        low_cpu_mem_usage=policy.get("low_cpu_mem_usage", False),
    )


def forward_of(model: Any, inputs: dict[str, Any]) -> Callable[[], Any]:
    """A function that runs one forward of the model, without gradients."""

    def forward() -> Any:
        with torch.no_grad():
            return model(**inputs)[0]

    return forward


def forget() -> None:
    """Give back what models that are gone have left: their hooks refer to each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
