"""What came of all cases: a table by kind, and the distinct faults, each with how to see it again."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from .trial import Verdict

WIDTHS = (22, 7, 8, 8, 8, 11, 12, 8)
HEADS = ("kind", "inputs", "exit 0", "exit 2", "others", "slowest s", "largest MB", "faulty")
SHOWN = 3
"""Cases of one fault."""


def table(verdicts: Iterable[Verdict]) -> str:
    """Per kind: inputs, exit codes, slowest, largest, faulty."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.kind].append(verdict)
    everything = [verdict for group in groups.values() for verdict in group]
    rows = [_row(kind, group) for kind, group in sorted(groups.items())]
    return "\n".join([_line(HEADS), *rows, _row("all", everything)])


def _row(kind: str, group: list[Verdict]) -> str:
    codes = Counter(verdict.code for verdict in group)
    others = len(group) - codes[0] - codes[2]
    slowest = max((verdict.seconds for verdict in group), default=0.0)
    largest = max((verdict.peak for verdict in group), default=0) / 1e6
    faulty = sum(bool(verdict.faults) for verdict in group)
    cells = (len(group), codes[0], codes[2], others, f"{slowest:.1f}", f"{largest:.0f}", faulty)
    return _line((kind, *map(str, cells)))


def _line(cells: tuple[str, ...]) -> str:
    return cells[0].ljust(WIDTHS[0]) + "".join(map(str.rjust, cells[1:], WIDTHS[1:]))


def distinct(verdicts: Iterable[Verdict], seed: int) -> str:
    """Every distinct fault: how often, where, the shortest input's command line and the end of what it said."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        for fault in verdict.faults:
            groups[fault].append(verdict)
    return "\n".join(_fault(fault, group, seed) for fault, group in sorted(groups.items()))


def _fault(fault: str, group: list[Verdict], seed: int) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(verdict.kind for verdict in group).most_common())
    lines = [f"\n{fault} ({kinds})"]
    for verdict in sorted(group, key=lambda v: len("".join(v.arguments)))[:SHOWN]:
        number = f"p{verdict.number}" if verdict.kind.endswith("process") else verdict.number
        lines.append(f"  python -m tests.attack --seed {seed} --case {number}    {' '.join(verdict.arguments)[:100]!r}")
        lines += [f"      {ascii(line)[1:-1][:200]}" for line in verdict.stderr.splitlines()[-2:]]
    return "\n".join(lines)
