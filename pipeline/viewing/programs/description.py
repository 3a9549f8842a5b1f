"""The interface for programs, described: OpenAPI, and the same as a page."""

from __future__ import annotations

import html
from typing import Any

from pipeline.viewing.programs.formats import FORMATS

_ERROR = {
    "type": "object",
    "required": ["error", "status"],
    "properties": {
        "error": {"type": "string", "description": "what is wrong, and what to do"},
        "status": {"type": "integer"},
    },
    "additionalProperties": True,
}
_LAYER = {
    "name": "layer", "in": "path", "required": True, "schema": {"type": "string"},
    "description": "raw, or the name of a dataset; see /api/layers",
}  # fmt: skip


def openapi(token: str) -> dict[str, Any]:
    """The description as OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "blockwise-ilastik view",
            "version": "1",
            "description": "Voxels of a run, computed where they are asked for, and how far the run is.",
        },
        "servers": [{"url": f"/{token}"}],
        "paths": {
            "/api": {"get": _get("This description: JSON, or a page for browsers", {"200": _json("OpenAPI")})},
            "/api/images": {
                "get": _get(
                    "The images to choose from, where there are several: all else is asked of one of them",
                    {"200": _json("a list `images`"), "404": _error("there is one image only")},
                )
            },
            "/api/layers": {"get": _get("The layers", {"200": _json("a list `layers`")})},
            "/api/status": {
                "get": _get(
                    "How far each step is: done, failed and waiting are of all blocks; computed and wanted (in the "
                    "queue, or being computed) of this server",
                    {"200": _json("a list `steps`")},
                )
            },
            "/api/blocks/{step}": {"get": _blocks()},
            "/api/log/{step}/{block}": {"get": _log()},
            "/api/roi/{layer}": {"get": _roi()},
            **_trials(),
            "/data/{layer}/{fingerprint}/{key}": {"get": _data()},
        },
        "components": {"schemas": {"Error": _ERROR}},
    }


def _get(summary: str, responses: dict[str, Any], parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"summary": summary, "parameters": parameters or [], "responses": responses}


def _json(what: str) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": {"type": "object"}}}}


def _error(what: str) -> dict[str, Any]:
    return {
        "description": what,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


def _blocks() -> dict[str, Any]:
    numbers = {"type": "integer", "minimum": 0}
    return _get(
        "A map of a step's blocks: one plane along y and x, a letter for each block",
        {
            "200": _json("states: d done, r running, f failed, w waiting, . never computed"),
            "404": _error("no such step"),
        },
        [_path("step", "see /api/status"), *(_query(axis, "of the plane, in voxels", numbers) for axis in "tz")],
    )


def _log() -> dict[str, Any]:
    return _get(
        "Why a block has failed: its traceback, and the end of its worker's log",
        {"200": {"description": "text", "content": {"text/plain": {}}}, "404": _error("no such failure")},
        [_path("step", "see /api/status"), _path("block", "its number")],
    )


def _trials() -> dict[str, Any]:
    return {
        "/api/trials": {
            "get": _get("Values of thresholds that can be tried", {"200": _json("thresholds and classes")}),
            "post": _trial("Try values: a mask of its own, computed where it is asked for; no result of the run"),
        },
        "/api/trials/objects": {
            "post": _trial(
                "Objects of what is visible, from start to stop (mappings of axes to voxels); provisional, as "
                "they end there, unless the run has made them"
            )
        },
        "/api/trials/configuration": {
            "post": _trial("Write values into a new configuration file beside the first one")
        },
    }


def _trial(summary: str) -> dict[str, Any]:
    body = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "of the threshold, where there are several"},
            "values": {"type": "object", "description": "class, sigma, method, threshold, core, final: what differs"},
        },
    }
    responses = {
        "200": _json("the layer as the viewer has it, or what was written"),
        "400": _error("a value that is not right"),
        "404": _error("no such threshold"),
        "409": _error("nothing can be tried here"),
    }
    return _get(summary, responses) | {"requestBody": {"content": {"application/json": {"schema": body}}}}


def _roi() -> dict[str, Any]:
    corner = "whole numbers along the layer's axes without channels, such as 0,0,0 for z,y,x"
    parameters = [
        _LAYER,
        _query("start", f"{corner}; default: the volume's beginning", {"type": "string"}),
        _query("stop", f"{corner}, exclusive; default: the volume's end", {"type": "string"}),
        _query("format", "default: npy", {"type": "string", "enum": list(FORMATS)}),
        _query("channel", "one channel, from 0; default: all", {"type": "integer", "minimum": 0}),
    ]
    responses = {
        "200": {
            "description": "the voxels, in the order of the layer's axes, as they are stored",
            "content": {form.media_type: {} for form in FORMATS.values()},
        },
        "400": _error("a box outside the volume or the wrong way round (with the shape), an unknown format"),
        "404": _error("no such layer (with those that there are)"),
        "409": _error("it is not computed, and not to be computed here"),
        "413": _error("the box is too large (with the limit)"),
        "500": _error("a block could not be computed (with step, block, cause, log)"),
        "503": _error("too much is being computed; try again"),
    }
    return _get("Voxels of a box, computed where they are not there", responses, parameters)


def _data() -> dict[str, Any]:
    parameters = [
        _LAYER,
        {"name": "fingerprint", "in": "path", "required": True, "schema": {"type": "string"}},
        {
            "name": "key", "in": "path", "required": True, "schema": {"type": "string"},
            "description": ".zattrs, 0/.zarray, 0/z/y/x ...",
        },
    ]  # fmt: skip
    responses = {
        "200": {"description": "a document or a chunk", "content": {"application/octet-stream": {}}},
        "404": _error("no such key, or a chunk that is not there, which Zarr reads as 0"),
        "500": _error("a block could not be computed"),
        "503": _error("too much is being computed; try again"),
    }
    return _get("A layer as an OME-Zarr 0.4 image", responses, parameters)


def _path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": description}


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def page(document: dict[str, Any]) -> str:
    """The description as a page."""
    base = document["servers"][0]["url"]
    sections = [
        _section(base, path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    info = document["info"]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{html.escape(info['title'])}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(info['title'])}</h1><p>{html.escape(info['description'])}"
        f" As JSON: <a href='{base}/api/openapi.json'>OpenAPI</a>.</p>{''.join(sections)}</html>"
    )


_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em;color:#222}"
    "h2{font:600 1em monospace;background:#eee;padding:.4em .6em;overflow-wrap:anywhere}"
    "td{vertical-align:top;padding:.1em 1em .1em 0}td:first-child{font-family:monospace;white-space:nowrap}"
)


def _section(base: str, path: str, method: str, operation: dict[str, Any]) -> str:
    shown = f"{method.upper()} {base}{html.escape(path)}"
    if "{" not in path and method == "get":
        shown = f"GET <a href='{base}{path}'>{base}{path}</a>"
    rows = [(one["name"], one.get("description", "")) for one in operation["parameters"]]
    rows += [(status, answer["description"]) for status, answer in operation["responses"].items()]
    table = "".join(f"<tr><td>{html.escape(a)}<td>{html.escape(b)}" for a, b in rows)
    return f"<h2>{shown}</h2><p>{html.escape(operation['summary'])}</p><table>{table}</table>"
