"""The fast engine: vectorised filters and forest on tiles that stay in the processor's cache."""
