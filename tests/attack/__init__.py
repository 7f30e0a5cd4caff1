"""The standing attack on offsim: bad, odd and extreme inputs for every verb and every file that is read.

python -m tests.attack --count 10000 --seed 1

An input is a `Case`, made from a seed and a number alone. It is tried in a folder of its own, in a process that may
be lost, and what it answers is held to `checks`.
"""
