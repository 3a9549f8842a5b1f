"""What is tried in the panel, without a server: objects of a box, boxes, decoded chunks, written configurations."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

from blockwise.grid import Box, box_shape, box_size
from blockwise.volume import create_volume, open_volume
from pipeline.configuration.settings import Settings, Threshold, make_settings
from pipeline.viewing.live.configuration import with_thresholds, write_beside
from pipeline.viewing.live.objects import provisional_objects, visible_box
from pipeline.viewing.live.step import DecodedChunks
from pipeline.viewing.live.values import as_written, tried, values_of
from pipeline.viewing.panel.pace import WINDOW_S, Pace
from pipeline.viewing.refusals import RefusedError
from tests.runs import settings as configuration

CLOSED = ((False, False),) * 2
OPEN = ((True, True),) * 2
MASK = np.array(
    [
        [1, 1, 0, 0, 1],
        [0, 0, 0, 0, 1],
        [0, 2, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [1, 0, 0, 2, 1],
    ],
    np.uint8,
)  # fmt: skip


def test_objects_of_a_whole_volume_are_its_components() -> None:
    found = provisional_objects(MASK, 1, 4, None, CLOSED)
    np.testing.assert_array_equal(found, label(MASK != 0, connectivity=1))
    zeros = provisional_objects(MASK, 0, 8, None, CLOSED)
    np.testing.assert_array_equal(zeros, label(MASK == 0, connectivity=2))


def test_objects_that_end_at_the_box_are_kept_whatever_their_size() -> None:
    found = provisional_objects(MASK, 1, 4, None, CLOSED, (2, 2))
    assert found.max() == 4
    assert found[4, 0] == 0
    assert provisional_objects(MASK, 1, 4, None, OPEN, (3, None))[4, 0] > 0
    assert provisional_objects(MASK, 1, 4, None, OPEN, (3, None))[2, 1] == 0
    assert provisional_objects(MASK, 1, 4, None, ((False, True), (False, False)), (3, None))[0, 0] == 0


def test_hysteresis_keeps_objects_with_a_core() -> None:
    found = provisional_objects(MASK, 1, 4, None, OPEN, cores=True)
    np.testing.assert_array_equal(np.unique(found[MASK == 2]), [1, 2])
    assert found[0, 0] == found[4, 0] == 0


def test_objects_lie_inside_the_mask_of_what_is_computed() -> None:
    inside = np.zeros(MASK.shape, bool)
    inside[:, 0] = True
    assert not provisional_objects(MASK, 1, 4, inside, CLOSED)[:, 1:].any()


LENGTHS = st.tuples(st.integers(1, 70), st.integers(1, 70))


@given(LENGTHS, LENGTHS, LENGTHS, st.tuples(st.integers(-80, 80), st.integers(-80, 80)), st.integers(1, 3000))
def test_visible_boxes_are_whole_blocks_within_the_volume(
    shape: tuple[int, ...], block: tuple[int, ...], length: tuple[int, ...], start: tuple[int, ...], most: int
) -> None:
    seen = tuple(slice(s, s + n) for s, n in zip(start, length, strict=True))
    box = visible_box(shape, seen, block, most)
    for s, b, n in zip(box, block, shape, strict=True):
        assert 0 <= s.start < s.stop <= n
        assert s.start % b == 0
        assert s.stop % b == 0 or s.stop == n
    assert box_size(box) <= most or all(s.stop - s.start <= b for s, b in zip(box, block, strict=True))
    middle = [min(max(s.start + (s.stop - s.start) // 2, 0), n - 1) for s, n in zip(seen, shape, strict=True)]
    assert all(s.start <= m < s.stop for s, m in zip(box, middle, strict=True))
    if most >= shape[0] * shape[1]:  # all that is seen
        assert all(b.start <= max(s.start, 0) or s.start >= n for b, s, n in zip(box, seen, shape, strict=True))


def test_decoded_chunks_give_what_the_volume_gives_until_a_file_changes(tmp_path: Path) -> None:
    address = f"{tmp_path}/a.n5:data"
    values = np.random.default_rng(1).random((9, 10, 11), np.float32)
    create_volume(address, values.shape, (4, 4, 4), "float32", {})
    whole = tuple(slice(0, n) for n in values.shape)
    open_volume(address, "a").write(whole, values)
    kept: OrderedDict[Any, NDArray[Any]] = OrderedDict()
    decoded = DecodedChunks(open_volume(address), kept)
    boxes: list[Box] = [whole, np.s_[3:5, 3:9, 7:11], np.s_[0:1, 9:10, 4:5]]
    for box in boxes * 2:
        np.testing.assert_array_equal(decoded.read(box), values[box], strict=True)
    assert len(kept) == 27
    open_volume(address, "a").write(np.s_[0:4, 0:4, 0:4], values[:4, :4, :4] + 1)
    np.testing.assert_array_equal(decoded.read(np.s_[0:4, 0:4, 0:4]), values[:4, :4, :4] + 1)
    assert box_shape(whole) == values.shape


TEXT = """\
# my data
work_dir: work
raw: raw.n5:raw   # as it came
output: result.n5
prediction: {project: a.ilp}
threshold:   # found by trying
  class: 1
  sigma: 1.6
  threshold: 0.25   # low

# what lies between
connected_components: {foreground: 0}
"""


def test_a_configuration_keeps_all_but_its_threshold() -> None:
    found = with_thresholds(TEXT, [{"class": 1, "sigma": 2.0, "threshold": 0.4}])
    expected = yaml.safe_load(TEXT) | {"threshold": {"class": 1, "sigma": 2.0, "threshold": 0.4}}
    assert yaml.safe_load(found) == expected
    assert "# my data" in found
    assert "# what lies between" in found
    assert "raw: raw.n5:raw   # as it came" in found


@pytest.mark.parametrize(
    "text",
    [
        "{work_dir: w, threshold: {sigma: 1}, raw: r}",
        "work_dir: w\nraw: r",
        "a: &values {sigma: 1}\nthreshold: *values\nraw: r\n",
        "threshold:\n- name: a\n  sigma: 1\n- {name: b}\nraw: r\n",
        "base: &base\n  threshold: {sigma: 3}\n<<: *base\nraw: r\n",
        "threshold:\nraw: r\n",
    ],
)
def test_a_configuration_of_any_form_has_the_new_threshold(text: str) -> None:
    for wanted in ([{"sigma": 2.5, "class": "a, b"}], [{"name": "a"}, {"name": "b", "sigma": [1, 2.5, 3]}]):
        expected = yaml.safe_load(text) | {"threshold": wanted[0] if len(wanted) == 1 else wanted}
        assert yaml.safe_load(with_thresholds(text, wanted)) == expected


def test_configurations_are_written_beside_and_never_over_another(tmp_path: Path) -> None:
    first = tmp_path / "mine.yaml"
    first.write_text("a")
    (tmp_path / "mine.2.yaml").write_text("b")
    assert write_beside(str(first), "c") == tmp_path / "mine.3.yaml"
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["b", "c", "a"]


def settings(**threshold: Any) -> Settings:
    return make_settings({**configuration(), "threshold": threshold}, "configuration")


def test_values_are_tried_on_top_of_the_configuration() -> None:
    base = settings(threshold=0.25, sigma=[1, 2, 3], **{"class": 1})
    assert values_of(base.threshold[0]) == {"class": 1, "sigma": [1, 2, 3], "method": "simple", "threshold": 0.25}
    found = tried(base, "", {"method": "hysteresis", "core": 0.8, "final": 0.5})
    assert as_written(found) == {
        "class": 1, "sigma": [1, 2, 3], "method": "hysteresis", "core": 0.8, "final": 0.5
    }  # fmt: skip
    grown = settings(method="hysteresis", core=0.8, final=0.5, core_min_size=5)
    assert tried(grown, "", {"final": 0.4}).core_min_size == 5
    assert tried(grown, "", {"method": "simple", "threshold": 0.4}) == Threshold(method="simple", threshold=0.4)


@pytest.mark.parametrize(
    ("name", "values", "status"),
    [
        ("other", {}, 404),
        ("", {"threshold": 2}, 400),
        ("", {"threshold": "high"}, 400),
        ("", {"sigma": -1}, 400),
        ("", {"sigma": [[1]]}, 400),
        ("", {"name": "a"}, 400),
        ("", {"method": "none"}, 400),
        ("", {"method": []}, 400),
        ("", {"method": "hysteresis", "core": 0.1, "final": 0.5}, 400),
    ],
)
def test_what_cannot_be_tried_is_refused(name: str, values: dict[str, Any], status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        tried(settings(threshold=0.25), name, values)
    assert refused.value.status == status


def test_the_pace_is_that_of_the_last_minutes() -> None:
    pace = Pace()
    assert (pace.per_second, pace.seconds_left(3)) == (0, None)
    for second in range(int(3 * WINDOW_S)):
        pace.note(float(second), second if second < WINDOW_S else int(WINDOW_S))
    assert pace.per_second == 0  # nothing was done in the window
    assert pace.seconds_left(9) is None
    pace.note(3 * WINDOW_S, 0)  # begun anew
    pace.note(3 * WINDOW_S + 10, 20)
    assert (pace.per_second, pace.seconds_left(9)) == (2, 4.5)


def test_cores_that_reach_out_of_objects_are_none_themselves() -> None:
    mask = np.array([[1, 2, 3, 3, 0, 3]], np.uint8)
    found = provisional_objects(mask, 1, 4, None, ((False, False),) * 2, cores=True)
    np.testing.assert_array_equal(found, [[1, 1, 0, 0, 0, 0]])
