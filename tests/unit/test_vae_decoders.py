"""What the catalogue's VAEs need to decode, against the diffusers library's own classes."""

from typing import Any

import pytest

from offsim.scenario.load import load_model

pytest.importorskip("torch", reason="needs torch: pip install -e '.[libraries]'")
pytest.importorskip("diffusers", reason="needs diffusers: pip install -e '.[libraries]'")

import diffusers
import torch

from tests.unit.alive import Alive

SIDE = 32
"""Rows and columns of latents."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
FOUR: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
WAN_22: dict[str, Any] = {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "patch_size": 2, "is_residual": True}
COG: dict[str, Any] = {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4}
DECODERS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "flux.1-dev": ("AutoencoderKL", FOUR, (16,)),
    "z-image-turbo": ("AutoencoderKL", FOUR, (16,)),
    "flux.2-dev": ("AutoencoderKLFlux2", {}, (32,)),
    "qwen-image": ("AutoencoderKLQwenImage", {}, (16, 1)),
    "wan2.2-t2v-a14b": ("AutoencoderKLWan", {}, (16, 6)),
    "wan2.2-ti2v-5b": ("AutoencoderKLWan", WAN_22 | {"in_channels": 12, "out_channels": 12}, (48, 4)),
    "hunyuanvideo": ("AutoencoderKLHunyuanVideo", {}, (16, 21)),
    "hunyuanvideo-1.5": ("AutoencoderKLHunyuanVideo15", {}, (32, 4)),
    "cogvideox-5b": ("AutoencoderKLCogVideoX", COG, (16, 5)),
    "mochi-1": ("AutoencoderKLMochi", {}, (12, 4)),
    "cosmos-1.0-7b": ("AutoencoderKLCosmos", {}, (16, 4)),
    "ltx-2": ("AutoencoderKLLTX2Video", {}, (128, 4)),
}


def fused_attention(q, k, v, **_):  # type: ignore[no-untyped-def]
    """Its output only, as a fused kernel leaves it."""
    return torch.empty(*q.shape[:-1], v.shape[-1], dtype=q.dtype, device=q.device)


@pytest.mark.parametrize("name", DECODERS)
def test_decoding_without_tiles_has_as_many_bytes_alive_as_the_catalogue_says(name, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused_attention)
    kind, config, (channels, *frames) = DECODERS[name]
    model = load_model(name)
    vae, dtype = model.vae, DTYPES[model.vae.dtype]
    with torch.device("meta"):
        decoder = getattr(diffusers, kind)(**config).to(dtype).eval()
        latents = torch.empty(1, channels, *frames, SIDE, SIDE, dtype=dtype)
    alive = Alive()
    for tensor in (*decoder.parameters(), latents):
        alive.leave_out(tensor)
    with torch.no_grad(), alive:
        out = decoder.decode(latents).sample
    pixels, count = out.shape[-1] * out.shape[-2], out.shape[2] if frames else 1
    assert pixels == SIDE**2 * model.vae_stride[1] * model.vae_stride[2]
    said = vae.whole(pixels, count) or vae.workspace_per_pixel * pixels
    assert said == pytest.approx(alive.peak, rel=0.005)
