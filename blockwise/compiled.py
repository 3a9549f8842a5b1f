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
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from blockwise import machine_code
from blockwise.errors import UserError
from blockwise.files import replacing

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
    import llvmlite

    processor, features = machine_code.processor()
    digest = hashlib.sha256(f"{machine_code.FORMAT} {llvmlite.__version__} {features}".encode())
    for path in sorted(room.rglob("*.py")):
        digest.update(path.read_bytes())
    name = f"{processor}-{digest.hexdigest()[:12]}"
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
    """A function that is compiled, or read from disk, when it is called for the first time with values of some types.

    What is read needs no compiler, which takes longer to load than most processes run. See ``machine_code``.

    Attributes:
        function: in Python.
        keeps: whether its machine code is kept on disk.
        options: for the compiler.
        found: machine code, for the types of values that it was called with.
        made: how many pieces of machine code this process has compiled, of all functions.
    """

    made: ClassVar[int] = 0

    def __init__(self, function: Callable[..., Any], keeps: bool = True, **options: bool) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.keeps = keeps
        self.options = options
        self.found: dict[str, machine_code.MachineCode | None] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Call the machine code.

        Raises:
            RuntimeError: it has ended with an error that did not come again.
        """
        try:
            types = machine_code.kinds(arguments)
        except machine_code.UnsupportedError:
            return self.by_compiler(*arguments)
        if types not in self.found:
            with _declaring:  # by one thread at a time: the folder for its code is a setting of the whole process
                if types not in self.found:
                    self.found[types] = self._found(types, arguments)
        code = self.found[types]
        if code is None:
            return self.by_compiler(*arguments)
        is_good, result = code(arguments)
        if is_good:
            return result
        self.by_compiler(*arguments)  # says what is wrong
        # Memory may be there again. What the first call has changed was changed once more.
        raise RuntimeError(
            f"{self.function.__module__}.{self.function.__qualname__} has ended with an error, most likely for want "
            "of memory, and without one when it was asked again: what it has written cannot be trusted"
        )

    def _path(self, types: str) -> Path:
        name = f"{self.function.__module__}.{self.function.__qualname__}"
        return cache_folder(_room(self.function)) / f"{name}-{hashlib.sha256(types.encode()).hexdigest()[:12]}.code"

    def _found(self, types: str, arguments: tuple[Any, ...]) -> machine_code.MachineCode | None:
        """Machine code that was kept, or is compiled; None where only the compiler can call what it makes."""
        path = self._path(types)
        with contextlib.suppress(OSError):
            code = path.read_bytes()
            if code == machine_code.REFUSED or (kept := machine_code.load(code)) is not None:
                return None if code == machine_code.REFUSED else kept
        name = "f" + hashlib.sha256(path.name.encode()).hexdigest()
        Compiled.made += 1
        try:
            code = machine_code.make(self._made(is_kept=False), arguments, name)
        except machine_code.UnsupportedError:
            code = machine_code.REFUSED
        with contextlib.suppress(OSError, UserError), replacing(path) as temporary:
            temporary.write_bytes(code)
        return None if code == machine_code.REFUSED else machine_code.load(code)

    @cached_property
    def by_compiler(self) -> Any:
        """What the compiler makes, for all types, and for what it calls."""
        with _declaring:
            return self._made(self.keeps)

    def _made(self, is_kept: bool) -> Any:
        import numba

        self._give_callees()
        compile_as = functools.partial(numba.njit, nogil=True, error_model="numpy", **self.options)
        if not is_kept:
            return compile_as(self.function)
        before = numba.config.CACHE_DIR
        # Read when a function is declared; other packages keep theirs.
        numba.config.CACHE_DIR = str(cache_folder(_room(self.function)))
        try:
            return compile_as(cache=True)(self.function)
        except RuntimeError:  # neither that folder nor those that numba tries next can be written
            return compile_as()(self.function)
        finally:
            numba.config.CACHE_DIR = before

    def _give_callees(self) -> None:
        """Put what the compiler makes in the place of what the function calls: it knows no functions but its own."""
        known = self.function.__globals__
        for name in self.function.__code__.co_names:
            if isinstance(called := known.get(name), Compiled):
                known[name] = called.by_compiler


class Instruction(Compiled):
    """What becomes an instruction or two of those functions that call it, as the compiler's ``intrinsic`` has it."""

    def _made(self, is_kept: bool) -> Any:
        from numba.extending import intrinsic

        return intrinsic(self.function)


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers to machine code, kept on disk between processes.

    Neither `fastmath` nor threads: each operation is rounded as IEEE 754 says, multiplications and additions are
    never fused, and vectorised code equals scalar code. So a result depends neither on where a voxel lies in its
    block nor on the processor that computes it. Division by zero gives inf or nan.

    Call a function with one set of types only: processes that compile at once then write the same code.
    """
    return cast(Function, Compiled(function))


@compiled
def _nothing(number: int) -> int:
    return number  # a literal would have a type of its own, which only the compiler can give back


def load_linker() -> None:
    """Do what the first call of any compiled function in a process does beside reading it.

    For ``prepare`` of steps whose blocks call such functions: that tenth of a second is no block's.
    """
    _nothing(0)


def inlined(function: Function) -> Function:
    """Compile a short function so that it becomes part of its caller's loop and is vectorised with it."""
    return cast(Function, Compiled(function, forceinline=True))


def part_of_compiled(function: Function) -> Function:
    """Compile a function, of whatever types, with those that call it; its code is kept with theirs."""
    return cast(Function, Compiled(function, keeps=False))
