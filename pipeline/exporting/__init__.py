"""A result for other programs."""
