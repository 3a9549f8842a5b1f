"""The one way in which loops are compiled here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
Integer = int | np.integer[Any]


def _cache_folder() -> Path:
    """Folder of the compiled code, one for each kind of processor.

    Cluster nodes of different kinds often share a home folder. numba tells their code apart within one index file,
    but numbers the code files of the index without a lock, so two kinds that compile at once could swap theirs.
    """
    features = llvmlite.binding.get_host_cpu_features().flatten()
    kind = f"{llvmlite.binding.get_host_cpu_name()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen) / kind
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "blockwise-ilastik" / kind


CACHE_FOLDER = _cache_folder()


def _jit(function: Function, **options: bool) -> Function:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(CACHE_FOLDER)  # read when a function is declared; other packages keep theirs
    try:
        return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function))
    finally:
        numba.config.CACHE_DIR = before


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers to machine code, kept on disk between processes.

    Neither `fastmath` nor threads: each operation is rounded as IEEE 754 says, multiplications and additions are
    never fused, and vectorised code equals scalar code. So a result depends neither on where a voxel lies in its
    block nor on the processor that computes it. Division by zero gives inf or nan.

    Call a function with one set of types only: processes that compile at once then write the same code.
    """
    return _jit(function)


def inlined(function: Function) -> Function:
    """Compile a short function so that it becomes part of its caller's loop and is vectorised with it."""
    return _jit(function, forceinline=True)
