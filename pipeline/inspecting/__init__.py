"""A run looked at in a terminal: forecast, status, verification, cleaning, agreement."""
