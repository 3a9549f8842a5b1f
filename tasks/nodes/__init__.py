"""Luigi's view of steps."""
