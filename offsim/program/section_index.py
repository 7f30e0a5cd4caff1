"""What is asked of a record's sections again and again, worked out once: a long run has thousands of each."""

from collections.abc import Sequence

from .repeats import Repeat
from .spans import SectionWindow


class SectionIndex:
    """Windows and repeats of a record by section; for as many as there are now, since both only grow."""

    def __init__(self, windows: Sequence[SectionWindow], repeats: Sequence[Repeat]) -> None:
        self.size = (len(windows), len(repeats))
        self.windows = {(window.rank, window.section): window for window in windows}
        self.earlier: dict[tuple[int, int], float] = {}
        """(rank, section): when the rank's compute stream had done all sections before [s]; none before the first."""
        self.within: dict[int, list[Repeat]] = {}
        """Section -> blocks of it that stand for more than themselves."""
        self.steps = [repeat for repeat in repeats if not repeat.parts]
        """Repeats of whole sections."""
        done: dict[int, float] = {}
        for window in sorted(self.windows.values(), key=_section):
            if window.rank in done:
                self.earlier[window.rank, window.section] = done[window.rank]
            done[window.rank] = max(done.get(window.rank, window.compute_end), window.compute_end)
        for repeat in repeats:
            if repeat.parts:
                self.within.setdefault(repeat.section, []).append(repeat)


def _section(window: SectionWindow) -> int:
    return window.section
