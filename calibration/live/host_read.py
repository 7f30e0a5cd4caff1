"""What all GPUs together read of host memory by pinned copies, taken beside each replay.

On shared hosts this rate drifts by several percent within minutes, with what other machines on the host do; so it is
read right before and after what it is compared with, as the resident run is. Rates of single links hardly drift.
"""

from offsim.program.commands import COMPUTE, Allocate, Command, Copy, Record, Section, StreamProgram
from offsim.program.groups import sequence_groups
from offsim.program.uses import LOADING, Use

from .session import Session, merged

HOST_READ_BYTES = 256 * 2**20
COPIES = 6
NAMES = ("read 0", "read 1")


class HostRead:
    """Pinned H2D copies on every rank at once, ready to run."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._executor = session.plain_executor(_program(session.communicator.world))

    def measure(self) -> float:
        """Bytes per second of all ranks together, from a common start to the end of the slowest."""
        timeline = merged(self.session, self._executor.run())
        self._executor.memory.clear()
        ends = {rank: at for (rank, event), at in timeline.instants.items() if event == "end"}
        spent = max(at - timeline.instants[rank, "begin"] for rank, at in ends.items())
        return len(ends) * COPIES * HOST_READ_BYTES / spent


def _program(ranks: int) -> StreamProgram:
    memory: list[Command] = []
    for name in NAMES:
        memory += [Allocate(name, HOST_READ_BYTES, COMPUTE), Allocate(f"{name} on host", HOST_READ_BYTES, "pinned")]
    names = [NAMES[i % len(NAMES)] for i in range(COPIES)]
    copies = [Copy(COMPUTE, name, "H2D", HOST_READ_BYTES, "pinned", name) for name in names]
    timed: tuple[Command, ...] = (Record(COMPUTE, "begin"), *copies, Record(COMPUTE, "end"))
    sections = (Section("memory", LOADING, tuple(memory)), Section("copies", Use("denoise", step=0), timed))
    return StreamProgram("host read", sections, sequence_groups(tuple(range(ranks))))
