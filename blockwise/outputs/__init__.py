"""Where a step's blocks are written: a dataset, or a folder of small files."""

from blockwise.outputs.base import NotOursError, Output, new_attributes
from blockwise.outputs.files import ATTRIBUTES, FilesOutput, FolderOutput
from blockwise.outputs.volume import VolumeOutput, found_dataset

__all__ = [
    "ATTRIBUTES",
    "FilesOutput",
    "FolderOutput",
    "NotOursError",
    "Output",
    "VolumeOutput",
    "found_dataset",
    "new_attributes",
]
