# SPDX-License-Identifier: Apache-2.0
"""Depth of stereo pairs: a scene of known disparity, and OpenCV's matcher."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from drp_slam.drp.stereo import DisparityDepth, MatchRows, differences


def pair(disparity: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A textured left image, and the right one that shows it moved to the left by (H, W) pixels."""
    height, width = disparity.shape
    noise = np.random.default_rng(seed).normal(128, 60, (height, width + 200))
    wide = cv2.GaussianBlur(noise, (0, 0), 1.5) * 2.0 - 128
    right = np.clip(wide[:, :width], 0, 255)
    x = np.arange(width, dtype=np.float32) - disparity
    y = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, 1)
    left = cv2.remap(right.astype(np.float32), x.astype(np.float32), y, cv2.INTER_CUBIC, borderValue=0)
    return np.clip(left, 0, 255).astype(np.uint8), right.astype(np.uint8)


@pytest.mark.parametrize("shift", [1.75, 9.25, 40.5, 110.0])
def test_keypoints_get_their_disparity_to_a_fraction_of_a_pixel(shift: float) -> None:
    left, right = pair(np.full((120, 400), shift, np.float32))
    rng = np.random.default_rng(1)
    uv = np.stack([rng.uniform(125, 390, 300), rng.uniform(8, 112, 300)], 1).astype(np.float32)
    (found,) = MatchRows(128).compute(left, right, uv)
    known = found > 0
    assert known.mean() > 0.9
    assert np.median(np.abs(found[known] - shift)) < 0.1
    assert (np.abs(found[known] - shift) > 1.0).mean() < 0.02


def test_no_disparity_where_the_pair_does_not_match_or_repeats() -> None:
    rng = np.random.default_rng(2)
    left, right = (rng.integers(0, 256, (100, 300)).astype(np.uint8) for _ in range(2))
    uv = np.stack([rng.uniform(140, 290, 200), rng.uniform(8, 90, 200)], 1).astype(np.float32)
    assert (MatchRows(128).compute(left, right, uv)[0] > 0).mean() < 0.05
    for across_px, along_px in ((1.5, 1.5), (0.3, 3.0), (0.5, 6.0)):  # noise on a bare wall, demosaiced or blurred
        wall = [cv2.GaussianBlur(rng.normal(0, 1, left.shape), (0, 0), along_px, sigmaY=across_px) for _ in range(2)]
        one, other = (np.rint(90 + 4 * grain / grain.std()).astype(np.uint8) for grain in wall)
        assert (MatchRows(128).compute(one, other, uv)[0] > 0).mean() < 0.03
    stripes = np.tile((np.arange(300) // 8 % 2 * 200).astype(np.uint8), (100, 1))
    assert not MatchRows(128).compute(stripes, stripes, uv)[0].any()
    flat = np.full((100, 300), 90, np.uint8)
    assert not MatchRows(128).compute(flat, flat, uv)[0].any()
    assert MatchRows(128).compute(flat, flat, uv[:0])[0].shape == (0,)


def test_differences_equal_brute_force() -> None:
    rng = np.random.default_rng(3)
    left, right = (rng.integers(0, 256, (40, 60)).astype(np.uint8) for _ in range(2))
    xy, first = np.array([[30, 20], [45, 10]], np.int32), np.array([4, 0], np.int32)
    cost, contrast = differences(left, right, xy, first, 7, 2)
    for (x, y), start, row, own in zip(xy.tolist(), first.tolist(), cost, contrast):
        mine = left[y - 2 : y + 3, x - 2 : x + 3].astype(np.float64)
        assert own == pytest.approx(np.abs(mine - mine.mean()).mean(), abs=1e-3)
        for k, value in enumerate(row.tolist()):
            at = x - start - k
            theirs = right[y - 2 : y + 3, at - 2 : at + 3].astype(np.float64)
            wanted = np.abs((mine - mine.mean()) - (theirs - theirs.mean())).mean()
            assert value == pytest.approx(wanted, abs=1e-3)


def test_depth_is_focal_length_times_baseline_over_disparity() -> None:
    disparity = np.array([[16 * 8, 16, 15, -16, 0]], np.int16)
    (depth,) = DisparityDepth(380.0).compute(disparity)
    assert depth.tolist() == [[47.5, 380.0, 0.0, 0.0, 0.0]] and depth.dtype == np.float32
