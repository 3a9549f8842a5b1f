"""Gaussians of whole blocks."""
