"""What test_live runs on two processes: policies against the resident model, over gloo. Prints `same` per rank."""

import sys

import torch

from calibration.live.contents import BufferContents, expert_layout
from calibration.live.executor import Executor
from calibration.live.session import Session, close_session, open_session
from offsim.program.build import build
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.resident import Resident
from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.scenario.policy import Policy
from tests.golden.tiny import tiny_scenario

POLICIES: tuple[Policy, ...] = (
    FSDP(),
    FSDP(prefetch=2),
    SGLangLayerwise(version="v2"),
    ScheduledLayerwise(placement="after-all-to-alls"),
    ScheduledLayerwise(placement="spread", chunks=4, copy_streams=2),
    ScheduledLayerwise(placement="gated", chunks=4, prefetch=2, across_switch="fetched"),
    ScheduledLayerwise(sharded=True),
    ScheduledLayerwise(sharded=True, chunks=2, placement="gated"),
)


def sums(session: Session, policy: Policy) -> list[tuple[str, float]]:
    """What every kernel of the model left, by command; copy-outs of FSDP are no kernels of the model."""
    scenario = tiny_scenario(policy, tokens=1280, gpus=2)
    contents = BufferContents(torch.device("cpu"), expert_layout(scenario))
    rows = (scenario.model.text_tokens,)
    peers = session.communicator
    executor = Executor(build(scenario), session.device, peers, contents, side_rows=rows, checksums=True)
    executor.run()
    return [pair for pair in executor.sums if "copy-out" not in pair[0]]


def main() -> int:
    """Compare on this rank."""
    session = open_session(cpu=True)
    resident = sums(session, Resident())
    others = [sums(session, policy) for policy in POLICIES]
    close_session(session)
    print("same" if all(other == resident for other in others) else "different", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
