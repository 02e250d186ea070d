"""What tracing costs: clew and its peers side by side, then the collector. ``make bench`` writes docs/benchmarks.md.

The client part runs in ``.bench-venv``, where the peers are; the collector part beside a real ``clew up``. Nothing here
asserts a time: machines differ and are shared, so every figure stands beside a floor measured in the same moment.
"""
