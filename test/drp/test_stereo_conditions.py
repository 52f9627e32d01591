# SPDX-License-Identifier: Apache-2.0
"""When StereoSGBM runs on the DRP."""

from __future__ import annotations

import cv2
import pytest
from test_conditions import STEREO, img

from drp_slam.drp.conditions import check
from drp_slam.errors import DrpError

STEREO_ROWS = [
    (
        "src",
        [img(32, 32), img(1920, 1080), img(36, 33)],
        [img(28, 32), img(32, 31), img(34, 32), img(1924, 1080), img(1920, 1081), img(64, 64, 3)],
    ),
    ("minDisparity", [0], [1, -1]),
    ("numDisparities", [16, 256], [0, 24, 272]),
    ("blockSize", [3, 5, 7, 9, 11], [1, 4, 13]),
    ("P1", [1, 31], [0, 32]),
    ("P2", [9, 80], [8, 81]),
    ("uniquenessRatio", [0, 100], [-1, 101]),
    ("disp12MaxDiff", [0, 5], []),
    ("preFilterCap", [0, 5], []),
    ("speckleWindowSize", [0, 5], []),
    ("speckleRange", [0, 5], []),
]


@pytest.mark.parametrize(("parameter", "inside", "outside"), STEREO_ROWS, ids=[r[0] for r in STEREO_ROWS])
def test_stereo_raises_outside_its_conditions(parameter, inside, outside):
    def call(value: object) -> list[str]:
        changed = {**STEREO, parameter: value}
        if parameter == "src":
            changed["src2"] = value
            changed |= {"P1": 1, "P2": 2, "numDisparities": 16}
        return check("StereoSGBM", changed)

    for value in inside:
        assert call(value) == []
    for value in outside:
        with pytest.raises(DrpError, match="-502"):
            call(value)


@pytest.mark.parametrize(
    ("width", "disparities", "p1", "p2"),
    [(640, 256, 79, 80), (644, 256, 49, 50), (1280, 256, 49, 50), (1284, 128, 29, 30), (1920, 128, 29, 30)],
)
def test_stereo_limits_by_width(width, disparities, p1, p2):
    call = {
        **STEREO,
        "src": img(width, 480),
        "src2": img(width, 480),
        "numDisparities": disparities,
        "P1": p1,
        "P2": p2,
    }
    assert check("StereoSGBM", call) == []
    for change in ({"numDisparities": disparities + 16}, {"P2": p2 + 1}, {"P1": p1 + 1}):
        with pytest.raises(DrpError, match="-502"):
            check("StereoSGBM", {**call, **change})


def test_stereo_of_two_sizes_raises_and_other_modes_run_on_the_cpu():
    with pytest.raises(DrpError, match="src2"):
        check("StereoSGBM", {**STEREO, "src2": img(320, 480)})
    assert check("StereoSGBM", {**STEREO, "mode": cv2.STEREO_SGBM_MODE_HH, "blockSize": 4})
