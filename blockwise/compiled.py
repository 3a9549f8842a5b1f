"""The one way in which loops are compiled here."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

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
    import llvmlite.binding
    import numba

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


_declaring = threading.RLock()


class Compiled:
    """A function that is compiled, or read from disk, when it is called for the first time.

    The compiler is loaded then: it takes longer to load than most processes run, and most call nothing of this kind.

    Attributes:
        function: in Python.
        keeps: whether its machine code is kept on disk.
        options: for the compiler.
    """

    def __init__(self, function: Callable[..., Any], keeps: bool = True, **options: bool) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.keeps = keeps
        self.options = options

    def __call__(self, *arguments: Any) -> Any:
        """Call the machine code."""
        return self.machine_code(*arguments)

    @cached_property
    def machine_code(self) -> Any:
        """What the compiler makes; it stands for the function in its module from then on."""
        with _declaring:  # by one thread at a time: the folder for its code is a setting of the whole process
            return self._declared()

    def _declared(self) -> Any:
        known = self.function.__globals__
        for name in self.function.__code__.co_names:
            if isinstance(called := known.get(name), Compiled):
                known[name] = called.machine_code  # the compiler knows no functions but its own
        made = self._made()
        name = self.function.__name__
        if known.get(name) is self:
            known[name] = made
        return made

    def _made(self) -> Any:
        import numba

        compile_as = functools.partial(numba.njit, nogil=True, error_model="numpy", **self.options)
        if not self.keeps:
            return compile_as(self.function)
        before = numba.config.CACHE_DIR
        # Read when a function is declared; other packages keep theirs.
        numba.config.CACHE_DIR = str(cache_folder(_room(self.function)))
        try:
            return _reading_alone(compile_as(cache=True)(self.function))
        except RuntimeError:  # neither that folder nor those that numba tries next can be written
            return compile_as()(self.function)
        finally:
            numba.config.CACHE_DIR = before


def _reading_alone(dispatcher: Any) -> Any:
    """Have a function's kept code read without all that numba loads to compile: two thirds of what reading it takes.

    numba makes itself ready to compile before it looks whether there is anything to compile. Machine code that is
    read needs its allocator alone; where nothing is kept, numba makes itself ready once more before it compiles. The
    code is the same, byte for byte.
    """
    try:
        from numba.core.caching import FunctionCache
        from numba.core.runtime import rtsys

        read = FunctionCache._load_overload
    except (ImportError, AttributeError):  # of a version that keeps this elsewhere: it is no interface for others
        return dispatcher

    class Kept(FunctionCache):
        def load_overload(self, sig: Any, target_context: Any) -> Any:
            rtsys.initialize(target_context)
            return read(self, sig, target_context)

    dispatcher._cache = Kept(dispatcher.py_func)
    return dispatcher


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers to machine code, kept on disk between processes.

    Neither `fastmath` nor threads: each operation is rounded as IEEE 754 says, multiplications and additions are
    never fused, and vectorised code equals scalar code. So a result depends neither on where a voxel lies in its
    block nor on the processor that computes it. Division by zero gives inf or nan.

    Call a function with one set of types only: processes that compile at once then write the same code.
    """
    return cast(Function, Compiled(function))


@compiled
def _nothing() -> int:
    return 0


def load_compiler() -> None:
    """Do what the first call of any compiled function in a process does beside reading it: it takes a second.

    For ``prepare`` of steps whose blocks call such functions: that second is no block's.
    """
    _nothing()


def inlined(function: Function) -> Function:
    """Compile a short function so that it becomes part of its caller's loop and is vectorised with it."""
    return cast(Function, Compiled(function, forceinline=True))


def part_of_compiled(function: Function) -> Function:
    """Compile a function, of whatever types, with those that call it; its code is kept with theirs."""
    return cast(Function, Compiled(function, keeps=False))
