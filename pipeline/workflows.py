"""All workflows, and what Luigi is told before it runs one."""

from __future__ import annotations

from pipeline.batch.workflow import BatchWorkflow
from pipeline.running.alignment import AlignmentWorkflow
from pipeline.running.luigi_defaults import set_luigi_defaults
from pipeline.running.session import hide_tracebacks_of_user_errors
from pipeline.running.workflows import (
    ConnectedComponentsWorkflow,
    ObjectClassificationWorkflow,
    PredictionWorkflow,
    PyramidWorkflow,
    SimpleSegmentationWorkflow,
    ThresholdWorkflow,
)

__all__ = [
    "AlignmentWorkflow",
    "BatchWorkflow",
    "ConnectedComponentsWorkflow",
    "ObjectClassificationWorkflow",
    "PredictionWorkflow",
    "PyramidWorkflow",
    "SimpleSegmentationWorkflow",
    "ThresholdWorkflow",
]

set_luigi_defaults()
hide_tracebacks_of_user_errors()
