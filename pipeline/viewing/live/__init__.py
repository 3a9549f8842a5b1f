"""Values of a threshold that are tried while one looks: each a store of its own, and no result of the run."""
