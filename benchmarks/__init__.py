"""Measurements: how fast, how far, at what cost. Run `python -m benchmarks --help`."""
