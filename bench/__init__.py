"""Benchmarks: what the parts of the audio path cost. `make bench`."""
