"""What users call: workflows, configuration, command line, reports.

``luigi --module pipeline ConnectedComponentsWorkflow`` imports this package and finds the workflows in it.
"""

from pipeline.batch.workflow import BatchWorkflow
from pipeline.running.luigi_defaults import set_luigi_defaults
from pipeline.running.session import hide_tracebacks_of_user_errors
from pipeline.running.workflows import (
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
