"""Blocks computed by the array jobs of AWS Batch."""

from blockwise.backends.aws_batch.backend import AwsBatchBackend
from blockwise.backends.aws_batch.options import AwsBatchOptions

__all__ = ["AwsBatchBackend", "AwsBatchOptions"]
