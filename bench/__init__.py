"""Benchmarks: figures, never tests. `python -m bench --help`."""
