# SPDX-License-Identifier: Apache-2.0
"""ORB's kernels against the public reference vectors of FAST on this DRP, and against OpenCV's ORB."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from drp_slam.drp.orb_kernels import Blur, Describe, Fast, Shrink, corner_response, level_shapes
from drp_slam.errors import DrpError

VECTORS = Path(os.environ.get("DRP_SLAM_DATA") or "absent") / "drp_fast"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 256, (240, 320)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.2)


@pytest.mark.skipif(not VECTORS.is_dir(), reason="needs the DRP's reference vectors: set DRP_SLAM_DATA")
@pytest.mark.parametrize("number", ["0004", "2849"])
def test_pyramid_and_keypoints_equal_the_reference_vectors_of_the_drp(number: str) -> None:
    levels = [cv2.imread(str(VECTORS / f"pyramid_{number}_{k}.pgm"), cv2.IMREAD_GRAYSCALE) for k in range(8)]
    shapes = level_shapes(levels[0].shape, 8, 1.2)
    for k, level in enumerate(levels):
        assert level.shape == shapes[k]
        if k:
            assert (Shrink(shapes[k]).compute(levels[k - 1])[0] == level).all()
        with (VECTORS / f"keypoints_{number}_{k}.csv").open() as file:
            wanted = {(int(r["x"]), int(r["y"]), int(r["response"])) for r in csv.DictReader(file)}
        pixels, response = Fast().compute(level)
        assert set(zip(*(pixels - 16).T.tolist(), response.tolist())) == wanted


@pytest.mark.parametrize("threshold", [7, 20])
def test_corner_response_is_opencvs(image: np.ndarray, threshold: int) -> None:
    response = corner_response(image)
    corners = cv2.FastFeatureDetector_create(threshold, False).detect(image)
    mask = np.zeros_like(image)
    for corner in corners:
        mask[int(corner.pt[1]), int(corner.pt[0])] = 1
    assert ((response >= threshold) == mask[3:-3, 3:-3]).all()
    for peak in cv2.FastFeatureDetector_create(threshold, True).detect(image):
        assert response[int(peak.pt[1]) - 3, int(peak.pt[0]) - 3] == peak.response


def test_corners_of_a_cell_are_those_that_opencv_finds_in_it(image: np.ndarray) -> None:
    """Brute force: OpenCV's FAST in every cell with its margin, as ORB-SLAM2 calls it."""
    height, width = (side - 32 for side in image.shape)
    step_y, step_x = -(-height // (height // 30)), -(-width // (width // 30))
    found = set()
    for top in range(16, 16 + height - 6, step_y):
        for left in range(16, 16 + width - 6, step_x):
            part = image[top : min(top + step_y + 6, height + 16), left : min(left + step_x + 6, width + 16)]
            corners = cv2.FastFeatureDetector_create(20, True).detect(part)
            corners = corners or cv2.FastFeatureDetector_create(7, True).detect(part)
            found |= {(int(c.pt[0]) + left, int(c.pt[1]) + top) for c in corners}
    pixels, _ = Fast().compute(image)
    assert set(map(tuple, pixels.tolist())) == found


def test_angles_and_descriptors_equal_opencvs_bit_for_bit(image: np.ndarray) -> None:
    corners, wanted = cv2.ORB_create(500, 1.2, 1).detectAndCompute(image, None)
    pixels = np.array([c.pt for c in corners], np.int64)
    descriptor, angle = Describe().compute(image, Blur().compute(image)[0], pixels)
    assert len(pixels) > 100
    assert np.abs(angle - [c.angle for c in corners]).max() < 1e-3
    assert (descriptor == wanted).all()


def test_a_flat_image_has_no_corner_and_a_small_one_is_refused() -> None:
    pixels, response = Fast().compute(np.full((100, 120), 90, np.uint8))
    assert pixels.shape == (0, 2) and response.shape == (0,)
    descriptor, angle = Describe().compute(*[np.zeros((100, 120), np.uint8)] * 2, pixels)
    assert descriptor.shape == (0, 32) and angle.shape == (0,)
    with pytest.raises(DrpError, match="would be 33 x 25 pixels"):
        level_shapes((90, 120), 8, 1.2)
    with pytest.raises(DrpError, match="border"):
        Describe().compute(*[np.zeros((100, 120), np.uint8)] * 2, np.array([[5, 50]]))
