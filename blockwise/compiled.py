"""The one way in which loops are compiled here."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
Integer = int | np.integer[Any]


@functools.cache
def cache_folder(room: Path) -> Path:
    """Folder of the code that is compiled from one room, for each kind of processor and each state of its source.

    Cluster nodes of different kinds often share a home folder. numba tells their code apart within one index file,
    but numbers the code files of the index without a lock, so two kinds that compile at once could swap theirs. And
    numba compiles a function anew when its own file has changed, not when a function that it calls has: so functions
    call others of their own room only.

    Args:
        room: folder below ``tasks`` with all source files that the compiled functions may call.
    """
    digest = hashlib.sha256(llvmlite.binding.get_host_cpu_features().flatten().encode())
    for path in sorted(room.rglob("*.py")):
        digest.update(path.read_bytes())
    name = f"{numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name()}-{digest.hexdigest()[:12]}"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(os.environ.get("NUMBA_CACHE_DIR") or Path(home) / "blockwise-ilastik") / name


@contextlib.contextmanager
def compiling_once(room: Path, what: str) -> Iterator[None]:
    """Let one process of this machine compile something for the first time; the others wait and read what it wrote.

    Otherwise each worker of a first run compiles the same. Where nothing can be kept, nobody waits.

    Args:
        room: folder with the source of all that is compiled.
        what: names the functions and their types.
    """
    folder = cache_folder(room)
    done = folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', what)}.done"
    if done.exists():
        yield
        return
    with contextlib.ExitStack() as alone:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                alone.enter_context(_lock(done))
        if done.exists():  # another process has compiled meanwhile: those that have waited all read at once
            alone.close()
        yield
        with contextlib.suppress(OSError):
            done.touch()


@contextlib.contextmanager
def _lock(done: Path) -> Iterator[None]:
    """A lock among this user's processes on this machine: its file is in no home folder, which may know no locks."""
    name = f"blockwise-ilastik-{os.getuid()}-{hashlib.sha256(str(done).encode()).hexdigest()[:16]}.lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(os.path.join(tempfile.gettempdir(), name), flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _room(function: Callable[..., Any]) -> Path:
    """The folder, right below the package, that a function's file lies in."""
    packages = function.__module__.split(".")
    return Path(function.__code__.co_filename).parents[max(0, len(packages) - 3)]


def _jit(function: Function, **options: bool) -> Function:
    before = numba.config.CACHE_DIR
    # Read when a function is declared; other packages keep theirs.
    numba.config.CACHE_DIR = str(cache_folder(_room(function)))
    compile_as = functools.partial(numba.njit, nogil=True, error_model="numpy", **options)
    try:
        return cast(Function, compile_as(cache=True)(function))
    except RuntimeError:  # neither that folder nor those that numba tries next can be written
        return cast(Function, compile_as()(function))
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
