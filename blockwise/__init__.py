"""How blocks get done: grid, volumes, identity, markers, plan, worker, backends."""
