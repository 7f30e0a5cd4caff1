"""Why a step takes longer or shorter than plain layerwise's: the largest difference of their stall ledgers, in words.

A step is split into disjoint losses: what the compute stream did, and for contention who waited and because of whom.
"""

from collections.abc import Mapping, Sequence

from offsim.results.attribution import Losses
from offsim.results.steps import Charge

CONTENTION = "contention, other"
WORDS = {
    "compute": ("kernels have less to do", "kernels have more to do"),
    "exposed copy": ("less waiting for copies", "more waiting for copies"),
    "exposed collective": ("less time in exchanges and gathers", "more time in exchanges and gathers"),
    "host": ("the host is less late", "the host is later"),
    "exchanges, H2D copy": ("exchanges meet fewer copies on their links", "exchanges meet more copies on their links"),
    "exchanges, all-to-all": (
        "exchanges of different groups meet less on shared links",
        "exchanges of different groups meet on shared links",
    ),
    "exchanges, all-gather": ("exchanges meet fewer gathers", "exchanges meet gathers on their links"),
    "kernels, interference": ("kernels are slowed less by copies", "kernels are slowed more by copies"),
    "weights, H2D copy": (
        "copies are held up less by other GPUs' on a shared link",
        "copies are held up more by other GPUs' on a shared link",
    ),
    "weights, all-to-all": ("copies are held up less by exchanges", "copies are held up by exchanges"),
    "weights, all-gather": ("gathers are held up less", "gathers are held up"),
    CONTENTION: ("less contention", "more contention"),
}
NOTHING = 1e-3
"""Share of a step below which a difference is none."""


def split(losses: Losses, charges: Sequence[Charge]) -> dict[str, float]:
    """Seconds of a step by loss; they add up to the step."""
    found = {
        "compute": losses.compute,
        "exposed copy": losses.exposed_copy,
        "exposed collective": losses.exposed_collective,
        "host": losses.host_bound,
    }
    for charge in charges:
        name = _name(charge)
        found[name] = found.get(name, 0.0) + charge.seconds
    charged = sum(charge.seconds for charge in charges)
    found[CONTENTION] = found.get(CONTENTION, 0.0) + losses.contention - charged
    return found


def _name(charge: Charge) -> str:
    who = {"compute": "kernels", "collective": "exchanges"}.get(charge.waiting.partition(":")[0], "weights")
    culprit = "interference" if charge.culprit.endswith("interference") else charge.culprit
    name = f"{who}, {culprit}"
    return name if name in WORDS else CONTENTION


def cause(own: Mapping[str, float], plain: Mapping[str, float], outside: float = 0.0) -> str:
    """What makes the difference, in a sentence; `outside`: seconds of the total that steady steps don't explain."""
    net = sum(own.values()) - sum(plain.values())
    sentence = _steady_cause(own, plain)
    if abs(outside) > max(sum(plain.values()) / 100, 5 * abs(net)):
        sentence += f" First and switch step: {outside:+.1f} s."
    return sentence


def _steady_cause(own: Mapping[str, float], plain: Mapping[str, float]) -> str:
    """The largest difference that explains the net one, and the largest that goes against it."""
    names = dict.fromkeys([*plain, *own])
    differences = {name: own.get(name, 0.0) - plain.get(name, 0.0) for name in names}
    net, step = sum(differences.values()), sum(plain.values())
    if abs(net) < NOTHING * step:
        return f"Changes nothing: {_largest_waste(plain)}."
    for_it = max(differences, key=lambda name: differences[name] * net)
    against = min(differences, key=lambda name: differences[name] * net)
    sentence = f"{_milliseconds(differences[for_it])}: {_words(for_it, differences[for_it])}"
    if differences[against] * net < 0 and abs(differences[against]) > 0.25 * abs(differences[for_it]):
        sentence += f"; against it {_milliseconds(differences[against])}: {_words(against, differences[against])}"
    return f"{sentence}."


def _words(name: str, seconds: float) -> str:
    return WORDS[name][seconds > 0]


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:+,.0f} ms a step"


def _largest_waste(plain: Mapping[str, float]) -> str:
    """What plain layerwise loses at all to copies."""
    lost = sum(seconds for name, seconds in plain.items() if name not in ("compute", "exposed collective", "host"))
    return f"plain layerwise loses {1e3 * lost:.0f} ms of {1e3 * sum(plain.values()):,.0f} to copies"
