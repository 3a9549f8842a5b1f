"""A run looked at in a browser: its volumes as layers, their chunks served, what one looks at computed first."""
