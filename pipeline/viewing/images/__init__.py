"""Volumes as images that viewers read: layers, their scales, keys and bytes."""
