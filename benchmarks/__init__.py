"""Benchmarks of the prediction; `make bench` runs them."""
