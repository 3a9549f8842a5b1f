"""Luigi's nodes, one for each kind of step.

They stand apart from the steps because workers need no Luigi, and it takes as long to load as all else of a step.
"""

from __future__ import annotations

from tasks.nodes.task import BlockTask
from tasks.prediction import PredictionStep


class PredictionTask(BlockTask):
    """Luigi's node for the prediction."""

    step: PredictionStep

    def run(self) -> None:
        """Check the raw volume; train where there is something to train, so that workers find it; then predict."""
        self.step.check_raw()
        self.step.classifier()
        super().run()


class SimpleSegmentationTask(BlockTask):
    """Luigi's node for the most probable class."""


class ThresholdTask(BlockTask):
    """Luigi's node for the threshold."""


class ComponentFacesTask(BlockTask):
    """Luigi's node for the components of each block."""


class ComponentMergeTask(BlockTask):
    """Luigi's node for the merge."""


class ConnectedComponentsTask(BlockTask):
    """Luigi's node for the final labels."""


class CoresTask(BlockTask):
    """Luigi's node for the cores."""


class MeasuresTask(BlockTask):
    """Luigi's node for what images hold below the objects."""


class ObjectTableTask(BlockTask):
    """Luigi's node for the table of objects."""
