"""Where a step's blocks are written: a dataset, a group of datasets, or a folder of small files."""

from blockwise.outputs.base import NotOursError, Output, new_attributes
from blockwise.outputs.files import ATTRIBUTES, FilesOutput, FolderOutput
from blockwise.outputs.group import GroupOutput, found_group
from blockwise.outputs.table import Table
from blockwise.outputs.volume import VolumeOutput, found_dataset

__all__ = [
    "ATTRIBUTES",
    "FilesOutput",
    "FolderOutput",
    "GroupOutput",
    "NotOursError",
    "Output",
    "Table",
    "VolumeOutput",
    "found_dataset",
    "found_group",
    "new_attributes",
]
