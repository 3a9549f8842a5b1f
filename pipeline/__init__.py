"""What users call: workflows, configuration, command line, reports.

``luigi --module pipeline ConnectedComponentsWorkflow`` imports this package and finds the workflows in it.
"""

from pipeline.batch import BatchWorkflow
from pipeline.session import hide_tracebacks_of_user_errors
from pipeline.workflows import (
    ConnectedComponentsWorkflow,
    PredictionWorkflow,
    SimpleSegmentationWorkflow,
    ThresholdWorkflow,
)

hide_tracebacks_of_user_errors()

__all__ = [
    "BatchWorkflow",
    "ConnectedComponentsWorkflow",
    "PredictionWorkflow",
    "SimpleSegmentationWorkflow",
    "ThresholdWorkflow",
]
