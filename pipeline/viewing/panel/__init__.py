"""What stands beside the viewer: how far the steps are, a map of their blocks, what has failed and why."""
