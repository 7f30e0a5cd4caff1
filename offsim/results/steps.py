"""What each use of a component took and moved, each denoising step above all, and what that was lost to.

Every use is told as its slowest rank saw it. Works on simulated and on measured timelines alike.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from offsim.program.commands import Collective, Command, Copy, Section, StreamProgram
from offsim.program.passages import Passage, Written, passages_of
from offsim.program.timeline import Timeline
from offsim.program.uses import DENOISING, Use, UseKind

from .attribution import Attribution, Losses, RankTracks

EQUALLY_LONG = 1e-9
"""Relative difference of sections that are as long as each other."""


class Charge(NamedTuple):
    """A line of the stall ledger: in `use`, `waiting` lost `seconds` because of `culprit`."""

    use: Use
    waiting: str
    culprit: str
    seconds: float

    @property
    def step(self) -> int | None:
        """The number of the denoising step that the charge is of, if it is of one."""
        return self.use.step


@dataclass(frozen=True, slots=True)
class UseRow:
    """One use of a component, such as a denoising step, on its slowest rank."""

    use: Use
    duration: float
    losses: Losses
    h2d_bytes: float
    d2h_bytes: float
    collective_bytes: float
    """Bytes that one rank moves in this section."""

    @property
    def index(self) -> int:
        """The number of the denoising step."""
        assert self.use.step is not None
        return self.use.step


def step_rows(program: StreamProgram, timeline: Timeline) -> list[UseRow]:
    """One row per denoising step, each as its slowest rank saw it."""
    return use_rows(program, timeline, DENOISING)


def use_rows(program: StreamProgram, timeline: Timeline, kinds: Collection[UseKind]) -> list[UseRow]:
    """One row per use of these kinds, each as its slowest rank saw it."""
    tracks = _tracks(timeline)
    rows: dict[int, tuple[float, Losses]] = {}
    known: dict[int, dict[str, float]] = {}
    moved = {id(section.commands): traffic(section.commands, known) for section in _distinct(program)}
    result = []
    for number in program.numbers_of(kinds):
        section, recorded = program.sections[number], timeline.recorded_section(number)
        if recorded not in rows:
            duration, losses, _ = _slowest(timeline, recorded, tracks)
            rows[recorded] = (duration, losses)
        duration, losses = rows[recorded]
        result.append(UseRow(section.use, duration, losses, *moved[id(section.commands)]))
    return result


def _distinct(program: StreamProgram) -> list[Section]:
    """Sections with different tuples of commands: equal consecutive steps share one."""
    return list({id(section.commands): section for section in program.sections}.values())


def _tracks(timeline: Timeline) -> dict[int, RankTracks]:
    by_rank = {rank: RankTracks() for rank in timeline.represented}
    for row in timeline.rows():
        by_rank[row[0][0]].add(row)
    return by_rank


def _slowest(timeline: Timeline, section: int, tracks: dict[int, RankTracks]) -> tuple[float, Losses, Attribution]:
    """The longest section over the ranks, where its time went, and whom that is charged to.

    Of ranks that take equally long but for rounding, the first.
    """
    durations = {rank: timeline.step_seconds(rank, section) for rank in tracks}
    longest = max(durations.values())
    rank = next(rank for rank, seconds in durations.items() if seconds >= longest * (1 - EQUALLY_LONG))
    attribution = Attribution(tracks[rank])
    losses = attribution.window(*timeline.step_bounds(rank, section))
    for repeat in timeline.repeats_within(section):
        losses += attribution.window(repeat.begin, repeat.after, repeat.times)
    return longest, losses, attribution


def traffic(
    commands: Sequence[Command], known: dict[int, dict[str, float]] | None = None
) -> tuple[float, float, float]:
    """Bytes that one rank moves with these commands (H2D, D2H, collective); `known`: of passages, to be added to."""
    if known is None or not isinstance(commands, Written):
        known = {}  # Other sections' passages are made when asked for: later ones may be where these were in memory.
    moved = {"H2D": 0.0, "D2H": 0.0, "collective": 0.0}
    for passage in passages_of(commands):
        if id(passage) not in known:
            known[id(passage)] = _moved(passage)
        for kind, bytes_ in known[id(passage)].items():
            moved[kind] += bytes_
    return moved["H2D"], moved["D2H"], moved["collective"]


def _moved(passage: Passage) -> dict[str, float]:
    """Bytes by kind."""
    moved = {"H2D": 0.0, "D2H": 0.0, "collective": 0.0}
    known: dict[int, float] = {}
    for part in passage:
        for command in (*part.before, *part.after):
            if isinstance(command, Copy):
                moved[command.direction] += command.bytes
            elif isinstance(command, Collective):
                moved["collective"] += command.bytes
        template = part.template
        if template is not None:
            if id(template) not in known:
                known[id(template)] = sum(c.bytes for c in template.commands if isinstance(c, Collective))
            moved["collective"] += known[id(template)]
    return moved


def ledger(program: StreamProgram, timeline: Timeline, kinds: Collection[UseKind] = DENOISING) -> list[Charge]:
    """The stall ledger: who waited how long because of whom, use by use; largest first within a use.

    The uses are the denoising steps, unless told otherwise.
    """
    tracks = _tracks(timeline)
    by_section: dict[int, list[Charge]] = {}
    result = []
    for number in program.numbers_of(kinds):
        use, recorded = program.sections[number].use, timeline.recorded_section(number)
        if recorded not in by_section:
            _, _, attribution = _slowest(timeline, recorded, tracks)
            ordered = sorted(attribution.charges.items(), key=lambda item: -item[1])
            by_section[recorded] = [Charge(use, waiting, who, seconds) for (waiting, who), seconds in ordered]
        result += [charge._replace(use=use) for charge in by_section[recorded] if charge.seconds > 0]
    return result


def waits(timeline: Timeline, section: int) -> dict[str, float]:
    """What the compute stream of the slowest rank waited for in a section, and how long [s]; the longest first.

    `H2D: ...` and `D2H: ...` are copies by the general names of what they move, whether the stream ran them itself,
    waited for them, or stood idle while they kept the host; `host` is idle with nothing issued. They add up to the
    section's exposed copies, exposed collectives and host-bound time.
    """
    _, _, attribution = _slowest(timeline, timeline.recorded_section(section), _tracks(timeline))
    return dict(sorted(attribution.waits.items(), key=lambda item: -item[1]))
