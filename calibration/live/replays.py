"""Runs the committed list of replays on this node, one line of JSON per case, resumable.

    python -m calibration.live.replays --kind x1 --out replays.jsonl
    torchrun --nproc_per_node 2 -m calibration.live.replays --kind x2-nvlink --out replays.jsonl
    NCCL_P2P_DISABLE=1 torchrun ... --kind x2-host-memory --list ideas --out replays-ideas.jsonl
    torchrun ... --kind x2-nvlink --out replays.jsonl --parts parts.jsonl

A case that fails leaves a line with its error; the rest goes on. A case that is already in the file is skipped.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import torch

from calibration.replays.cases import ReplayCase, load_cases
from calibration.samples.inventory import refuse_busy_gpus
from calibration.samples.script import run_script

from .replay import Alternating, Measured, record_of
from .session import Session, close_session, open_session

CATALOGUE_NODES = {"x1": "h200-x1", "x2-nvlink": "h200-x2-nvlink", "x2-host-memory": "h200-x2-host-memory"}
"""Kind of node -> a catalogue node for the scenario's checks: what is measured does not depend on it."""


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", required=True, choices=sorted(CATALOGUE_NODES))
    parser.add_argument("--list", default="cases", choices=["cases", "ideas"], help="which committed list")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", type=int, default=1, help="which repetition on another day or machine this is")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after this long")
    parser.add_argument("--only", nargs="*", help="names of cases")
    parser.add_argument("--parts", type=Path, help="file for what each command of a block took, in further runs")
    parser.add_argument("--fingerprint", default="")
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        parser.error("no CUDA GPU here; --cpu runs tiny cases without one")
    if not options.cpu:
        refuse_busy_gpus("replays")
    session = open_session(cpu=options.cpu)
    cases = [case for case in load_cases(options.kind, options.list) if not options.only or case.name in options.only]
    run_cases(session, cases, options)
    close_session(session)


def run_cases(session: Session, cases: list[ReplayCase], options: argparse.Namespace) -> None:
    """Replay all cases that the file does not hold yet."""
    done = _done(options.out)
    begin = time.monotonic()
    for case in cases:
        late = session.communicator.gathered(time.monotonic() - begin > options.seconds)[0]
        if case.name in done or late:
            continue
        started = time.monotonic()
        line = _measured(session, case, options)
        line["spent_s"] = round(time.monotonic() - started, 2)
        if session.communicator.rank == 0:
            _append(options.out, line)
            print(f"{case.name}: {line.get('error') or _brief(line)}", file=sys.stderr, flush=True)


def _measured(session: Session, case: ReplayCase, options: argparse.Namespace) -> dict[str, Any]:
    node = CATALOGUE_NODES[options.kind]
    try:
        pair = Alternating(session, case.scenario(node), case.resident(node), case.other(node))
        measured = pair.measure(parts=options.parts is not None)
        if options.parts and session.communicator.rank == 0:
            _append(options.parts, parts_line(case.name, measured))
        return record_of(case.name, case.raw(), measured, options.fingerprint, options.run)
    except (RuntimeError, ValueError, KeyError) as error:
        line = {"case": case.name, "error": f"{type(error).__name__}: {error}"}
        if session.communicator.world == 1:
            return line
        if session.communicator.rank == 0:
            _append(options.out, line)
        raise  # the other ranks wait in a collective: the launcher ends them, a new start goes on with the next case


def parts_line(case: str, measured: Measured) -> dict[str, Any]:
    """One line of a file of parts."""
    runs = {"resident": measured.resident_traced, "policy": measured.policy_traced}
    return {"case": case} | {name: msgspec.to_builtins(traced) for name, traced in runs.items()}


def _done(path: Path) -> set[str]:
    if not path.exists():
        return set()
    lines = path.read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["case"] for line in lines if line.endswith("}")}


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _brief(line: dict[str, Any]) -> str:
    policy, resident = line["policy_steps"][-1][-1], line["resident_steps"][-1][-1]
    beside = f"beside {line['beside_steps'][-1][-1] * 1e3:.2f} ms, " if "beside_steps" in line else ""
    return f"{policy * 1e3:.2f} ms a step, {beside}resident {resident * 1e3:.2f} ms, {line['spent_s']} s spent"


if __name__ == "__main__":
    run_script(main)
