"""Measures forwards of the real diffusers library, its offloading modes beside no offloading, in turns.

    python -m calibration.live.diffusers_forwards --out diffusers.jsonl --limit-s 190

Needs torch, diffusers and accelerate, nothing of offsim's. One JSON line per mode and number of tokens, on the disk as
soon as it is there; a mode that fails leaves its error. Forwards end with a device synchronisation and are timed by the
host's clock. Runs of a mode stand between runs without offloading (R M M R): both drift with the chip's clock. One more
forward runs under the profiler, for where its time went. `--limit-s` is shared out among what is left to measure.
"""

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from .forwards import ForwardBench, all_lines
from .model import LATENTS, MODES, TINY, WanShape

DEFAULT_MODES = ("block-stream", "block-stream-record", "leaf-stream", "leaf-stream-record", "sequential", "block")
DEFAULT_TOKENS = (8190, 18900, 32760)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit-s", type=float, default=190.0, help="seconds for everything, loading included")
    parser.add_argument("--modes", nargs="*", default=list(DEFAULT_MODES), choices=sorted(MODES))
    parser.add_argument("--tokens", nargs="*", type=int, default=list(DEFAULT_TOKENS), choices=sorted(LATENTS))
    parser.add_argument("--fingerprint", default="")
    parser.add_argument("--cpu", action="store_true", help="a tiny model on the CPU: for tests of this script")
    options = parser.parse_args()
    shape, device = (TINY, torch.device("cpu")) if options.cpu else (WanShape(), torch.device("cuda", 0))
    bench = ForwardBench(shape, device, options.limit_s)
    append(options.out, header(bench, options.fingerprint))
    for line in all_lines(bench, options.modes, options.tokens):
        append(options.out, line)
    print(f"{options.limit_s - bench.left:.0f} s", file=sys.stderr)


def header(bench: ForwardBench, fingerprint: str) -> dict[str, Any]:
    """The first line of a file: what the forwards were measured with."""
    import accelerate
    import diffusers
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    backend, _ = _AttentionBackendRegistry.get_active_backend()
    return {
        "record": "diffusers-forwards-of",
        "shape": bench.shape._asdict(),
        "weights_bytes": bench.weights.bytes,
        "workspace_bytes": bench.workspace,
        "versions": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "accelerate": accelerate.__version__,
        },
        "attention_backend": str(backend),
        "gpu": torch.cuda.get_device_name() if bench.on_gpu else "cpu",
        "fingerprint": fingerprint,
        "argv": [Path(word).name for word in sys.argv[1:]],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line to the file, on the disk when this returns, and say what it holds."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
    print(f"{line.get('mode', line['record'])} {line.get('tokens', '')}: {_brief(line)}", file=sys.stderr, flush=True)


def _brief(line: dict[str, Any]) -> str:
    runs = {key: [s for run in line.get(f"{key}_s", []) for s in run] for key in ("mode", "resident")}
    words = [f"{key} {median(seconds):.3f} s (n = {len(seconds)})" for key, seconds in runs.items() if seconds]
    return line.get("error") or ", ".join([line.get("order", ""), *words])


if __name__ == "__main__":
    main()
