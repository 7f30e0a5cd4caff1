"""ChunkFlow (arXiv 2605.11335): layerwise streaming in chunks that let collectives go first.

All chunks of block l + 1 are to come while block l runs, on one copy stream, into two blocks' worth of chunk buffers;
before each chunk the issuing host thread reads a flag that says whether a collective is under way, and if so makes the
copy stream wait, on the device, for the event behind that collective. A chunk in flight is never stopped, so a
collective meets one at most. Of every block the same share of chunks may stay on the device. No code is public.

The paper's worker is a thread of its own; the engine has one host thread per rank. That one does here what the two do
together. The threads meet once a block: the compute stream can wait for a block's last chunk only once that has been
issued. So the host issues the first chunk, then all of block l (with a record behind each collective), and then does
the worker's part: wait until a chunk has arrived, issue the next, until the block's last is issued; only then comes
block l + 1. The kernels of l are issued long before they run, so nothing waits for them meanwhile. `launched_ahead`:
the worker waits for nothing and the two threads issue side by side, each at its own pace; a chunk waits for the last
collective issued before it.

A wait refers to what was recorded when it was issued, so which collective a chunk finds under way must be known when
the program is written. A worker that waits finds as many chunks to fit between two collectives as copies at the
node's rate fit into the kernels there, without a clock and without interference; that many go there, and what is left
follows the last collective. Where the node's rates are wrong, a collective meets more than one chunk, or the link
idles.

Left out: how chunks are laid out over parameters; a search (`offsim best`) offers scheduled-layerwise's "gated"
instead. Host copies are counted block by block, not chunk by chunk. The first chunks of a block stay; the paper
doesn't say which.
"""

from collections.abc import Iterator
from math import ceil

from offsim.scenario.scenario import Scenario

from ...offloading.hooks import PolicyProgram, weights_of
from ...offloading.page import Ladder, Page
from .parameters import ChunkFlow
from .program import ChunkFlowProgram

MOST_CHUNKS = 1000
"""The most chunks that a block may be cut into: each takes several commands."""


class ChunkFlowPage(Page[ChunkFlow]):
    """Chunks of the next block between a block's collectives."""

    parameters = ChunkFlow
    listed = 55

    def program(self, scenario: Scenario, policy: ChunkFlow) -> PolicyProgram:
        return ChunkFlowProgram(scenario, policy)

    def refusal(self, scenario: Scenario, policy: ChunkFlow) -> str:
        chunks = ceil(max(weights_of(scenario).block) / policy.chunk)
        if chunks <= MOST_CHUNKS:
            return ""
        return f"policy.chunk={policy.chunk:g} bytes: cuts a block into {chunks:,} chunks; at most {MOST_CHUNKS:,}"

    def candidates(self, scenario: Scenario) -> Iterator[Ladder]:
        """None: nobody offers it, and what it gains its relative in the search shows."""
        yield from ()

    def blocks_ahead(self, scenario: Scenario, policy: ChunkFlow) -> int:
        return 1
