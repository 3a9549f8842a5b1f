"""The page about an alignment, readable without a network: all pictures are in it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from tasks.alignment.features import Features
from tasks.alignment.slices import SliceFacts, judge
from tasks.alignment.transforms import Floats, rotation_angle
from tasks.alignment.warp import offsets
from tasks.stacks.alignment_step import AlignmentStep
from tasks.stacks.pairs_step import PairRecord
from tasks.stacks.report.measures import cuts, likeness_at, sampled
from tasks.stacks.report.pictures import cut_picture, line_picture, pair_picture
from tasks.stacks.tables import GOOD, LOST, damaged_slices

WORST = 10
DISTANCES = (1, 5)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ccc }
table { border-collapse: collapse } td, th { padding: .15em .9em .15em 0; text-align: left; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid #bbb } td.n { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100%; display: block } figcaption { color: #555; font-size: .9em; margin-bottom: 1em }
figure { margin: 1em 0 } .bad { color: #a00 }
"""


def report_page(alignment: AlignmentStep) -> str:
    """The page as HTML.

    Args:
        alignment: the step that has placed the slices; it, and what it reads, is finished.
    """
    facts = alignment.slices.all_facts()
    matrices, sizes = alignment.placed()
    pairs = [] if alignment.pairs is None else alignment.pairs.pairs()
    title = f"Alignment of {len(alignment.slices.numbers)} slices"
    parts = [f"<h1>{title}</h1>", _summary(alignment, facts, matrices, pairs), _red_list(facts, matrices, pairs)]
    parts.append(_shifts(matrices, sizes))
    if alignment.pairs is not None:
        parts += [_evidence(pairs, alignment.residuals()), *_looks(alignment, matrices, pairs)]
    body = "\n".join(filter(None, parts))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _summary(
    alignment: AlignmentStep,
    facts: Mapping[int, SliceFacts],
    matrices: Mapping[int, Floats],
    pairs: list[PairRecord],
) -> str:
    refused = sum(bool(pair.refused) for pair in pairs)
    sizes = {facts[z].size for z in matrices}
    shown = ", ".join(f"{w} x {h}" for w, h in sorted(sizes)[:4]) + (" ..." if len(sizes) > 4 else "")
    rows = [
        ("slices", f"{min(facts)} to {max(facts)}; {len(matrices)} of {len(facts)} numbers are placed"),
        ("size, type", f"{shown} pixels, {', '.join(sorted({facts[z].dtype for z in matrices}))}"),
        ("transforms", f"given, {alignment.given}" if alignment.given else alignment.model),
        ("pairs", f"{len(pairs)}, of which {refused} are refused" if pairs else "none: transforms were given"),
        ("slow shifts", alignment.drift if alignment.drift == "keep" else f"taken out ({alignment.drift})"),
    ]
    return _table((), ((html.escape(name), html.escape(value)) for name, value in rows))


def _red_list(facts: Mapping[int, SliceFacts], matrices: Mapping[int, Floats], pairs: Iterable[PairRecord]) -> str:
    damaged = damaged_slices(pairs)
    rows = []
    for z, verdict in judge(facts).items():
        state = GOOD if z in matrices else verdict.unusable or LOST
        remarks = [state if state != GOOD else "", verdict.remark]
        remarks += ["looks less like its neighbours than they do: damaged? It is aligned and kept"] * (z in damaged)
        if any(remarks):
            rows.append(
                (str(z), html.escape("; ".join(filter(None, remarks))), "filled" if z not in matrices else "")
            )
    if not rows:
        return "<h2>Slices to look at</h2><p>None.</p>"
    return "<h2>Slices to look at</h2>" + _table(("slice", "what", ""), rows)


def _shifts(matrices: Mapping[int, Floats], sizes: Mapping[int, tuple[int, int]]) -> str:
    z = np.array(list(matrices))
    shifts = offsets(matrices, sizes)
    moved = ("shift of the centre (pixels)", [("x", z, shifts[:, 0]), ("y", z, shifts[:, 1])])
    picture = line_picture([moved, *_turns(z, np.array(list(matrices.values())))], "slice")
    return "<h2>Where slices lie</h2>" + _figure(picture, "Shift and rotation of each slice.")


def _turns(z: Floats, matrices: Floats) -> list[tuple[str, list[tuple[str, Floats, Floats]]]]:
    linear = matrices[:, :, :2]
    if np.array_equal(linear, np.broadcast_to(np.eye(2), linear.shape)):
        return []
    size = np.sqrt(np.abs(np.linalg.det(linear)))
    found = [("rotation (degrees)", [("", z, np.rad2deg(rotation_angle(linear)))])]
    if np.ptp(size) > 1e-6:
        found.append(("scale", [("", z, size)]))
    return found


def _evidence(pairs: list[PairRecord], residuals: Mapping[tuple[int, int], float]) -> str:
    by_distance: dict[int, list[PairRecord]] = {}
    rank: dict[int, int] = {}
    for pair in pairs:
        rank[pair.first] = rank.get(pair.first, 0) + 1
        by_distance.setdefault(rank[pair.first], []).append(pair)
    names = {k: f"with the {('next', 'second', 'third')[k - 1] if k <= 3 else f'{k}th'}" for k in by_distance}

    def lines(value: Callable[[PairRecord], float | None]) -> list[tuple[str, Floats, Floats]]:
        return [
            (names[k], np.array([p.first for p in group]), np.array([value(p) for p in group], float))
            for k, group in sorted(by_distance.items())
        ]

    picture = line_picture(
        [
            ("matches that fit", lines(lambda pair: pair.inliers)),
            ("their residual (pixels)", lines(lambda pair: pair.residual)),
            ("likeness on each other", lines(lambda pair: pair.likeness)),
            ("off from what all pairs say (pixels)", lines(lambda pair: residuals.get((pair.first, pair.second)))),
        ],
        "first slice of the pair",
    )
    refused = [pair for pair in pairs if pair.refused]
    rows = [(str(p.first), str(p.second), html.escape(p.refused)) for p in refused[:20]]
    more = f"<p>... and {len(refused) - 20} more; see pairs.csv</p>" if len(refused) > 20 else ""
    listed = "<h2>Refused pairs</h2>" + _table(("first", "second", "why"), rows) + more if refused else ""
    return "<h2>Pairs</h2>" + _figure(picture, f"Evidence for each pair of slices.{_off(residuals)}") + listed


def _off(residuals: Mapping[tuple[int, int], float]) -> str:
    """How far pairs are from where all of them together put slices."""
    if not residuals:
        return ""
    (first, second), most = max(residuals.items(), key=lambda item: item[1])
    middle = float(np.median(list(residuals.values())))
    return (
        f" They are off from what all of them say by {middle:.2f} pixels (median), {most:.2f} at most (slices "
        f"{first} and {second})."
    )


def _looks(alignment: AlignmentStep, matrices: Mapping[int, Floats], pairs: list[PairRecord]) -> list[str]:
    """What the small pictures of slices show, before and after."""
    assert alignment.pairs is not None  # noqa: S101 (for the type checker: asked by the caller)
    step = alignment.pairs.features
    kept: dict[int, Features] = {}

    def features(z: int) -> Features:
        if z not in kept:
            while len(kept) > 3 * max(DISTANCES):
                del kept[next(iter(kept))]
            kept[z] = step.features(z)
        return kept[z]

    rows = []
    for distance in DISTANCES:
        before, after = likeness_at(features, matrices, distance)
        rows.append((f"z + {distance}", f"{before:.3f}", f"{after:.3f}"))
    numbers = _table(("slices compared", "before", "after"), rows)
    found = ["<h2>How alike neighbours are</h2>", numbers]
    found.append("<p>Mean correlation of structures between 1 and 12 pixels; it needs no truth.</p>")
    along = sampled(list(matrices), 512)
    for axis in "xy":
        pictures = cuts(features, matrices, along, axis)
        caption = f"Cut along {axis} and z (downwards), before and after; bright and dark structures only."
        found.append(_figure(cut_picture(*pictures, axis), caption))
    accepted = [pair for pair in pairs if not pair.refused and pair.likeness is not None]
    worst = sorted(accepted, key=lambda pair: (pair.likeness or 0.0, pair.first))[:WORST]
    found.append("<h2>The ten pairs that look least alike</h2>")
    for pair in worst:
        picture = pair_picture(features(pair.first), features(pair.second), np.array(pair.matrix))
        caption = f"slices {pair.first} (red) and {pair.second} (cyan): likeness {pair.likeness:.2f}, "
        caption += f"{pair.inliers} matches fit"
        found.append(_figure(picture, caption))
    return found


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    top = "<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>" if head else ""
    return (
        "<table>" + top + "".join("<tr>" + "".join(f"<td>{c}</td>" for c in r) + "</tr>" for r in rows) + "</table>"
    )


def _figure(picture: str, caption: str) -> str:
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="{picture}"><figcaption>{text}</figcaption></figure>'
