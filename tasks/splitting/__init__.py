"""Touching objects: each one that is small enough is cut within its own bounding box, whatever the blocks."""
