"""A checker of traces, written from CUDA's semantics: it knows programs, nodes and spans, and nothing of the engine.

`walk` goes through a rank's program in host order with the rank's spans in hand; `meetings` looks at collectives over
all ranks, `links` at what all flows carry together, `compare` at two traces that should be one. Run

    python -m tests.oracles.traces --count 500 --seed 1

for random scenarios with every option drawn.
"""
