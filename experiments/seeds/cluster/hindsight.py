"""What the readings of the seeds' cluster were worth, now that it is known how it is wired."""

from rich.table import Table

from offsim.results.predict import predict

from ..common import layerwise
from ..pcie_4x_h100 import MEASURED, READINGS, efficiency_of, scenario

TOLD = {
    ("own root ports", "NCCL's rule"): "wrong: four copies get 12.4 GB/s each, not 55",
    ("two per switch", "NCCL's rule"): "wrong: 12.4, not 28; it was selected because it contained 21.6 s in fp32",
    ("two per switch", "host memory"): "wrong: 12.4, not 28; selected as well",
    ("one uplink", "NCCL's rule"): "wrong: an all-to-all takes 14.5 ms, not 7.1; the default sweep has this one",
    ("one uplink", "host memory"): "right, and put aside, since in bf16 it costs more than was measured",
}


def hindsight_table() -> Table:
    """The ten readings of pcie_4x_h100, and what became of them."""
    table = Table(title=f"The old readings in hindsight: layerwise's step where {MEASURED} s was measured")
    for column in ("topology", "collectives", "bf16", "fp32", "what became of it"):
        table.add_column(column)
    for reading in READINGS:
        efficiency = efficiency_of(reading)
        cells = []
        for dtype in ("bf16", "fp32"):
            found = predict(scenario(reading, layerwise("v1"), efficiency, dtype))
            low, high = found.intervals[found.steady_index]
            cells.append(f"{low:.2f} .. {high:.2f}")
        table.add_row(reading.name, reading.transport, *cells, TOLD[reading.name, reading.transport])
    return table


HINDSIGHT_VERDICT = (
    "Worth of the ten: the measurement named there as the one that decides did decide (14 GB/s a GPU were foretold for one"
    " uplink, 12.4 came out). Choosing by the step alone did not: two wrong wirings with a wrong dtype contained 21.6 s, and"
    " the right one missed it by 5 to 6 %, because what NCCL's kernels get beside copies was taken from two GPUs that share"
    " no link. The dtype is bf16: the switch step (46 s predicted, 72 in fp32, 49.7 measured), 57.3 GB a GPU and step in the"
    " later B200 trace (56.2 in bf16), and the 3,002 GB once taken for fp32 are two runs of 27 steps (2 x 1,480 = 2,960)."
)
