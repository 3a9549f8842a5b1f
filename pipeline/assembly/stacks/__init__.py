"""From a configuration to the steps that align a stack, and that put its slices in place."""
