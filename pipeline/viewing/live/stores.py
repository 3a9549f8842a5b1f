"""Stores of thresholds that are tried: a folder each, below the work folder, which no run looks into."""

from __future__ import annotations

import itertools
import secrets
import shutil
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from blockwise.errors import UserError
from pipeline.assembly.checks import check_memory
from pipeline.assembly.objects.steps import ObjectSteps, object_steps
from pipeline.assembly.steps import Steps
from pipeline.configuration.settings import Settings, Threshold
from pipeline.inspecting.live_stores import CONTAINERS, live_folder
from pipeline.viewing.live.step import TriedThresholdStep
from tasks.threshold import ThresholdStep

MOST_STORES = 16
"""That a server keeps; of more the one that was not asked for longest goes."""


@dataclass(frozen=True)
class Trial:
    """A threshold that is tried.

    Attributes:
        threshold: its values.
        objects: its steps, which say what its objects would be; none of them is computed.
        step: that makes its mask.
        folder: its store; None of the threshold that the configuration has, which is the run's own.
    """

    threshold: Threshold
    objects: ObjectSteps
    step: ThresholdStep
    folder: Path | None


@dataclass
class Stores:
    """The stores of one server, which go with it. Those of a server that was killed are found by ``clean``.

    Attributes:
        settings: the configuration.
        config: path of its file; empty where the thresholds do not stand there.
        steps: of the run, or of a store of their own.
    """

    settings: Settings
    config: str
    steps: Steps
    _trials: OrderedDict[str, Trial] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.folder = live_folder(self.settings.work_dir) / secrets.token_hex(4)
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def trial(self, threshold: Threshold) -> Trial:
        """What is tried with a threshold; the same for the same values.

        Raises:
            UserError: a value does not fit the probabilities, or a worker would need too much memory or time.
        """
        objects = object_steps(self.settings, threshold, self.steps.prediction)
        lengths = dict(zip(objects.threshold.grid.axes, objects.threshold.grid.shape, strict=True))
        if any(sigma > max(lengths.values()) for sigma in objects.threshold.sigma):
            raise UserError(f"sigma: {list(objects.threshold.sigma)} voxels, but the volume has {lengths}")
        with self._lock:
            return self._trial(threshold, objects)

    def _trial(self, threshold: Threshold, objects: ObjectSteps) -> Trial:
        fingerprint = objects.threshold.fingerprint
        own = next((one for one in self.steps.objects if one.threshold.fingerprint == fingerprint), None)
        if own is not None:  # sizes and the like of its objects are those of the configuration, too
            return Trial(threshold, own, own.threshold, None)
        if fingerprint in self._trials:
            self._trials.move_to_end(fingerprint)
            return self._trials[fingerprint]
        check_memory(objects.all(), self.settings.backend)
        folder = self.folder / str(next(self._numbers))
        container = CONTAINERS[self.steps.prediction.shards is not None]
        places = {"work_dir": str(folder), "output": str(folder / container)}
        apart = object_steps(self.settings.model_copy(update=places), threshold, self.steps.prediction)
        step = TriedThresholdStep(**{name: getattr(apart.threshold, name) for name in ThresholdStep.model_fields})
        self._trials[fingerprint] = Trial(threshold, apart, step, folder)
        return self._trials[fingerprint]

    def known(self, fingerprint: str) -> Trial | None:
        """What was tried under a fingerprint of the threshold step, if it is still there."""
        return self._trials.get(fingerprint)

    def surplus(self) -> list[Trial]:
        """Let go of trials that are too many; their stores are to be removed."""
        gone = []
        with self._lock:
            while len(self._trials) > MOST_STORES:
                gone.append(self._trials.popitem(last=False)[1])
        return gone

    def close(self) -> None:
        """Remove all stores."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()


def remove_store(trial: Trial) -> None:
    """Remove a trial's store; what a worker still writes there is found when the server ends, or by ``clean``."""
    if trial.folder is not None:
        shutil.rmtree(trial.folder, ignore_errors=True)
