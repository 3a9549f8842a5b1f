"""Blocks computed by the workers of a Dask cluster: one that is there, or one that a run starts for itself."""
