"""Mutated files given to what reads them, by seeds; run as a process of its own.

python -m tests.faults.mutations READER ... --first 0 --count 100

Each input is a sound sample with some damage, looked at as ``plan`` does. A line tells what came of each. Inputs are
looked at by children of this process, each of which takes ``LIFE`` of them. A child that has died, or hangs where no
signal reaches it, is an outcome of the input it had, and another one goes on behind it. Memory is bounded by the
system, time by a signal.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np

from blockwise.errors import UserError
from blockwise.volume import DamagedDataError
from tests.faults.damage import damaged
from tests.faults.samples import READERS, Read

LIMIT_S = 10
"""Longest time of a processor for one input."""
SILENCE_S = 120
"""Longest time for one input, whoever else is at work on the machine."""
MEMORY = 1 << 30
"""Bytes that looking at one input may take beside what the process holds anyhow."""
LIFE = 500
"""Inputs that one child looks at: what libraries keep of them is bounded."""


class TooLongError(BaseException):
    """No Exception: nobody who reads catches it."""


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TooLongError("".join(traceback.format_stack(frame)[-4:]))


@contextlib.contextmanager
def limited_time() -> Iterator[None]:
    """A signal ends what is written in Python; what is not, or waits, ends with the process."""
    faulthandler.dump_traceback_later(SILENCE_S, exit=True)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()


def outcome(read: Read, address: str) -> tuple[str, str]:
    """What came of an input: ``read``, ``refused``, or ``fault`` with what is wrong."""
    try:
        with limited_time():
            read(address)
    except (UserError, DamagedDataError) as error:
        text = str(error)
        if any(ord(sign) < 32 and sign not in "\n\t" for sign in text):
            return "fault", f"a message with control characters: {text!r}"
        return "refused", ""
    except BaseException as error:  # whatever it is
        return "fault", "".join(traceback.format_exception(error)[-6:])[-3000:]
    return "read", ""


def limit_memory() -> None:
    """Bound what is written to from here on.

    Addresses are not bounded: each of TensorStore's threads, which it starts when it likes, reserves a stack and an
    arena of 64 MB, and where there are no addresses left for one, the process ends with ``std::system_error``.

    Raises:
        RuntimeError: the system does not bound it.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    used = int(status["VmData"].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, resource.RLIM_INFINITY))
    with contextlib.suppress(MemoryError):
        bytearray(2 * MEMORY)
        raise RuntimeError("the system does not bound the memory of a process (RLIMIT_DATA)")


def look_at(reader: str, seeds: range, place: Path, kept: Path) -> None:
    """Look at mutated inputs of one reader, in a process of its own; a line after each."""
    write, read = READERS[reader]
    folder = place / "sound"
    folder.mkdir()
    address = write(folder)
    read(address)  # loads the libraries
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    digest = _digest(folder, files)
    limit_memory()
    for seed in seeds:
        target = place / f"seed{seed}"  # no library remembers it
        folder = folder.rename(target)
        with damaged(folder, files, np.random.default_rng(seed)):
            kind, text = outcome(read, address.replace(f"{place}/sound", str(target)))
            if kind == "fault":
                text += (
                    f"\nThe input is kept in {shutil.copytree(target, kept / f'{reader}-seed{seed}', symlinks=True)}."
                )
        print(json.dumps({"reader": reader, "seed": seed, "outcome": kind, "text": text}), flush=True)
    if _digest(folder, files) != digest:
        raise RuntimeError(f"{reader} has written to what it reads")


def _keep(folder: Path, kept: Path, reader: str) -> Path:
    return Path(shutil.copytree(folder, kept / f"{reader}-{folder.name}", symlinks=True))


def _digest(folder: Path, files: list[Path]) -> str:
    return hashlib.sha256(b"".join((folder / file).read_bytes() for file in files)).hexdigest()


def _live(reader: str, seeds: range, place: Path, kept: Path) -> NoReturn:
    """What a child does; it leaves nothing to what its parent would do at its end."""
    with (place / "stderr").open("w") as log:
        os.dup2(log.fileno(), 2)
    faulthandler.enable()
    code = 1
    try:
        look_at(reader, seeds, place, kept)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def look_at_all(reader: str, seeds: range, kept: Path) -> None:
    """Have children look at mutated inputs of one reader, whatever becomes of them."""
    while seeds:
        with tempfile.TemporaryDirectory(dir=_memory_folder()) as name:
            place = Path(name)
            child = os.fork()
            if child == 0:
                _live(reader, seeds[:LIFE], place, kept)
            _, status = os.waitpid(child, 0)
            if status == 0:
                seeds = seeds[LIFE:]
                continue
            seed, text = _death(reader, place, kept, os.waitstatus_to_exitcode(status))
            print(json.dumps({"reader": reader, "seed": seed, "outcome": "died", "text": text}), flush=True)
            seeds = range(seed + 1, seeds.stop)


def _death(reader: str, place: Path, kept: Path, code: int) -> tuple[int, str]:
    """The seed of the input that a child has died of, and what is known of it."""
    last_words = (place / "stderr").read_text(errors="replace")[-4000:]
    inputs = sorted(place.glob("seed*"))
    if not inputs:
        raise RuntimeError(f"{reader}: the sound sample was not read: {last_words}")
    text = f"the process has ended with {code}; its input is kept in {_keep(inputs[0], kept, reader)}: {last_words}"
    return int(inputs[0].name.removeprefix("seed")), text


def _memory_folder() -> str | None:
    """Where files cost no disk, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> None:
    """Look at mutated inputs of readers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("readers", nargs="+", choices=READERS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="folder for inputs that show a fault (default: a new one)")
    options = parser.parse_args()
    kept = options.keep or Path(tempfile.mkdtemp(prefix="mutations-"))
    signal.signal(signal.SIGPROF, _too_long)
    logging.getLogger().addHandler(logging.NullHandler())  # libraries have much to say of damage
    for reader in options.readers:
        look_at_all(reader, range(options.first, options.first + options.count), kept)


if __name__ == "__main__":
    main()
