from tests.slurm.cluster import cluster

__all__ = ["cluster"]
