"""What users call: workflows, configuration, command line, reports.

``luigi --module pipeline ConnectedComponentsWorkflow`` imports this package and finds the workflows in it.
"""

from pipeline.batch import BatchWorkflow
from pipeline.luigi_defaults import set_luigi_defaults
from pipeline.session import hide_tracebacks_of_user_errors
from pipeline.workflows import (
    ConnectedComponentsWorkflow,
    PredictionWorkflow,
    SimpleSegmentationWorkflow,
    ThresholdWorkflow,
)

set_luigi_defaults()
hide_tracebacks_of_user_errors()

__all__ = [
    "BatchWorkflow",
    "ConnectedComponentsWorkflow",
    "PredictionWorkflow",
    "SimpleSegmentationWorkflow",
    "ThresholdWorkflow",
]
