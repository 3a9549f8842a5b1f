"""What a configuration means, in runs as users start them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from tests.runs import Project


def test_a_class_that_is_called_no(unused: Project) -> None:
    with h5py.File("membranes.ilp", "a") as file:
        del file["PixelClassification/LabelNames"]
        names = file.create_dataset("PixelClassification/LabelNames", data=np.array([b"yes", b"no"]))
        names.attrs["isEmpty"] = False
    text = unused.config.read_text().replace("class: 1", "class: no")
    unused.config.write_text(text)
    assert unused.steps().objects[0].threshold.class_index == 1
    unused.config.write_text(text.replace("project:", "classes: [no, yes]\n  project:"))
    assert unused.steps().prediction.classes == (1, 0)
    unused.config.write_text(text.replace("class: no", "class: true"))
    with pytest.raises(UserError, match=r"threshold.class: found True; true is a boolean, .* quote it"):
        unused.steps()
