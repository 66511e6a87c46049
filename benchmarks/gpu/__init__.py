"""The check on a GPU: exact, how far from the floor, how much memory. ``python -m benchmarks.gpu --help``."""
