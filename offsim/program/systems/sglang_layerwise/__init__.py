"""SGLang's layerwise offload (--dit-layerwise-offload), versions V0 to V3.

One manager per ModuleList and expert, each with its own copy stream. Weights are read-only: no D2H ever; releasing
rebinds the parameters, so the memory returns to its pool in host order. Safety comes from the copy stream waiting for
the compute stream before every copy. Sources: sgl-project/sglang layerwise_offload.py at PR 15511 (V0), PR 16150 and
17693 (V1), its April 2026 form (V2), PR 31538 and 34534 (V3). Left out: V3's parking of non-layer weights between uses.
"""

from collections.abc import Iterator
from typing import Literal

from offsim.scenario.scenario import Scenario

from ...offloading.hooks import PolicyProgram
from ...offloading.launch import sglang_line
from ...offloading.layers import Residency, prefetch_count
from ...offloading.page import Ladder, LaunchLine, Page
from .parameters import SGLangLayerwise
from .program import LayerwiseProgram

PREFETCH = (1, 2, 3, 4, 8)
WITH_RESIDENTS: tuple[tuple[Residency, int], ...] = (("leading", 1), ("strided", 1), ("strided", 2))
"""Residency and prefetch size: fetching further ahead takes the memory that residents make better use of."""
EARLIER: tuple[Literal["v0", "v1", "v2"], ...] = ("v0", "v1", "v2")
SINCE = {"v0": "PR 15511, December 2025", "v1": "since January 2026", "v2": "since April 2026", "v3": "since July 2026"}


class SGLangLayerwisePage(Page[SGLangLayerwise]):
    """Block lists are streamed layer by layer; older versions need SGLang of that time."""

    parameters = SGLangLayerwise
    listed = 20
    replayed_as = "streams"

    def program(self, scenario: Scenario, policy: SGLangLayerwise) -> PolicyProgram:
        return LayerwiseProgram(scenario, policy)

    def refusal(self, scenario: Scenario, policy: SGLangLayerwise) -> str:
        needs_v3 = f"needs version = 'v3', got {policy.version!r}"
        if policy.resident_layers and policy.version != "v3":
            return f"policy.resident_layers={policy.resident_layers}: {needs_v3}"
        if policy.residency != "leading" and policy.version != "v3":
            return f"policy.residency={policy.residency!r}: {needs_v3}"
        most = longest_list(scenario)
        has = f"{scenario.model.name} has at most {most} blocks"
        if policy.resident_layers >= 1 and policy.resident_layers > most:
            return f"policy.resident_layers={policy.resident_layers}: {has}"
        if policy.prefetch >= 1 and policy.prefetch > most:
            return f"policy.prefetch={policy.prefetch}: {has} (or give a share below 1)"
        if policy.version == "v0" and policy.prefetch not in (0, 1):
            return f"policy.prefetch={policy.prefetch}: version 'v0' always prefetches one block; use v1 or later"
        return ""

    def candidates(self, scenario: Scenario) -> Iterator[Ladder]:
        """Every prefetch size of the latest version, with residents of either kind; earlier versions as by default."""
        most = longest_list(scenario)
        ahead = [size for size in PREFETCH if 2 * size <= most] or [1]
        yield from ((SGLangLayerwise(version="v3", prefetch=size),) for size in ahead)
        for residency, size in WITH_RESIDENTS:
            yield tuple(
                SGLangLayerwise(version="v3", prefetch=min(size, ahead[-1]), resident_layers=count, residency=residency)
                for count in range(1, most)
            )
        for version in EARLIER:
            yield (SGLangLayerwise(version=version, prefetch=1),)

    def launch_lines(self, scenario: Scenario, policy: SGLangLayerwise) -> Iterator[LaunchLine]:
        if not policy.pinned or policy.hook_synchronize or policy.hook_cost:
            return
        flags = ["--dit-layerwise-offload true"]
        if policy.version != "v0":
            flags.append(f"--dit-offload-prefetch-size {policy.prefetch:g}")
        if policy.resident_layers:
            flags.append(f"--dit-layerwise-resident-layers {policy.resident_layers:g}")
            flags.append(f"--dit-layerwise-residency-policy {policy.residency}")
        yield from sglang_line(scenario, SINCE[policy.version], *flags)

    def blocks_ahead(self, scenario: Scenario, policy: SGLangLayerwise) -> int:
        return prefetch_count(policy.prefetch, longest_list(scenario))


def longest_list(scenario: Scenario) -> int:
    """Blocks of the model's longest ModuleList: each has a manager of its own."""
    return max(blocks.count for blocks in scenario.model.blocks)
