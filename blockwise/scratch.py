"""Folders of this machine for what does not stay: nobody else may change them, where anybody may make one."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from blockwise.errors import UserError
from blockwise.identity import digest


def scratch_path(what: str, parent: str | None = None) -> Path:
    """Path of this user's folder for something, the same for all processes of this machine.

    Args:
        what: it is for.
        parent: folder in which it lies; None for that of temporary files.
    """
    return Path(parent or tempfile.gettempdir()) / f"blockwise-{os.getuid()}-{digest(what)[:12]}"


def own_folder(path: Path) -> Path:
    """Make a folder that nobody else may change, where anybody may make one of this name.

    Raises:
        UserError: something of another user, or a link, lies there.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: f"a folder of user {found.st_uid}"}
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFDIR or found.st_uid != os.getuid():
        raise UserError(
            f"{path}: is {kinds.get(kind, 'a file')}, not a folder of this user; it is left alone. Have it removed, "
            "and run the same command again"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path
