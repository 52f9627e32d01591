# SPDX-License-Identifier: Apache-2.0
"""Features in boxes go, the others stay as they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.datatypes import FEATURE_DIM, Features
from drp_slam.slam.masking import outside


def some(n: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    uv = rng.integers(0, 20, (n, 2)).astype(np.float32)  # whole pixels: some lie on an edge
    descriptor = rng.random((n, FEATURE_DIM), np.float32)
    return Features(uv, rng.random(n, np.float32), descriptor)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.integers(1, 4), st.integers(0, 2**31))
def test_points_outside_boxes_stay(n, count, seed):
    features = some(n, seed)
    corner = np.random.default_rng(seed + 1).integers(0, 20, (count, 2, 2))
    boxes = np.concatenate([corner.min(axis=1), corner.max(axis=1)], axis=1)
    kept = outside(features, boxes)
    wanted = [
        i
        for i, (u, v) in enumerate(features.uv.tolist())
        if not any(x0 <= u <= x1 and y0 <= v <= y1 for x0, y0, x1, y1 in boxes.tolist())
    ]
    for name in ("uv", "score", "descriptor"):
        got, all_ = getattr(kept, name), getattr(features, name)
        np.testing.assert_array_equal(got, all_[wanted])
        assert got.dtype == all_.dtype


def test_without_boxes_nothing_is_copied():
    features = some(5, 0)
    assert outside(features, np.zeros((0, 4))) is features
