"""One process of a live run: its device, its peers, and what a run of a scenario leaves behind.

Memory is counted as torch counts it: the highest allocated level of a run, less what was allocated before it, plus the
library workspaces that the first product takes and keeps.
"""

import os
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from offsim.program.build import build
from offsim.program.commands import StreamProgram
from offsim.program.timeline import Timeline
from offsim.results.steps import step_rows
from offsim.scenario.scenario import Scenario

from .communicator import Communicator
from .contents import BufferContents, expert_layout
from .device import CpuDevice, CudaDevice, LiveDevice
from .executor import Executor


@dataclass
class Session:
    """One process of a live run, with its device, ready to execute programs."""

    device: LiveDevice
    communicator: Communicator
    workspace: int = 0
    """Bytes that cuBLAS holds of the framework's memory."""
    _contents: dict[str, BufferContents] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        return isinstance(self.device, CudaDevice)

    def executor(self, scenario: Scenario, *, spans: bool = False) -> Executor:
        """An executor of the scenario's program on this rank."""
        contents = BufferContents(self.device.torch_device, expert_layout(scenario))
        batch, text = scenario.workload.batch(scenario.model), scenario.model.text_tokens
        rows = (batch * text, batch)
        return Executor(build(scenario), self.device, self.communicator, contents, side_rows=rows, spans=spans)

    def plain_executor(self, program: StreamProgram) -> Executor:
        """An executor of a program without a model."""
        return Executor(program, self.device, self.communicator, BufferContents(self.device.torch_device))

    def allocated(self) -> int:
        """Bytes that the framework's device allocator has handed out."""
        return int(torch.cuda.memory_allocated()) if self.on_gpu else 0

    def begin_peak(self) -> int:
        """Forget earlier peaks; returns the level from which the next counts."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        return self.allocated()

    def peak_since(self, level: int) -> int:
        """Highest allocated bytes since `begin_peak`, above its level, library workspaces included."""
        return int(torch.cuda.max_memory_allocated()) - level + self.workspace if self.on_gpu else 0


def open_session(*, cpu: bool = False) -> Session:
    """This process's session: alone, or one of those that torchrun started."""
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device: LiveDevice = CpuDevice() if cpu else CudaDevice(local)
    if world > 1:
        named: dict[str, Any] = {} if cpu else {"device_id": device.torch_device}
        dist.init_process_group("gloo" if cpu else "nccl", **named)
    session = Session(device, Communicator(rank, world, device.torch_device))
    session.workspace = _workspace(session)
    return session


def _workspace(session: Session) -> int:
    """What the first matrix product leaves allocated."""
    if not session.on_gpu:
        return 0
    small = torch.randn(512, 512, dtype=torch.bfloat16, device=session.device.torch_device)
    out = torch.empty_like(small)
    before = session.allocated()
    torch.mm(small, small, out=out)
    return session.allocated() - before


def close_session(session: Session) -> None:
    """Leave the group of ranks that a session joined."""
    if session.communicator.world > 1:
        dist.destroy_process_group()


def merged(session: Session, timeline: Timeline) -> Timeline:
    """The record of all ranks' runs, on every rank."""
    parts = session.communicator.gathered((timeline.windows, timeline.spans, timeline.instants))
    whole = Timeline(session.communicator.world, dict.fromkeys(range(session.communicator.world), 1))
    for windows, spans, instants in parts:
        whole.windows += windows
        whole.spans += spans
        whole.instants |= instants
    return whole


def step_seconds(executor: Executor, timeline: Timeline, sections: list[int]) -> list[float]:
    """Durations of the denoising steps of a run on the slowest rank [s]; of `sections` one may come again."""
    chosen = tuple(executor.program.sections[number] for number in sections)
    by_order = Timeline(timeline.ranks, timeline.represented)
    for rank in timeline.represented:
        windows = sorted((w for w in timeline.windows if w.rank == rank), key=lambda w: w.start)
        by_order.windows += [w._replace(section=i) for i, w in enumerate(windows)]
    return [row.duration for row in step_rows(executor.program._replace(sections=chosen), by_order)]
