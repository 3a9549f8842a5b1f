"""Many images as one run."""
