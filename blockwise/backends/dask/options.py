"""Which Dask cluster computes blocks."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator


class DaskOptions(BaseModel):
    """Which cluster: at most one of ``address``, ``workers`` and ``slurm``. See ``configs/reference.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    address: str | None = None
    workers: PositiveInt | None = None
    slurm: dict[str, Any] | None = None
    jobs: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_cluster(self) -> DaskOptions:
        chosen = [key for key in ("address", "workers", "slurm") if getattr(self, key) is not None]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} are set, and each chooses a cluster; keep one of them")
        if self.jobs is not None and self.slurm is None:
            raise ValueError("jobs is set, and says how many jobs of slurm there are to be; set slurm as well")
        if self.slurm is not None and self.jobs is None:
            raise ValueError("slurm is set without jobs; say how many jobs there are to be")
        return self
