"""Files below a dataset that are absent, told from those that a link has led away."""

from __future__ import annotations

import os
import stat

from blockwise.errors import UserError
from blockwise.volume.address import Address


class FilesBelow:
    """The files of a dataset in a folder, looked at once each: very many chunks may be absent, as all are zeros."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._sound_folders: set[str] = set()

    def status_of(self, path: str) -> os.stat_result | None:
        """What the system says of a file; None where there is none.

        The file itself is asked first, not what it may lead to: one call for most files, be they there or not.

        Raises:
            UserError: it is absent because a link leads nowhere: absent chunks would be read as zeros.
        """
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            self._refuse_dangling_folders(path.rpartition("/")[0])
            return None
        if not stat.S_ISLNK(status.st_mode):
            return status
        try:
            return os.stat(path)
        except FileNotFoundError:
            raise self._dangling(path) from None

    def _refuse_dangling_folders(self, path: str) -> None:
        while len(path) > len(self._address.path) and path not in self._sound_folders:
            if os.path.isdir(path):
                self._sound_folders.add(path)
                return
            if os.path.islink(path):
                raise self._dangling(path)
            self._sound_folders.add(path)
            path = path.rpartition("/")[0]

    def _dangling(self, path: str) -> UserError:
        try:
            leads_to = os.readlink(path)
        except OSError:  # somebody has taken it away meanwhile
            leads_to = "something"
        return UserError(
            f"{self._address}: {path} is a link to {leads_to}, which is not there; is a disk not mounted, or data of "
            "git-annex not fetched?"
        )
