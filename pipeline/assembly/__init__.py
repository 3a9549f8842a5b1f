"""Steps made from settings."""
