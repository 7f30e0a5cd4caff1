"""The process that measures: runs probes on live devices and appends samples to a file.

    python -m calibration.live.worker --samples FILE --probes h2d,d2h --mode full
    torchrun --nproc_per_node 2 -m calibration.live.worker ...

Configurations that the file holds already are skipped. One JSON object per event on standard output: begin, sample,
waived, done. Rank 0 writes and speaks; what to run next is decided alike on all ranks.
"""

import argparse
import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calibration.kernels.bindings import CudaError
from calibration.probes import PROBES
from calibration.probes.probe import Probe
from calibration.samples.sample_file import Configuration, ProbeSample, SampleFile, sample_key

from .bench import LiveBench
from .session import Session, close_session, open_session


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--probes", required=True, help="keys, separated by commas")
    parser.add_argument("--mode", choices=("quick", "full"), required=True)
    parser.add_argument("--cpu", action="store_true", help="imitate the device: for tests of this process")
    options = parser.parse_args()
    session = open_session(cpu=options.cpu)
    measure_probes(session, options)
    close_session(session)


def measure_probes(session: Session, options: argparse.Namespace) -> None:
    """Measure every configuration of the chosen probes that is not in the file yet, in random order."""
    file = SampleFile(options.samples)
    node = file.header().inventory
    bench = LiveBench(session, node)
    done = session.communicator.gathered(file.done())[0]
    keys = options.probes.split(",")
    for probe in sorted((p for p in PROBES if p.key in keys), key=lambda p: keys.index(p.key)):
        reason = probe.can_run(node)
        if reason:
            _say(session, event="waived", probe=probe.key, reason=reason)
            continue
        _measure_probe(bench, probe, file, done, options)
        bench.forget()
    _say(session, event="done")


def _measure_probe(
    bench: LiveBench, probe: Probe, file: SampleFile, done: set[tuple[str, str]], options: argparse.Namespace
) -> None:
    configurations = list(probe.configurations(options.mode, bench.node))
    random.Random(probe.key).shuffle(configurations)
    for number, config in enumerate(configurations):
        if sample_key(probe.key, config) in done:
            continue
        _say(bench.session, event="begin", probe=probe.key, config=config)
        readings = _readings(bench, probe, config, options.mode)
        if readings is not None and not any(readings.values()):
            reason = "no valid reading: what ran beside ended early each time"
            _say(bench.session, event="failed", probe=probe.key, config=config, reason=reason)
        if not readings or not any(readings.values()):
            continue
        if bench.session.communicator.rank == 0:
            file.append(_sample(bench, probe, config, readings, len(done) + number))
        _say(bench.session, event="sample", probe=probe.key, n=number + 1, of=len(configurations))


def _readings(bench: LiveBench, probe: Probe, config: Configuration, mode: Any) -> dict[str, list[float]] | None:
    """What the probe reads; None, and an event that says so, if this configuration fails on its own."""
    try:
        return probe.measure(bench, config, probe.repeats(mode, config))
    except (RuntimeError, ValueError, KeyError, IndexError, CudaError) as error:
        if bench.ranks > 1:
            raise  # the other ranks wait in a collective: the launcher ends them, and a new start resumes
        bench.forget()
        _say(bench.session, event="failed", probe=probe.key, config=config, reason=f"{type(error).__name__}: {error}")
        return None


def _sample(
    bench: LiveBench, probe: Probe, config: Configuration, readings: dict[str, list[float]], order: int
) -> ProbeSample:
    return ProbeSample(
        probe=probe.key,
        config=config,
        readings=readings,
        held_out=probe.held_out(config),
        order=order,
        state={**bench.state, "workspace_bytes": float(bench.session.workspace)},
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        transport=bench.transport,
    )


def _say(session: Session, **event: Any) -> None:
    if session.communicator.rank == 0:
        os.write(1, (json.dumps(event) + "\n").encode())


if __name__ == "__main__":
    main()
