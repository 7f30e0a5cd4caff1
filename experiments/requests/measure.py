"""Whole requests in the real diffusers library, phase by phase, with its own offloading modes.

    python experiments/requests/measure.py OUT.json [--only flux|wan] [--modes resident,...]

FLUX.1-dev at 1024 x 1024 and Wan2.2-TI2V-5B at 704 x 1280, 49 frames, with random weights and the library's own classes, on
one GPU. A stub stands for tokenizers. Every mode runs in a process of its own: one cold request and two warm ones. A
request's phases are encode (the pipeline's encode_prompt), every denoising step, and decode (the VAE's), each ended by a
synchronisation; what lies between them is what the library moves in between.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MODES = ("resident", "model", "group-leaf-stream", "sequential")
STEPS = 4
WARM = 2
Marks = list[tuple[str, float]]


def main() -> None:
    """Measure each model in each mode, in processes of their own, and write what they said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="flux,wan")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--tiny", action="store_true", help="small models, on any device: to try the script")
    parser.add_argument("--case", default="")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measured(*arguments.case.split(":"), tiny=arguments.tiny)))
        return
    found: dict[str, Any] = {}
    for model in arguments.only.split(","):
        for mode in arguments.modes.split(","):
            command = [sys.executable, __file__, str(arguments.out), "--case", f"{model}:{mode}"]
            done = subprocess.run(command + ["--tiny"] * arguments.tiny, capture_output=True, text=True, check=False)
            last = done.stdout.strip().rpartition("\n")[2]
            found[f"{model} {mode}"] = json.loads(last) if done.returncode == 0 else {"error": done.stderr[-2000:]}
            arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(model, mode, "done" if done.returncode == 0 else done.stderr[-600:], flush=True)


def measured(model: str, mode: str, *, tiny: bool) -> dict[str, Any]:
    """What one model in one mode took: components alone, then requests."""
    import diffusers
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    began = time.perf_counter()
    pipe, ask = BUILDERS[model](device, tiny)
    found: dict[str, Any] = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    found["gpu"] = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    found["built_s"] = time.perf_counter() - began
    found["component_GB"] = {
        name: size_GB(part) for name, part in pipe.components.items() if hasattr(part, "parameters")
    }
    before = host_memory()
    began = time.perf_counter()
    place(pipe, mode, device)
    found["placed_s"] = time.perf_counter() - began
    found["host_before"], found["host_placed"] = before, host_memory()
    found["requests"] = [request(pipe, ask, device) for _ in range(1 + WARM)]
    return found


def place(pipe: Any, mode: str, device: str) -> None:
    """Put the pipeline into one of the library's modes."""
    import torch

    if mode == "resident" or device == "cpu":
        pipe.to(device)
        return
    for part in pipe.components.values():
        if hasattr(part, "parameters"):
            part.to("cpu")
    gc.collect()
    torch.cuda.empty_cache()
    if mode == "model":
        pipe.enable_model_cpu_offload()
    elif mode == "sequential":
        pipe.enable_sequential_cpu_offload()
    else:
        leaves = {"onload_device": torch.device(device), "offload_type": "leaf_level", "use_stream": True}
        pipe.enable_group_offload(**leaves)


def request(pipe: Any, ask: dict[str, Any], device: str) -> dict[str, Any]:
    """One request: seconds of its phases, the device's peaks, and the host's memory after it."""
    import torch

    marks: Marks = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    mark(marks, "begin", device)
    restore = [wrapped(pipe, "encode_prompt", marks, device), wrapped(pipe.vae, "decode", marks, device)]

    def stepped(_pipe: Any, index: int, _time: Any, kept: dict[str, Any]) -> dict[str, Any]:
        mark(marks, f"step {index} ends", device)
        return kept

    pipe(**ask, callback_on_step_end=stepped)
    mark(marks, "end", device)
    for undo in restore:
        undo()
    start = marks[0][1]
    found: dict[str, Any] = {"marks_s": {name: at - start for name, at in marks}, "host": host_memory()}
    if device == "cuda":
        found["peak_allocated_GiB"] = torch.cuda.max_memory_allocated() / 2**30
        found["peak_reserved_GiB"] = torch.cuda.max_memory_reserved() / 2**30
    return found


def wrapped(owner: Any, name: str, marks: Marks, device: str) -> Callable[[], None]:
    """Mark when a method begins and ends; returns what undoes that."""
    inner = getattr(owner, name)

    def outer(*arguments: Any, **options: Any) -> Any:
        mark(marks, f"{name} begins", device)
        result = inner(*arguments, **options)
        mark(marks, f"{name} ends", device)
        return result

    setattr(owner, name, outer)
    return lambda: setattr(owner, name, inner)


def mark(marks: Marks, name: str, device: str) -> None:
    """Note an instant, once the device is done."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    marks.append((name, time.perf_counter()))


def host_memory() -> dict[str, float]:
    """GiB of this process: resident, locked, and in torch's pinned pools."""
    import torch

    status = Path("/proc/self/status").read_text(encoding="utf-8")
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    found = {name: float(lines[key].split()[0]) / 2**20 for name, key in (("rss_GiB", "VmRSS"),) if key in lines}
    if torch.cuda.is_available() and hasattr(torch.cuda, "host_memory_stats"):
        stats = torch.cuda.host_memory_stats()
        found["pinned_GiB"] = stats.get("allocated_bytes.current", 0) / 2**30
        found["pinned_pool_GiB"] = stats.get("reserved_bytes.current", stats.get("segment_bytes.current", 0)) / 2**30
    return found


def size_GB(module: Any) -> float:  # noqa: N802
    """10^9 bytes of a module's parameters."""
    return float(sum(p.numel() * p.element_size() for p in module.parameters()) / 1e9)


def made(create: Callable[[], Any], device: str, dtype: Any) -> Any:
    """A module with small random weights, made without its own slow initialisation."""
    import torch

    with torch.device("meta"):
        module = create()
    module = module.to(dtype).to_empty(device=device).eval().requires_grad_(requires_grad=False)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point():
                tensor.copy_(torch.arange(tensor.numel(), device=device).view_as(tensor))
            elif "norm" in name and name.endswith("weight"):
                tensor.fill_(1.0)
            else:
                tensor.normal_(0.0, 0.02)
    return module


class StubTokenizer:
    """Stands for a tokenizer: every prompt becomes so many tokens."""

    def __init__(self, length: int) -> None:
        self.model_max_length = length
        self.added_tokens_encoder: dict[str, int] = {}

    def __call__(self, prompt: Any, max_length: int | None = None, **_: Any) -> SimpleNamespace:
        import torch

        count = len(prompt) if isinstance(prompt, list) else 1
        tokens = torch.ones(count, max_length or self.model_max_length, dtype=torch.long)
        return SimpleNamespace(input_ids=tokens, attention_mask=torch.ones_like(tokens))

    def tokenize(self, prompt: str) -> list[str]:
        return prompt.split()

    def batch_decode(self, *_: Any, **__: Any) -> list[str]:
        return [""]


def flux(device: str, tiny: bool) -> tuple[Any, dict[str, Any]]:
    """FLUX.1-dev, and what is asked of it."""
    import torch
    import transformers
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    wide, deep, double, single = (64, 2, 1, 2) if tiny else (4096, 24, 19, 38)
    bf16 = torch.bfloat16
    t5 = transformers.T5Config(
        d_model=wide, d_ff=wide * 5 // 2, d_kv=64, num_layers=deep, num_heads=max(1, wide // 64), vocab_size=32128,
        feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False,
    )  # fmt: skip
    clip = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu",
        projection_dim=768, vocab_size=49408,
    )  # fmt: skip
    blocks = {"num_layers": double, "num_single_layers": single, "joint_attention_dim": wide}
    heads = {"num_attention_heads": 1 if tiny else 24, "attention_head_dim": 128}
    autoencoder = {
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (32,) * 4 if tiny else (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16,
        "use_quant_conv": False, "use_post_quant_conv": False, "scaling_factor": 0.3611, "shift_factor": 0.1159,
    }  # fmt: skip
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        text_encoder=made(lambda: transformers.CLIPTextModel(clip), device, bf16),
        text_encoder_2=made(lambda: transformers.T5EncoderModel(t5), device, bf16),
        tokenizer=None,
        tokenizer_2=None,
        transformer=made(
            lambda: FluxTransformer2DModel(
                guidance_embeds=True, in_channels=64, pooled_projection_dim=768, **blocks, **heads
            ),
            device,
            bf16,
        ),
        vae=made(lambda: AutoencoderKL(**autoencoder), device, bf16),
    )
    pipe.tokenizer, pipe.tokenizer_2 = StubTokenizer(77), StubTokenizer(512)
    side = 128 if tiny else 1024
    ask = {"prompt": "a", "height": side, "width": side, "num_inference_steps": STEPS, "output_type": "pt"}
    return pipe, ask


def wan(device: str, tiny: bool) -> tuple[Any, dict[str, Any]]:
    """Wan2.2-TI2V-5B, and what is asked of it."""
    import torch
    import transformers
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

    wide, deep, layers = (64, 2, 2) if tiny else (4096, 24, 30)
    bf16 = torch.bfloat16
    umt5 = transformers.UMT5Config(
        d_model=wide, d_ff=wide * 5 // 2, d_kv=64, num_layers=deep, num_heads=max(1, wide // 64), vocab_size=256384,
        feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False,
    )  # fmt: skip
    transformer = {
        "num_attention_heads": 1 if tiny else 24, "attention_head_dim": 128, "in_channels": 48, "out_channels": 48,
        "text_dim": wide, "ffn_dim": 256 if tiny else 14336, "num_layers": layers,
    }  # fmt: skip
    autoencoder = {
        "base_dim": 16 if tiny else 160, "decoder_base_dim": 16 if tiny else 256, "z_dim": 48, "in_channels": 12,
        "out_channels": 12, "is_residual": True, "patch_size": 2, "scale_factor_temporal": 4, "scale_factor_spatial": 16,
        "temperal_downsample": [False, True, True], "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
    }  # fmt: skip
    pipe = WanPipeline(
        tokenizer=None,
        text_encoder=made(lambda: transformers.UMT5EncoderModel(umt5), device, bf16),
        transformer=made(lambda: WanTransformer3DModel(**transformer), device, bf16),
        vae=made(lambda: AutoencoderKLWan(**autoencoder), device, torch.float32),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0),
        expand_timesteps=True,
    )
    pipe.tokenizer = StubTokenizer(512)
    size = {"height": 64, "width": 64, "num_frames": 5} if tiny else {"height": 704, "width": 1280, "num_frames": 49}
    return pipe, {"prompt": "a", "num_inference_steps": STEPS, "guidance_scale": 5.0, "output_type": "pt", **size}


BUILDERS = {"flux": flux, "wan": wan}

if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
