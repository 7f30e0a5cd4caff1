"""Skipping blocks and steps that repeat: exact, by comparing states.

At the begin of a block (a step) the engine's state is how far every stream, copy engine, flow and kernel is: in
commands counted from this block, and in seconds left. If it equals an earlier state and the commands ahead look like
the ones then, what follows takes exactly as long as it did then, for as long as the commands repeat. The timeline says
what was left out (Repeat). Means of power count a thousandth (clock.SETTLED): there it is exact to 1e-9.

Hosts: either all that is skipped, and a period more, is issued before it is due (what the host has not come to yet it
catches up on afterwards, and has to before anything waits for it); or they are where they were a period ago, and move
on with the streams.
"""

from collections.abc import Sequence

from offsim.program.commands import StreamProgram
from offsim.program.timeline import Timeline

from .block_skips import BlockSkips
from .host import HostThread
from .network import Network
from .queue import IssuedPassage
from .step_skips import StepSkips


class SteadyState:
    """Looks at the begins of steps and blocks on the compute stream of the first simulated rank."""

    def __init__(
        self,
        program: StreamProgram,
        network: Network,
        timeline: Timeline,
        hosts: Sequence[HostThread],
        *,
        steps: bool,
        blocks: bool,
    ) -> None:
        self._steps = StepSkips(program, network, timeline, hosts) if steps else None
        self._blocks = BlockSkips(network, timeline, hosts) if blocks else None

    def at_mark(self, chunk: IssuedPassage, block: int) -> None:
        """Take note that a section (block -1) or a block of it begins on the compute stream."""
        if block >= 0:
            if self._blocks is not None:
                self._blocks.at_block(chunk, block)
        elif self._steps is not None:
            self._steps.at_section(chunk.passed.section)

    def at_begin(self, section: int) -> int:
        """How many sections, from the one on that a host is about to begin as the only one, are left out."""
        return 0 if self._steps is None else self._steps.at_begin(section)
