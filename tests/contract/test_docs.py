"""The examples of docs/volumes.md, run in their order."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import pipeline.exporting.write  # here, because luigi looks for its settings in the folder in which it is loaded

DOCUMENT = Path(__file__).parents[2] / "docs" / "volumes.md"


def test_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_server: str, gs_server: str, web_server: tuple[str, Path]
) -> None:
    url, folder = web_server
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    examples = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    assert len(examples) >= 9
    namespace: dict[str, object] = {"pipeline": pipeline}
    for example in examples:
        if "https://" in example:
            shutil.copytree("a.zarr", folder / "docs" / "a.zarr")
        exec(example.replace("https://data.example.org", f"{url}/docs"), namespace)
