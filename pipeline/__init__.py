"""What users call: workflows, configuration, command line, reports.

``luigi --module pipeline ConnectedComponentsWorkflow`` imports this package and finds the workflows in it. Workers
import parts of it for the images of a batch: these need no Luigi, which takes as long to load as all else. So
workflows are loaded when Luigi is there already, or when one of them is asked for.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.workflows import (
        AlignmentWorkflow,
        BatchWorkflow,
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


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("pipeline.workflows"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "luigi" in sys.modules:
    importlib.import_module("pipeline.workflows")
