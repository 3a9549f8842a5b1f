"""Blocks computed by the jobs of a scheduler, whichever it is."""
