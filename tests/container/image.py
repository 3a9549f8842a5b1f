"""The pipeline's image, built without a registry of images: its base is unpacked from Debian's packages."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("CONTAINER_CACHE") or "~/.cache/blockwise-ilastik-container").expanduser()
"""Base, wheels and images are kept here; it may be removed at any time."""

MIRROR = "http://deb.debian.org/debian"
BOOKWORM_PYTHON = (3, 11)
NAME = "localhost/blockwise-ilastik"
PARTS = ("Containerfile", "pyproject.toml", "setup.py", "README.md", "blockwise", "pipeline", "tasks")
LIMIT_S = 3600


def missing() -> str:
    """Why no image can be built here; empty where it can."""
    needed = ["buildah"] if os.environ.get("BASE") else ["buildah", "debootstrap"]
    absent = [name for name in needed if shutil.which(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed: apt-get install --no-install-recommends buildah debootstrap"
    if os.geteuid() != 0:
        return "needs root"
    if not os.environ.get("BASE") and sys.version_info[:2] != BOOKWORM_PYTHON:
        return "Debian's Python needs wheels for 3.11: run the tests with that, or set BASE to another image"
    return ""


def build_image(folder: Path) -> str:
    """Build the image from the working tree, in ``folder``; its name."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
        copy(ROOT / part, folder / part)
    base = os.environ.get("BASE") or _base()
    if not os.environ.get("BASE"):
        shutil.copytree(_wheels(), folder / "wheels")
    buildah(
        "bud", "--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={base}", "-t", NAME, str(folder)
    )
    return NAME


class WorkingContainer:
    """A container from an image, in which commands are run one after the other."""

    def __init__(self, image: str) -> None:
        self.id = buildah("from", image)

    def command(self, command: list[str], variables: Mapping[str, str], folder: Path) -> list[str]:
        """The command that runs another one in the container, which sees nothing of this machine but a folder."""
        told = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
        options = ["--isolation", "chroot", "--network", "host", "-v", f"{folder}:{folder}", *told]
        return [*_buildah(), "run", *options, self.id, "--", *command]

    def remove(self) -> None:
        buildah("rm", self.id)


def buildah(*arguments: str) -> str:
    """Run buildah; the last line of what it says."""
    done = subprocess.run([*_buildah(), *arguments], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return (done.stdout.splitlines() or [""])[-1]


def _buildah() -> list[str]:
    return ["buildah", "--storage-driver", "vfs", "--root", str(CACHE / "images"), "--runroot", str(CACHE / "run")]


def _base() -> str:
    """An image of Debian with Python; made once."""
    name = "localhost/debian-python:bookworm"
    if name in buildah("images", "--format", "{{.Name}}:{{.Tag}}", "--filter", f"reference={name}"):
        return name
    root = CACHE / "root"
    if not (root / "usr" / "bin" / "python3").exists():
        packages = "python3,python3-venv,ca-certificates"
        new = CACHE / "root.new"
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(new), MIRROR]
        shutil.rmtree(new, ignore_errors=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT_S)
        new.rename(root)
    container = buildah("from", "scratch")
    buildah("copy", "--quiet", container, str(root), "/")
    buildah("commit", "--rm", "--quiet", container, name)
    return name


def _wheels() -> Path:
    """Wheels of all that is installed into the image; fetched once for each state of the list."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:12]
    folder = CACHE / f"wheels-{digest}"
    if not folder.exists():
        new = CACHE / "wheels.new"
        shutil.rmtree(new, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(new)]
        subprocess.run([*command, f"{ROOT}[aws,codecs]", "setuptools>=68"], check=True, timeout=LIMIT_S)
        for own in new.glob("blockwise_ilastik*.whl"):
            own.unlink()
        new.rename(folder)
    return folder
