"""A small complete scenario as a TOML document, and writing documents: the good file that tests make bad."""

from copy import deepcopy
from typing import Any

Table = dict[str, Any]

WIDE, HEADS, FFN = 64, 4, 256
BLOCK = 8 * (WIDE * WIDE + WIDE) + 4 * WIDE + 2 * WIDE * FFN + FFN + WIDE + 2 * WIDE + 6 * WIDE
"""Parameters of a Wan block of these sizes, counted by hand: 67,136."""


def quantity(value: float, **more: Any) -> Table:
    return {"value": value, "provenance": "guess", "source": "made up", **more}


def curve(key: str, *points: list[float]) -> Table:
    return {key: list(points), "provenance": "guess", "source": "made up"}


MODEL: Table = {
    "name": "tiny",
    "title": "Four Wan blocks of width 64",
    "source": "made up",
    "experts": 2,
    "other_parameters": 1000,
    "text_tokens": 16,
    "patch": [1, 2, 2],
    "vae_stride": [4, 8, 8],
    "guidance": "cfg",
    "steps": 4,
    "flow_shift": 3.0,
    "boundary_ratio": 0.5,
    "blocks": [
        {
            "name": "blocks",
            "count": 4,
            "architecture": "wan",
            "parameters": BLOCK,
            "hidden": WIDE,
            "heads": HEADS,
            "head_dim": WIDE // HEADS,
            "ffn": FFN,
            "tensors": 27,
        }
    ],
    "text_encoder": {"name": "encoder", "parameters": 5000, "dtype": "fp32", "layers": 2},
    "vae": {"name": "decoder", "parameters": 3000, "dtype": "fp32", "workspace_per_pixel": 64.0},
}
WORKLOAD: Table = {
    "gpus": 2,
    "width": 64,
    "height": 32,
    "frames": 5,
    "steps": 3,
    "cfg": "sequential",
    "flow_shift": 5.0,
    "boundary_ratio": 0.9,
    "sequence_parallel": 2,
    "token_sharding": "tokens",
    "all_to_all_calls": 4,
    "attention_backend": "default",
    "weight_dtype": "bf16",
    "step_end": "stream",
    "compile_s": 0.5,
    "communicator_start_ms": 20,
    "compute_efficiency": 1.0,
}
NODE: Table = {
    "name": "box",
    "title": "Two GPUs with round numbers",
    "gpus": 2,
    "gpu": {
        "name": "GPU",
        "memory_GiB": quantity(80),
        "context_GiB": quantity(1),
        "gemm_TFLOPS": curve("points", [64, 50], [4096, 500]),
        "attention": {"default": curve("points_TFLOPS", [512, 250], [4096, 400])},
        "memory_bandwidth_GBps": quantity(2000),
    },
    "pcie": {
        "h2d_GBps": quantity(50, interval=[49, 51], condition="700 MB"),
        "d2h_GBps": 40,
        "duplex": 1.5,
        "latency_us": 10,
    },
    "switches": [{"gpus": [0, 1], "h2d_GBps": 50, "d2h_GBps": 50}],
    "host": {
        "memory_GB": 500,
        "pageable_h2d_GBps": 6,
        "pageable_d2h_GBps": 12,
        "fresh_d2h_GBps": 1.5,
        "cross_socket_GBps": 40,
        "pinned_rounding": "power-of-two",
        "sockets": [{"gpus": [0, 1], "read_GBps": 100, "write_GBps": 90, "total_GBps": 150}],
    },
    "nvlink": {"send_GBps": 400, "receive_GBps": 400},
    "overheads": {
        "launch_us": 5,
        "copy_us": 6,
        "event_us": 2,
        "collective_us": 25,
        "allocation_us": 2,
        "synchronize_us": 10,
        "queue_depth": 1000,
    },
    "collectives": {
        "transport": "nvlink",
        "weight_growth": "constant",
        "all_to_all": {"rate_GBps": curve("points", [1e6, 100], [1e8, 300]), "latency_us": 40, "weight": 0.3},
        "all_gather": {"rate_GBps": 250, "latency_us": 40, "weight": 0.3},
    },
    "interference": [{"victim": "gemm", "aggressor": "collective", "slowdown": 0.1}],
}
POLICY: Table = {
    "name": "sglang-layerwise",
    "version": "v3",
    "prefetch": 1,
    "resident_layers": 2,
    "residency": "strided",
    "pinned": True,
    "hook_synchronize": False,
    "hook_cost_us": 3,
    "text_encoder": "sharded",
    "vae": "swap",
}
SIMULATION: Table = {"fold": True, "steady_state": True, "contention": True, "collective_form": "pairs"}


def good() -> Table:
    """A document with every table and nearly every key; a fresh copy each time."""
    return deepcopy(
        {
            "schema": 1,
            "name": "tiny-on-box",
            "title": "A tiny model on two GPUs",
            "model": MODEL,
            "workload": WORKLOAD,
            "node": NODE,
            "policy": POLICY,
            "simulation": SIMULATION,
        }
    )


def toml(document: Table) -> str:
    """A document as TOML: one line per top-level key, tables inline."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in document.items())


def _key(key: str) -> str:
    return _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = (c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04X}" for c in value)
        return f'"{"".join(escaped)}"'
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(entry)}" for key, entry in value.items()) + "}"
    return repr(value)
