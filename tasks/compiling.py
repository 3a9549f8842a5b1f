"""Machine code that nearly every run needs, made before the first run: at installation, where somebody is waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from blockwise.compiled import Compiled, cache_folder
from tasks.components.joining import load_joining
from tasks.components.labelling import load_labelling
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.features import Feature
from tasks.pixel_classification.forest import Forest
from tasks.pixel_classification.project import Project
from tasks.prediction import compile_engine
from tasks.threshold import load_smoothing


def compile_ahead(tell: Callable[[str], None]) -> None:
    """Compile the prediction and what makes objects, for this processor; nothing that is there already.

    Other steps have little code, and compile it when they are used for the first time.

    Args:
        tell: takes lines for people, before and after each part.
    """
    folder = cache_folder(Path(__file__).parent / "pixel_classification").parent
    for what, takes, make in (
        ("the prediction", "half a minute", _prediction),
        ("what smooths and labels objects", "a few seconds", _objects),
    ):
        tell(f"machine code of {what}, for this processor, in {folder}: {takes} where there is none yet ...")
        before, start = Compiled.made, time.monotonic()
        make()
        made = Compiled.made - before
        tell(f"  {f'compiled in {time.monotonic() - start:.0f} s' if made else 'is there'}")


def _prediction() -> None:
    engine = make_engine("fast", _smallest_project())
    compile_engine(engine, engine.halo, 1, "uint8")


def _objects() -> None:
    load_smoothing(("uint8", "float32"), (1.0, 1.0, 1.0))
    load_labelling()
    load_joining()


def _smallest_project() -> Project:
    """A project of one feature and one tree with one test: the code is the same for all projects."""
    forest = Forest(
        roots=np.zeros(1, np.int32),
        feature=np.array([0, -1, -1], np.int32),
        threshold=np.array([0.5, 0, 0], np.float32),
        left=np.array([1, 1, 2], np.int32),
        right=np.array([2, 1, 2], np.int32),
        leaf=np.array([[0, 0], [1, 0], [0, 1]], np.float32),
        sizes=(1,),
        n_features=1,
        classes=(0, 1),
    )
    features, labels = (Feature("GaussianSmoothing", 1.0, False),), np.empty((0, 6), np.int64)
    return Project("", "", ("a", "b"), "zyxc", 1, features, forest, (), labels)
