"""Which blocks a system keeps on the device and how many it fetches ahead, by SGLang's rules."""

from typing import Literal

Residency = Literal["leading", "strided"]


def prefetch_count(prefetch: int | float, blocks: int) -> int:
    """SGLang's rule: below 1, P = 1 + round(value (n - 1)); else int(value); clamped to 1..n.

    >>> prefetch_count(0.0, 40), prefetch_count(0.2, 40), prefetch_count(1.0, 40), prefetch_count(0.99, 40)
    (1, 9, 1, 40)
    """
    count = 1 + round(prefetch * (blocks - 1)) if prefetch < 1 else int(prefetch)
    return min(max(1, count), blocks)


def resident_blocks(resident: int | float, blocks: int, residency: Residency) -> set[int]:
    """Which blocks stay: the first R, or all but s = n - R evenly spread streamed ones, round(k n / s)."""
    count = resident_count(resident, blocks)
    streamed = blocks - count
    if residency == "leading" or 0 in (count, streamed):
        return set(range(count))
    return set(range(blocks)) - {round(k * blocks / streamed) for k in range(streamed)}


def resident_count(resident: int | float, blocks: int) -> int:
    """How many blocks stay: a count, or a share of the blocks below 1; never more than there are.

    >>> resident_count(0.5, 40), resident_count(7, 40), resident_count(50, 40)
    (20, 7, 40)
    """
    return min(round(resident * blocks) if resident < 1 else int(resident), blocks)
