"""Datasets in containers, whatever the format: one way to name, open, read and write them."""

from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing
from blockwise.volume.base import ABSENT, DamagedDataError, Volume
from blockwise.volume.containers.store import DamagedMetadataError
from blockwise.volume.creation import check_writable, create_volume, delete_volume, remove_bare_container
from blockwise.volume.formats import description_files, open_volume, opening_once, stored_attributes, volume_exists
from blockwise.volume.ingest import ingest

__all__ = [
    "ABSENT",
    "Address",
    "DamagedDataError",
    "DamagedMetadataError",
    "Spacing",
    "Volume",
    "check_writable",
    "create_volume",
    "delete_volume",
    "description_files",
    "ingest",
    "open_volume",
    "opening_once",
    "remove_bare_container",
    "stored_attributes",
    "volume_exists",
]
