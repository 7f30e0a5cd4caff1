"""Which ideas to replay on one GPU: all that there are without collectives, ranked by what they gain over plain layerwise.

A steady step of ten Wan-14B blocks, predicted on two calibrated nodes at three token counts: copies take almost three
times as long as kernels, a fifth longer, half as long. Ranked by the mean of both nodes where they take a fifth longer;
the switch step is that of two experts there, on the first node. Left out: spread, gated and after-all-to-alls copies,
which without collectives are issued where a block starts; sharded ones; fp8, which has int8's bytes.
"""

from functools import cache
from statistics import mean
from typing import NamedTuple

from rich.table import Table

from calibration.replays.cases import ReplayCase
from calibration.validate.records import NODES
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.results.layout import new_table, render
from offsim.results.predict import Prediction, predict
from offsim.scenario.model import Dtype
from offsim.scenario.policy import Policy

ASKED = ("h100-x1-a", "h200-x1-b")
TOKENS = (4096, 8190, 16384)
RANKED_AT = 8190
BLOCKS = 10
WHOLE = "whole expert on the device"
"""Streams nothing in a steady step: what the resident run beside every replay shows already."""
ENOUGH = 0.01
"""Gains that differ by less are taken as one where an idea's setting is chosen: the first one then."""


class Setting(NamedTuple):
    """One way to use an idea; the milder one stands first."""

    idea: str
    name: str
    policy: Policy
    weight_dtype: Dtype = "bf16"

    def case(self, tokens: int, experts: int = 1) -> ReplayCase:
        """As a replay of it would be."""
        return ReplayCase(
            self.name,
            "x1",
            "wan-14b",
            (BLOCKS,),
            tokens,
            self.policy,
            experts=experts,
            steps=6,
            weight_dtype=self.weight_dtype,
        )


def scheduled(idea: str, name: str, weight_dtype: Dtype = "bf16", **options: object) -> Setting:
    """A way to schedule copies."""
    return Setting(idea, name, ScheduledLayerwise(**options), weight_dtype)  # type: ignore[arg-type]


PLAIN = Setting("", "layerwise P=1", SGLangLayerwise(version="v2"))
SETTINGS = (
    scheduled("native low bit", "int8, native", "int8"),
    scheduled("native low bit", "int4, native", "int4"),
    scheduled("unpacked low bit", "int8, unpacked", transfer_dtype="int8"),
    scheduled("unpacked low bit", "int4, unpacked", transfer_dtype="int4"),
    scheduled("strided residents", "3 of 10 strided", resident_layers=3),
    scheduled("strided residents", "5 of 10 strided", resident_layers=5),
    scheduled("leading residents", "3 of 10 leading", resident_layers=3, residency="leading"),
    scheduled("leading residents", "5 of 10 leading", resident_layers=5, residency="leading"),
    scheduled("more ahead", "P=2", prefetch=2),
    scheduled("chunks", "8 chunks", chunks=8),
    scheduled("copy streams", "8 chunks on 2 streams", chunks=8, copy_streams=2),
    scheduled("copy streams", "the same, high priority", chunks=8, copy_streams=2, copy_priority="high"),
    scheduled("late copies", "after attention", placement="after-attention"),
    scheduled("late copies", "after attention, P=2", placement="after-attention", prefetch=2),
    scheduled("over the switch", "next expert prefetched", across_switch="prefetched"),
    scheduled("over the switch", "next expert fetched", across_switch="fetched"),
    scheduled(WHOLE, "10 of 10 from first use", resident_layers=BLOCKS),
    Setting(WHOLE, "next expert over 2 steps", FullModel(version="pinned", background_steps=2)),
)


@cache
def predicted(setting: Setting, node: str, tokens: int, experts: int = 1) -> Prediction:
    """A setting's replay on a calibrated node."""
    return predict(setting.case(tokens, experts).scenario(str(NODES / node / "profile.toml")))


def gain(setting: Setting, node: str, tokens: int) -> float:
    """How much less a steady step takes, of plain layerwise's."""
    return 1 - predicted(setting, node, tokens).steady / predicted(PLAIN, node, tokens).steady


def switch_gain(setting: Setting) -> float:
    """The same for the step at which the expert changes."""
    own, plain = (predicted(each, ASKED[0], RANKED_AT, experts=2).switch for each in (setting, PLAIN))
    assert own is not None and plain is not None
    return 1 - own.duration / plain.duration


def ranked_by(setting: Setting) -> float:
    """The gain that ranks it."""
    return mean(gain(setting, node, RANKED_AT) for node in ASKED)


def chosen() -> list[Setting]:
    """Of the four ideas that gain most and of the one that loses most, the setting to replay."""
    ideas = dict.fromkeys(setting.idea for setting in SETTINGS if setting.idea != WHOLE)
    best = sorted((_setting_of(idea) for idea in ideas), key=ranked_by, reverse=True)
    return [*best[:4], min(SETTINGS, key=ranked_by)]


def _setting_of(idea: str) -> Setting:
    """The first of an idea's settings that gains about as much as any."""
    own = [setting for setting in SETTINGS if setting.idea == idea]
    most = max(map(ranked_by, own))
    return next(setting for setting in own if ranked_by(setting) > most - ENOUGH)


def answer() -> str:
    """The ranked table and what follows for the list of replays."""
    names = [setting.name for setting in chosen()]
    sentence = f"Chosen at {RANKED_AT:,} tokens: {'; '.join(names[:4])}. The loser: {names[4]}."
    return f"{render(_table())}{sentence}\n"


def _table() -> Table:
    chips = {node: node[:4].upper() for node in ASKED}
    columns = [f"{tokens:,}\n{chips[node]}" for tokens in TOKENS for node in ASKED]
    title = "One GPU: gain of a steady step over plain layerwise, %"
    table = new_table(title, "idea", *columns, f"switch\n{chips[ASKED[0]]}")
    for setting in sorted(SETTINGS, key=ranked_by, reverse=True):
        gains = [gain(setting, node, tokens) for tokens in TOKENS for node in ASKED]
        table.add_row(setting.name, *(f"{100 * each:+z.1f}" for each in (*gains, switch_gain(setting))))
    return table
