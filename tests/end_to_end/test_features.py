"""ilastik's object features in a whole run: chosen by name or by a project, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from blockwise.errors import UserError
from pipeline.__main__ import main
from tasks.objects.features.catalog import FEATURES
from tests.end_to_end.test_given_probabilities import given  # noqa: F401
from tests.runs import Project
from tests.unit.pixel_cases import case_folder
from tests.unit.test_object_features import CASE, vigras_values


def table(project: Project) -> pd.DataFrame:
    found = pd.read_csv(project.folder / "work" / "objects.csv")
    pd.testing.assert_frame_equal(
        found, pd.read_parquet(project.folder / "work" / "objects.parquet"), check_dtype=False
    )
    return found


def test_features_of_a_project_are_ilastiks_for_every_block_shape(given: Project) -> None:  # noqa: F811
    given.change("connected_components", {"features": "project"})
    whole = None
    for blocks in ([64, 64], [180, 220]):
        given.change("blocks", {"shape": blocks, "chunks": blocks})
        run = given.run()
        assert run.ok, run.text
        found = table(given)
        assert whole is None or whole.equals(found)
        whole = found
    assert given.run().computed == {}
    stored = vigras_values(case_folder(CASE))
    names = {name for name in stored if "object and" not in name}  # ilastik computes these, but they are not selected
    for name in names - {"RegionAxes"}:
        columns = FEATURES[name].columns_of(stored[name].shape[1])
        np.testing.assert_allclose(found[columns], stored[name], rtol=1e-6, atol=1e-6, err_msg=name)
    assert not [column for column in found if "object and" in column]
    assert main(["verify", "--config", "config.yaml"]) == 0
    assert main(["plan", "--config", "config.yaml"]) == 0


@pytest.mark.soak
def test_other_features_of_the_same_sums_read_no_voxel_again(given: Project) -> None:  # noqa: F811
    given.change("connected_components", {"features": ["Kurtosis", "Mean in neighborhood"], "margin": 4})
    assert given.run().ok
    others = ["Variance", "Skewness", "Kurtosis", "Sum in neighborhood"]
    given.change("connected_components", {"features": others, "margin": 4})
    run = given.run()
    assert run.ok, run.text
    assert run.computed == {"object_table": [0]}
    assert "Total Intensity in neighborhood" in table(given)
    given.change("connected_components", {"features": others, "margin": [4, 7]})
    assert list(given.run().computed) == ["object_boxes", "object_features", "object_table"]


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ({"features": ["Maen"]}, "connected_components.features: 'Maen': not among .*did you mean 'Mean'"),
        ({"features": ["Covariance"]}, "connected_components.features: Covariance: .* several channels"),
        ({"features": ["Mean in neighborhood"], "margin": [1, 2, 3]}, "margin: .* 3 numbers, but there are 2 axes"),
        ({"margin": 3}, "margin: only with features"),
    ],
)
def test_what_cannot_be_is_refused(given: Project, components, message) -> None:  # noqa: F811
    given.change("connected_components", components)
    with pytest.raises(UserError, match=message):
        given.steps()
