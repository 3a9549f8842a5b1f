"""The engine `ilastik`: an installed ilastik predicts, through its Python API, in a process of its own."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.step import BASE_MEMORY
from tasks.pixel_classification.engine import Interior, ReferenceEngine
from tasks.pixel_classification.features import StructureTensor
from tasks.pixel_classification.ilastik_api import API, check_filters, check_project, installed
from tasks.pixel_classification.project import Project
from tasks.project_file import ProjectFile

END_LIMIT_S = 10.0
"""How long to wait for ilastik's process to end when its connection is closed."""


class IlastikEngine(ReferenceEngine):
    """Predicts with ilastik itself. What a block needs around it and what it may hold is as in the reference engine.

    ilastik keeps threads and imports slowly, so it lives in one process, started with the first block.
    """

    def __init__(self, project: Project, structure_tensor: StructureTensor) -> None:
        super().__init__(project, structure_tensor)
        check_project(project)
        check_filters(structure_tensor)
        self._child: _Child | None = None

    @property
    def versions(self) -> tuple[tuple[str, str], ...]:
        """Of ilastik and the libraries that it computes with."""
        return installed().versions

    @property
    def fixed_memory(self) -> int:
        """Of ilastik's process."""
        return BASE_MEMORY

    def predict(self, image: NDArray[Any], interior: Interior) -> NDArray[np.float32]:
        """Predict a block; see ``Engine``."""
        is_3d = "z" in self.project.axes
        pixels = image if is_3d else image[0]
        found = self._answer((pixels, "zyxc" if is_3d else "yxc"))
        if isinstance(found, str):
            raise RuntimeError(f"ilastik has failed:\n{found}")
        return np.ascontiguousarray(found[(slice(None), *interior)])

    def _answer(self, request: tuple[NDArray[Any], str]) -> Any:
        """What ilastik's process says to an image.

        Raises:
            RuntimeError: it has ended, killed or crashed; the next block gets a new one.
        """
        child = self._child or _Child(ProjectFile.at(self.project.path).here)
        self._child = child
        try:
            child.connection.send(request)
            return child.connection.recv()
        except (EOFError, OSError) as error:
            self._child = None
            how = child.end()
            raise RuntimeError(f"ilastik's process has ended ({how}); the next block gets a new one") from error


class _Child:
    """ilastik's process, and a connection to it."""

    def __init__(self, path: str) -> None:
        # Not forked: a copy of a process with threads may wait for them for ever.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(path, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def end(self) -> str:
        """End the process if it lives; how it has ended, for people."""
        self.connection.close()
        self._process.join(END_LIMIT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        code = self._process.exitcode or 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _serve(path: str, connection: Any) -> None:
    """In ilastik's process: answer images with probabilities, or with a traceback, until the other end is closed."""
    os.environ.setdefault("LAZYFLOW_THREADS", "1")  # there is one process for each worker
    predict = None
    while True:
        try:
            pixels, axes = connection.recv()
        except EOFError:
            return
        try:
            predict = predict or _load(path)
            connection.send(_predict(predict, pixels, axes))
        except Exception:
            connection.send(traceback.format_exc())


def _load(path: str) -> Callable[[Any], Any]:
    """The project's prediction, as this release of the API calls it."""
    api: Any = importlib.import_module(API)
    pipeline: Any = getattr(api, "PixelClassificationPipeline", None)
    loaded = pipeline.from_ilp_file(path) if hasattr(pipeline, "from_ilp_file") else api.from_project_file(path)
    predict: Callable[[Any], Any] = getattr(loaded, "get_probabilities", None) or loaded.predict
    return predict


def _predict(predict: Callable[[Any], Any], pixels: NDArray[Any], axes: str) -> NDArray[np.float32]:
    """Probabilities (classes, z, y, x) of an image."""
    xarray = importlib.import_module("xarray")
    found = predict(xarray.DataArray(np.ascontiguousarray(pixels), dims=tuple(axes)))
    found = found.isel({axis: 0 for axis in found.dims if axis not in "czyx"})
    missing = {axis: 1 for axis in "z" if axis not in found.dims}
    probabilities: NDArray[np.float32] = found.expand_dims(missing).transpose("c", "z", "y", "x").to_numpy()
    return probabilities.astype(np.float32, copy=False)
