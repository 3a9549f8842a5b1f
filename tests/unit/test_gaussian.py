"""The Gaussian of a part against scipy's of the whole: equal to the last bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from tasks.smoothing.gaussian import smoothed_part
from tests.examples import examples


@settings(max_examples=examples(60))
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_a_part_has_the_bits_of_the_whole(data: st.DataObject, seed: int) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 20), min_size=2, max_size=4)))
    sigma = tuple(data.draw(st.sampled_from([0.0, 0.1, 0.4, 1.6, 3.3])) for _ in shape)
    starts = [data.draw(st.integers(0, n - 1)) for n in shape]
    part = tuple(slice(start, data.draw(st.integers(start + 1, n))) for start, n in zip(starts, shape, strict=True))
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=shape).astype(np.float32)
    volume[rng.random(shape) < 0.02] = data.draw(st.sampled_from([0.0, np.nan, np.inf, 1e38, 1e-42]))
    with np.errstate(all="ignore"):
        expected = gaussian_filter(volume, sigma, mode="nearest", truncate=4.0)[part]
    np.testing.assert_array_equal(smoothed_part(volume, sigma, 4.0, part).view(np.uint32), expected.view(np.uint32))
