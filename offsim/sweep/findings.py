"""Sentences that a sweep's numbers support: computed, and left out where there is nothing to say."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import ceil

from offsim.results.layout import fixed
from offsim.results.metrics import LOSSES

from .grid import Compared
from .panels import (
    SAME,
    Case,
    Panel,
    PanelLine,
    TimeRange,
    cases,
    change,
    changes,
    heading,
    order,
    place,
    steady,
    total,
)
from .row import Result, Row

CATEGORIES = {f"steady_{metric.name}": metric.title for metric in LOSSES}
LITTLE = 0.02
"""Share of a difference that is not worth a word."""
DEVICE = "peak_allocated_GiB"
SHOWN_AS_ZERO = 0.05
"""Seconds that would be shown as 0.0."""
Measure = Callable[[Row], TimeRange]
Clause = tuple[str, str, Sequence[Case], str]
"""What is true in some places: said at first, said later, where, and what is said behind it."""


def findings(found: Sequence[Panel], compared: Compared | None = None) -> list[str]:
    """Up to seven sentences; those on two policies only of a grid that compares two which run in the same place."""
    sentences = [_fastest(found)]
    both = cases(found, compared) if compared else []
    if compared and both:
        sentences += [_steady_step(both, compared), _total(both, compared), _break_even(both, compared)]
    sentences += [_prefetch(found), _memory(found), _refused(found)]
    return [sentence for sentence in sentences if sentence]


def _entries(found: Iterable[Panel]) -> list[tuple[Panel, PanelLine, str, Row]]:
    lines = [(panel, line) for panel in found for line in panel.lines]
    return [(panel, line, *entry) for panel, line in lines for entry in line.entries.items()]


def _listed(places: Sequence[str], most: int = 4) -> str:
    """`a; b; c and 2 more`."""
    more = f" and {len(places) - most} more" if len(places) > most else ""
    return "; ".join(places[:most]) + more


def _range(values: Sequence[float], sign: str = "") -> str:
    low, high = fixed(min(values), 1, sign), fixed(max(values), 1, sign)
    return low if low == high else f"{low} to {high}"


def _fastest(found: Sequence[Panel]) -> str:
    fits = [entry for entry in _entries(found) if entry[3].status == "ok"]
    if not fits:
        return "Nothing fits."
    panel, line, name, row = min(fits, key=lambda entry: total(entry[3]).value)
    last_panel, last_line, last, slowest = max(fits, key=lambda entry: total(entry[3]).value)
    tied = [label for label in line.best() if label != name]
    rivals = f" (tied with {', '.join(tied)})" if tied else ""
    least = total(row).value
    ratio = total(slowest).value / least
    return (
        f"Fastest of what fits: {name} at {place(panel, line)}, {least:.1f} s{rivals}: "
        f"{ratio:.1f} times as fast as the slowest, {last} at {place(last_panel, last_line)}."
    )


def _split(compared: Sequence[Case], measure: Measure) -> dict[int, list[Case]]:
    """Cases by whether ours is shorter (-1), equal (0) or longer (1), the largest change first."""
    split: dict[int, list[Case]] = {-1: [], 0: [], 1: []}
    for case in sorted(compared, key=lambda c: -abs(change(measure(c.ours), measure(c.other)))):
        split[order(measure(case.ours), measure(case.other))].append(case)
    return split


def _steady_step(both: Sequence[Case], compared: Compared) -> str:
    """Where the first policy's usual step is dearer, and what makes it so."""
    (ours, other), split = compared, _split(both, steady)
    unsure = [case for case in split[0] if abs(change(steady(case.ours), steady(case.other))) > SAME]
    alike = [case for case in split[0] if case not in unsure]
    because = f", in the first: {cause(split[1][0])}" if split[1] else ""
    clauses = [
        (f"{ours} is slower than {other}", "slower", split[1], f" ({_differences(split[1], steady)}){because}"),
        (f"{ours} is faster than {other}", "faster", split[-1], f" ({_differences(split[-1], steady)})"),
        (
            f"which of {ours} and {other} is faster is undecided",
            "undecided",
            unsure,
            f" ({_differences(unsure, steady)})",
        ),
        (f"{ours} is as fast as {other} (within {100 * SAME:g} %)", f"as fast (within {100 * SAME:g} %)", alike, ""),
    ]
    return f"Steady step: {_counted(clauses, len(both))}."


def _counted(clauses: Iterable[Clause], places: int) -> str:
    """What is true of how many places, the first of them at length; what is true of none is not worth a word."""
    (said, _, where, more), *others = [clause for clause in clauses if clause[2]]
    everywhere = {1: "in the only place", 2: "in both places"}.get(places, f"in all {places} places")
    first = f"{said} {f'in {len(where)} of {places} places' if others else everywhere}{more}"
    return "; ".join([first, *(f"{said} in {len(where)}{more}" for _, said, where, more in others)])


def _differences(listed: Sequence[Case], measure: Measure) -> str:
    return _listed([_difference(case, measure) for case in listed])


def _difference(case: Case, measure: Measure) -> str:
    span = changes(measure(case.ours), measure(case.other))
    unfit = "" if case.fits else " if memory sufficed"
    return f"{case.where}: {_range((100 * span.low, 100 * span.high), '+')} %{unfit}"


def cause(case: Case) -> str:
    """The loss that grows most from the other's steady step to ours, and how much of the difference it is."""
    grown = {name: _loss(case.ours, name) - _loss(case.other, name) for name in CATEGORIES}
    largest = max(grown, key=lambda name: grown[name])
    gap = steady(case.ours).value - steady(case.other).value
    name, back = CATEGORIES[largest], grown[largest] - gap
    if back < -LITTLE * gap:
        return f"mostly {name} ({grown[largest]:.2f} of {gap:.2f} s)"
    saved = f", of which other causes take back {back:.2f} s" if back > LITTLE * gap else ""
    return f"{name} ({grown[largest]:.2f} s{saved})"


def _loss(row: Row, category: str) -> float:
    return row.number(category)


def _total(both: Sequence[Case], compared: Compared) -> str:
    """Who wins over the whole run, and what the other policy takes besides its usual steps."""
    (ours, other), split = compared, _split(both, total)
    clauses = [
        (f"{ours} beats {other}", "", split[-1], _gains(split[-1], other)),
        (f"{ours} loses to {other}", "it loses", split[1], f" ({_differences(split[1], total)})"),
        (
            f"which of {ours} and {other} wins is undecided",
            "undecided",
            split[0],
            f" ({_differences(split[0], total)})",
        ),
    ]
    return f"Total: {_counted(clauses, len(both))}."


def _gains(won: Sequence[Case], other: str) -> str:
    """By how much the other loses, and what it takes once where that is something everywhere."""
    if not won:
        return ""
    gains = [-100 * change(total(case.ours), total(case.other)) for case in won]
    once = [_once(case.other) - _once(case.ours) for case in won]
    more = f": {other} takes {_range(once)} s more besides its steady steps" if min(once) >= SHOWN_AS_ZERO else ""
    return f", by {_range(gains)} %{more}"


def _once(row: Row) -> float:
    """What a run takes beyond all its steps at their usual time [s]."""
    return total(row).value - row.number("steps") * steady(row).value


def _break_even(both: Sequence[Case], compared: Compared) -> str:
    """From how many steps on the other policy's cheaper steps pay for what it takes besides."""
    found = []
    for case in _split(both, steady)[1]:
        lost = steady(case.ours).value - steady(case.other).value
        found.append((ceil((_once(case.other) - _once(case.ours)) / lost), case.where))
    late = [f"from {steps:,} steps on at {where}" for steps, where in sorted(found) if steps > 1]
    always = [where for steps, where in found if steps <= 1]
    listed = [f"with any number of steps at {_listed(always)}"] if always else []
    listed += [_listed(late)] if late else []
    return f"Where its steady step is faster, {compared[1]} wins in total {'; '.join(listed)}." if found else ""


def _prefetch(found: Sequence[Panel]) -> str:
    """What fetching further ahead buys in the steady step, and what it costs in memory."""
    gains = [gain for panel in found for line in panel.lines for gain in _prefetch_gains(panel, line)]
    if not gains:
        return ""
    best, worst = min(gains), max(gains)
    memory = max(gain[2] for gain in gains)
    ends = [f"{fixed(100 * share, 1, '+')} % ({where})" for share, where, _ in (best, worst)]
    if worst[0] - best[0] < SAME:
        ends = [f"at most {100 * max(abs(best[0]), abs(worst[0])):.1f} %"]
    return (
        f"Fetching further ahead than the shortest prefetch changes the steady step by {' to '.join(ends)}, "
        f"and takes up to {memory:.1f} GiB more of the GPU."
    )


def _prefetch_gains(panel: Panel, line: PanelLine) -> list[tuple[float, str, float]]:
    """(change of the steady step, where, GiB) of every longer prefetch of a policy."""
    by_policy: dict[str, dict[int, Row]] = {}
    for row in line.entries.values():
        blocks = int(row.number("prefetch_blocks"))
        if row.ran and blocks:
            by_policy.setdefault(row.policy, {})[blocks] = row
    return [
        (
            change(steady(row), steady(rows[min(rows)])),
            f"{blocks} blocks at {place(panel, line)}",
            row.number(DEVICE) - rows[min(rows)].number(DEVICE),
        )
        for rows in by_policy.values()
        for blocks, row in rows.items()
        if blocks != min(rows)
    ]


def _memory(found: Sequence[Panel]) -> str:
    """Which policies lack which memory, and how much."""
    lacking: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for panel, line, _, row in _entries(found):
        if row.status == "out_of_memory":
            key = (row.policy, row.text("oom_where"))
            lacking.setdefault(key, []).append((heading(panel, line), row.number("oom_shortfall_GiB")))
    if not lacking:
        return "Everything that runs fits."
    parts = []
    for (policy, memory), lacks in lacking.items():
        lines = ", ".join(dict.fromkeys(where for where, _ in lacks))
        short = _range([gibibytes for _, gibibytes in lacks])
        parts.append(f"{policy} lacks {short} GiB of {memory} memory at {lines}")
    return f"Out of memory: {'; '.join(parts)}."


def _refused(found: Sequence[Panel]) -> str:
    reasons = Counter(row.reason for *_, row in _entries(found) if row.status == "invalid")
    listed = [f"{count} combinations, {reason}" for reason, count in reasons.most_common()]
    return f"Refused: {_listed(listed)}." if listed else ""


def calibration_line(results: Sequence[Result]) -> str:
    """How much of the answer rests on values that were not measured on the nodes it is about."""
    unmeasured = {value for result in results for value in result.unmeasured}
    ran = sum(result.row.ran for result in results)
    if not unmeasured:
        return f"Calibrated: every value behind the {ran} predictions was measured on its node."
    kinds = Counter(provenance for _, provenance in sorted(unmeasured))
    origin = ", ".join(f"{count} {provenance}" for provenance, count in kinds.most_common())
    count = len(unmeasured)
    what = f"{count} values behind the {ran} predictions were not measured on their node"
    return f"Not calibrated: {what} ({origin})."
