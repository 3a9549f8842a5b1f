"""The folder in memory that images are computed in has a name that anybody can know."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from blockwise.errors import UserError
from blockwise.scratch import own_folder


def test_it_is_for_this_user_alone(tmp_path: Path) -> None:
    for _ in range(2):
        assert stat.S_IMODE(own_folder(tmp_path / "new").stat().st_mode) == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o777)
    assert stat.S_IMODE(own_folder(tmp_path / "open").stat().st_mode) == 0o700


def test_what_others_have_put_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to("elsewhere")
    with pytest.raises(UserError, match=r"link: is a link, not a folder of this user"):
        own_folder(link)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        own_folder(tmp_path / "file")
    with pytest.raises(UserError, match="link"):
        own_folder(_dangling(tmp_path))
    if os.getuid() == 0:
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 12345, 12345)
        with pytest.raises(UserError, match="is a folder of user 12345"):
            own_folder(tmp_path / "theirs")


def _dangling(folder: Path) -> Path:
    path = folder / "dangling"
    path.symlink_to("nowhere")
    return path
