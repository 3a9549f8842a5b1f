"""Where a viewer's server keeps what is no result: thresholds that are tried, steps whose place is taken."""

from __future__ import annotations

from pathlib import Path

from blockwise.records import open_records

LIVE = "live"
"""Folder in a work folder with two levels of folders: for each server one for each threshold that was tried, and for
each fingerprint of a step whose place is taken one, ``0``."""

CONTAINERS = ("result.n5", "result.zarr")
"""Names of the container in each of these: Zarr where there are shards."""


def live_folder(work_dir: str) -> Path:
    """The folder of this machine for all of them; where the work folder is in a store, they go with the machine."""
    return open_records(work_dir).on_this_machine / LIVE


def live_folders(work_dir: str) -> list[Path]:
    """Folders of all thresholds that were tried, then those that these lie in."""
    live = live_folder(work_dir)
    servers = [path for path in sorted(live.glob("*")) if path.is_dir()]
    trials = [path for server in servers for path in sorted(server.glob("*")) if path.is_dir()]
    return [*trials, *servers, *([live] if servers else [])]
