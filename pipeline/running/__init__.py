"""A run: workflows, session, lock, report."""
