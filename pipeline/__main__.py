"""``blockwise-ilastik``, or ``python -m pipeline``: look at a run without running it, compare results, tidy up."""

from __future__ import annotations

import argparse
import functools
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NoReturn

from rich.console import Console

from blockwise.backends.executor import Executor
from blockwise.backends.registry import make_executor
from blockwise.demand import BlockFailedError
from blockwise.errors import UserError
from blockwise.not_finite import noted_of
from pipeline.assembly.stacks.placed import StackOnly
from pipeline.assembly.stacks.unaligned import finished_steps, steps_so_far
from pipeline.assembly.steps import Steps, build_steps, default_config
from pipeline.batch import commands as batch_commands
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import load_batch
from pipeline.configuration.paths import expand_path
from pipeline.configuration.settings import Settings, is_of_batch, load_settings, read_values
from pipeline.exporting.results import EXPORTED, export_result, ingest_with_progress
from pipeline.exporting.transforms import export_transforms
from pipeline.inspecting import volume_commands
from pipeline.inspecting.cleaning import find_ours, remove
from pipeline.inspecting.live_stores import live_folders
from pipeline.inspecting.runs import Run
from pipeline.inspecting.verification import check
from pipeline.running.lock import WorkDirBusyError

WIDTH_OF_FILES = 160

EXIT_DIFFERENT = 1
EXIT_BUSY = 10
EXIT_FAILED_BLOCKS = 30
EXIT_WRONG = 40
EXIT_DAMAGED = 50
EXIT_INTERRUPTED = 130
"""Each means one thing; those that runs have as well mean the same there. The table stands in README.md."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BUSY if isinstance(error, WorkDirBusyError) else EXIT_WRONG
    except BrokenPipeError:
        return 0
    return code


def command() -> int:
    """Run the command that stands on the command line; a mistake in the program is shown with its traceback."""
    try:
        return main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception:
        traceback.print_exc()
        return EXIT_WRONG


class _Parser(argparse.ArgumentParser):
    """A parser that ends with the code for what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and how it is used."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_WRONG, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="blockwise-ilastik",
        description="Looks at a run without running it. Runs are started with: "
        "luigi --module pipeline ConnectedComponentsWorkflow --local-scheduler",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("plan", _plan, "what a run would do: blocks, bytes, memory, time; nothing is run, but for --probe"),
        (
            "status",
            _status,
            "what is done, failed and missing, from the markers alone; jobs of a cluster, if there are any",
        ),
        ("verify", _verify, "read every finished block back; what is damaged is computed again by the next run"),
        ("clean", _clean, "remove results and work files that carry our fingerprints"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", default=None, metavar="FILE", help="default: as luigi.cfg says")
        command.add_argument("--manifest", default=None, metavar="FILE", help="table of images, .csv or .yaml")
        command.set_defaults(run=run)
        if name == "clean":
            command.add_argument("--yes", action="store_true", help="do not ask")
        if name == "plan":
            command.add_argument(
                "--probe", nargs="?", type=_positive, const=0, default=None, metavar="N",
                help="compute N blocks first (default: two for each worker), to say how long a run takes; they stay",
            )  # fmt: skip
    validate = commands.add_parser(
        "validate", help="compare two label volumes", description="compare two label volumes"
    )
    validate.add_argument("a", metavar="A", help="truth, as path.n5:key")
    validate.add_argument("b", metavar="B", help="the other one")
    validate.set_defaults(run=_validate)
    _add_export(commands)
    _add_ingest(commands)
    _add_view(commands)
    _add_transforms(commands)
    text = "compile what runs need, for this machine's processor, so that the first run need not"
    commands.add_parser("compile", help=text, description=text).set_defaults(run=_compile)
    return parser


def _add_export(commands: Any) -> None:
    text = "write a result as TIFF, TIFF sequence, HDF5, OME-Zarr or N5, as the name's ending tells"
    command = commands.add_parser(
        "export",
        help=text,
        description=text,
        epilog="{nickname}, {dataset}, {t} and {z} in TARGET are replaced; with {t} there is one file a time step, "
        "with {z} (TIFF) one a slice. Example: export labels 'out/{nickname}_{dataset}.tif' --dtype uint16",
    )
    command.add_argument("what", metavar="WHAT", choices=EXPORTED, help=", ".join(EXPORTED))
    command.add_argument("target", metavar="TARGET", help="name.tif, name.h5:key, name.n5:key, name.ome.zarr ...")
    command.add_argument("--config", default=None, metavar="FILE", help="default: as luigi.cfg says")
    command.add_argument(
        "--threshold", default=None, metavar="NAME", help="mask, labels, cores: where there are several"
    )
    command.add_argument("--dtype", default=None, help="refused where values do not fit; default: as stored")
    command.add_argument(
        "--range", dest="scale", nargs=2, type=float, metavar=("LOW", "HIGH"), default=None,
        help="values that become the smallest and largest of an integer dtype; probabilities: 0 1",
    )  # fmt: skip
    command.add_argument(
        "--axes", default=None, help=".h5, .n5, .zarr: order of the axes, such as zyxc, which is ilastik's own"
    )
    command.add_argument("--compress", action="store_true", help="deflate the pages of TIFF files")
    command.add_argument(
        "--scales", type=_scales, default=1, metavar="N",
        help=".ome.zarr: number of scales, each half as fine; auto: until y and x are 256 at most; default: 1",
    )  # fmt: skip
    command.set_defaults(run=_export)


def _scales(text: str) -> int | None:
    """Number of scales; None for as many as it takes."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 1, or auto")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 1")
    return int(text)


def _add_ingest(commands: Any) -> None:
    text = "copy a volume without chunks (TIFF, stack, HDF5) into N5 or Zarr, once; axes and voxel sizes go along"
    command = commands.add_parser("ingest", help=text, description=text)
    command.add_argument("source", metavar="SOURCE", help="such as 'stack/*.png' or a.tif")
    command.add_argument("target", metavar="TARGET", help="such as copy.n5:raw")
    command.add_argument("--axes", default=None, help="names of the axes, where the source does not tell or is wrong")
    command.add_argument("--chunks", nargs="+", type=int, metavar="N", default=None, help="default: 64 along z, y, x")
    command.set_defaults(run=_ingest)


def _add_view(commands: Any) -> None:
    text = "look at a run in a browser: raw volume, classes, mask, objects"
    command = commands.add_parser("view", help=text, description=f"{text}. Prints one address, and opens it.")
    command.add_argument("--config", default=None, metavar="FILE", help="default: as luigi.cfg says")
    command.add_argument("--manifest", default=None, metavar="FILE", help="table of images, .csv or .yaml")
    command.add_argument("--host", default="127.0.0.1", help="address of this machine; default: 127.0.0.1")
    command.add_argument("--port", type=int, default=0, metavar="N", help="default: any that is free")
    command.add_argument(
        "--once", nargs=2, metavar=("ROI", "OUT"), default=None,
        help="write a box, such as thresholded:0:64,0:64,0:64, into OUT (.npy, .png, .tif, .h5), and leave",
    )  # fmt: skip
    command.add_argument("--no-compute", action="store_true", help="show what is there, and compute nothing")
    command.add_argument("--no-browser", action="store_true", help="open no browser, even where there is a display")
    command.add_argument("--cors", action="store_true", help="let pages of other servers read, who know the address")
    command.set_defaults(run=_view)


def _add_transforms(commands: Any) -> None:
    text = "write where slices were found to lie: .csv (z and six numbers), .json (tile specifications of render)"
    command = commands.add_parser("transforms", help=text, description=text)
    command.add_argument("target", metavar="TARGET", help="such as transforms.csv or tiles.json")
    command.add_argument("--config", default=None, metavar="FILE", help="default: as luigi.cfg says")
    command.set_defaults(run=_transforms)


def _transforms(options: argparse.Namespace) -> int:
    settings = load_settings(options.config or default_config())
    print(export_transforms(settings, expand_path(options.target)))
    return 0


def _batch(options: argparse.Namespace) -> BatchImages | None:
    """The images that are meant; None where the configuration is of one volume."""
    config = options.config or default_config()
    if options.manifest or is_of_batch(read_values(config)):
        return BatchImages(load_batch(config, options.manifest))
    return None


def _volume(options: argparse.Namespace) -> tuple[Settings, Steps | StackOnly]:
    settings = load_settings(options.config or default_config())
    return settings, steps_so_far(settings)


def _export(options: argparse.Namespace) -> int:
    steps = build_steps(load_settings(options.config or default_config()))
    target = expand_path(options.target)
    scale = tuple(options.scale) if options.scale else None
    for name in export_result(
        steps,
        options.what,
        target,
        threshold=options.threshold,
        dtype=options.dtype,
        scale=scale,
        compress=options.compress,
        scales=options.scales,
        axes=options.axes,
    ):
        print(name)
    return 0


def _ingest(options: argparse.Namespace) -> int:
    copy = ingest_with_progress(
        expand_path(options.source), expand_path(options.target), options.axes, options.chunks
    )
    print(f"{copy.address}: axes {copy.axes or 'unknown'}, shape {copy.shape}, {copy.dtype}, chunks {copy.chunks}")
    if odd := noted_of(copy.attributes, copy.axes or ""):
        print(f"warning: {copy.address}: {odd}")
    return 0


def _view(options: argparse.Namespace) -> int:
    from pipeline.viewing.aside import steps_aside
    from pipeline.viewing.command import Wishes, compute_once, view  # slow to load
    from pipeline.viewing.live.stores import Stores
    from pipeline.viewing.site import Site

    wishes = Wishes(options.host, options.port, browser=not options.no_browser, cors=options.cors)
    images = _batch(options)
    if images is not None:
        from pipeline.batch.gallery import gallery_of

        if options.once:
            raise UserError("view --once: the configuration is of many files; give one of one volume")
        config, backend = options.config or default_config(), images.shared.backend
        view(gallery_of(images, config, _executor(images.shared, options), backend.max_attempts), wishes)
        return 0
    settings = load_settings(options.config or default_config())
    steps = finished_steps(settings)
    if isinstance(steps, StackOnly):  # of a stack nothing is computed where one looks
        site = Site.of(steps)
    else:
        if not options.no_compute:
            steps, notes = steps_aside(settings, steps)
            print(*notes, sep="\n", end="\n" * bool(notes), file=sys.stderr)
        stores = Stores(settings, options.config or default_config(), steps)
        site = Site.of(steps, _executor(settings, options), settings.backend.max_attempts, stores)
    if options.once:
        print(compute_once(site, *options.once))
    else:
        view(site, wishes)
    return 0


def _executor(settings: Settings, options: argparse.Namespace) -> Executor | None:
    """What computes single blocks for a viewer; None where it is to compute nothing."""
    if options.no_compute:
        return None
    found = make_executor(settings.backend.name, settings.backend.setups())
    if found is None:
        print(
            f"backend {settings.backend.name} has no workers for single blocks: what is there is shown, and nothing "
            "is computed; set backend.name: local to compute here",
            file=sys.stderr,
        )
    return found


def _plan(options: argparse.Namespace) -> int:
    images = _batch(options)
    if images is not None:
        if options.probe is not None:
            raise UserError("plan --probe: the configuration is of many files; give one of one volume")
        batch_commands.plan(images)
        return 0
    settings, steps = _volume(options)
    if options.probe is not None:
        try:
            volume_commands.compute_a_few(settings, steps, options.probe, _console())
        except BlockFailedError as error:
            print(f"error: plan --probe: {error} [log: {error.log}]", file=sys.stderr)
            return EXIT_FAILED_BLOCKS
    volume_commands.plan(settings, steps, _console())
    return 0


def _status(options: argparse.Namespace) -> int:
    images = _batch(options)
    if images is not None:
        is_well = batch_commands.status(images, _console())
    else:
        is_well = volume_commands.status(_volume(options)[1], _console())
    return 0 if is_well else EXIT_FAILED_BLOCKS


def _verify(options: argparse.Namespace) -> int:
    images = _batch(options)
    if images is not None:
        damaged = check(images.runs(), images.shared)
    else:
        settings, steps = _volume(options)
        damaged = check([Run("", steps.begun())], settings)
    if damaged:
        print(f"the next run computes the damaged {'blocks' if images is None else 'images and blocks'} again")
    return EXIT_DAMAGED if damaged else 0


def _compile(options: argparse.Namespace) -> int:
    from tasks.compiling import compile_ahead

    compile_ahead(functools.partial(print, flush=True))
    return 0


def _console() -> Console:
    """A console that cuts no number off where the output goes into a file or a pipe, which rich takes for narrow."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


def _validate(options: argparse.Namespace) -> int:
    from pipeline.inspecting.agreement import compare  # slow to load

    agreement = compare(expand_path(options.a), expand_path(options.b))
    width = max(map(len, asdict(agreement)))
    for name, value in asdict(agreement).items():
        shown = f"{value:.6f}" if isinstance(value, float) else f"{value:,}" if not isinstance(value, bool) else value
        print(f"{name.replace('_', ' '):<{width}}  {shown}")
    verdict = "equal" if not agreement.differing_voxels else (
        "equal up to renumbering" if agreement.same_partition else "different"
    )  # fmt: skip
    print(f"A and B are {verdict}")
    return 0 if agreement.same_partition else EXIT_DIFFERENT


def _clean(options: argparse.Namespace) -> int:
    images = _batch(options)
    if images is not None:
        found, removal = batch_commands.found_and_removal(images)
    else:
        settings, steps = _volume(options)
        found = find_ours(settings, steps)
        removal = functools.partial(remove, settings, steps.everything(), found, live_folders(settings.work_dir))
    if not found:
        print("nothing to remove")
        return 0
    for item in found:
        print(item)
    if not options.yes:
        if not sys.stdin.isatty():
            raise UserError("clean asks before it removes; without a terminal, give --yes")
        if input(f"remove these {len(found):,}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return 0
    removal()
    print(f"removed {len(found):,}")
    return 0


if __name__ == "__main__":
    sys.exit(command())
