"""Where a viewer's server keeps what is no result: thresholds that are tried, steps whose place is taken."""

from __future__ import annotations

from pathlib import Path

LIVE = "live"
"""Folder in a work folder with two levels of folders: for each server one for each threshold that was tried, and for
each fingerprint of a step whose place is taken one, ``0``."""

CONTAINERS = ("result.n5", "result.zarr")
"""Names of the container in each of these: Zarr where there are shards."""


def live_folders(work_dir: str | Path) -> list[Path]:
    """Folders of all thresholds that were tried, then those that these lie in."""
    live = Path(work_dir, LIVE)
    servers = [path for path in sorted(live.glob("*")) if path.is_dir()]
    trials = [path for server in servers for path in sorted(server.glob("*")) if path.is_dir()]
    return [*trials, *servers, *([live] if servers else [])]
