"""Stacks of slices as steps: every slice looked at, compared with its neighbours, put in place."""
