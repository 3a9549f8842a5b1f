"""Coarser scales of volumes, for viewers: kernels, factors, steps, layouts."""
