"""Where a step's blocks are written: a dataset, or a folder of small files."""

from blockwise.outputs.base import Output, new_attributes
from blockwise.outputs.files import ATTRIBUTES, FilesOutput, FolderOutput
from blockwise.outputs.volume import VolumeOutput, fingerprinted

__all__ = ["ATTRIBUTES", "FilesOutput", "FolderOutput", "Output", "VolumeOutput", "fingerprinted", "new_attributes"]
