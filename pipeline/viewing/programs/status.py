"""How far the steps of a run are, and what can be looked at, as JSON."""

from __future__ import annotations

import time
from typing import Any

from blockwise.demand.presence import stands_alone
from blockwise.step import BlockStep
from pipeline.viewing.images.layers import Layer
from pipeline.viewing.site import Site

SHOWN_FAILURES = 20


def steps_status(site: Site) -> dict[str, Any]:
    """How far all steps are, from their markers; ``computed`` and ``wanted`` are of this server.

    ``looked_s`` is how long it took to look: of who asks again and again, those of large runs should wait longer.

    Steps that nobody has begun, and that no layer asks for, are left out.
    """
    begin = time.perf_counter()
    steps = [_step(site, step) for step in site.steps.begun()]
    return {"steps": steps, "looked_s": time.perf_counter() - begin}


def _step(site: Site, step: BlockStep) -> dict[str, Any]:
    blocks = len(step.grid)
    done, failures = step.progress() if site.whole is None else (blocks * site.seems_finished(step), {})
    done = min(done, blocks)
    demand = site.demand
    pace = site.paces[step.fingerprint]
    pace.note(time.monotonic(), done)
    return {
        "step": step.label,
        "fingerprint": step.fingerprint,
        "blocks": blocks,
        "done": done,
        "computed": 0 if demand is None else demand.computed[step.label],
        "failed": len(failures),
        "per_second": pace.per_second,
        "seconds_left": pace.seconds_left(blocks - done),
        "waiting": max(0, blocks - done - len(failures)),
        "wanted": 0 if demand is None else demand.waiting(step),
        "finished": done >= blocks and (site.whole is not None or step.read_target() is not None),
        "on_demand": demand is not None and stands_alone(step),
        "failures": [
            {
                "block": block,
                "title": step.title(block),
                "middle": _middle(step, block),
                "error": failure.error,
                "message": failure.message,
                "log": failure.log,
            }
            for block, failure in sorted(failures.items())[:SHOWN_FAILURES]
        ],
    }


def _middle(step: BlockStep, block: int) -> dict[str, float]:
    """Of a block, in voxels by axis."""
    box = step.grid.block(block).write_box
    return {axis: (s.start + s.stop) / 2 for axis, s in zip(step.grid.axes, box, strict=True)}


def layers_status(site: Site, token: str) -> dict[str, Any]:
    """The layers, the lowest first."""
    return {"layers": [_layer(site, layer, token) for layer in site.layers.values()]}


def _layer(site: Site, layer: Layer, token: str) -> dict[str, Any]:
    step = layer.step
    return {
        "name": layer.name,
        "kind": layer.kind,
        "step": None if step is None else step.label,
        "axes": layer.axes,
        "shape": list(layer.shape),
        "chunks": list(layer.chunks),
        "scales": [list(scale.factors) for scale in layer.scales],
        "dtype": layer.stored_dtype,
        "shown_as": layer.dtype.name,
        "spacing": list(layer.steps),
        "units": list(layer.units),
        "classes": list(layer.classes),
        "fingerprint": layer.fingerprint,
        "data": f"/{token}/data/{layer.name}/{layer.fingerprint}/",
        "roi": f"/{token}/api/roi/{layer.name}",
        "finished": step is None or site.seems_finished(step),
        "on_demand": step is not None and site.demand is not None and stands_alone(step),
    }
