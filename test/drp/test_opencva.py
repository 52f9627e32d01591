# SPDX-License-Identifier: Apache-2.0
"""Each accelerator function as a program: OpenCV's result, an honest shape, and where it runs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from drp_slam.device import EmulatedDevice, NullDevice
from drp_slam.drp.conditions import CONDITIONS, MODE_SGM_DRP
from drp_slam.drp.opencva import FUNCTIONS, OpenCva
from drp_slam.errors import DrpError

GREY = np.random.default_rng(1).integers(0, 256, (64, 96), dtype=np.uint8)
COLOUR = np.random.default_rng(2).integers(0, 256, (64, 96, 3), dtype=np.uint8)
YUV = np.ascontiguousarray(COLOUR[..., :2])
HALF = np.ascontiguousarray(COLOUR[::2, ::2, :2])
GRID = np.stack(np.meshgrid(np.arange(96), np.arange(64)), -1).astype(np.float32)
EYE = np.eye(3, dtype=np.float32)
SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)

CASES = [
    ("resize", {"dsize": (48, 40)}, (COLOUR,), lambda: cv2.resize(COLOUR, (48, 40))),
    ("resize", {"fx": 0.5, "fy": 0.25}, (GREY,), lambda: cv2.resize(GREY, None, fx=0.5, fy=0.25)),
    ("cvtColor", {"code": cv2.COLOR_YUV2BGR_YUY2}, (YUV,), lambda: cv2.cvtColor(YUV, cv2.COLOR_YUV2BGR_YUY2)),
    (
        "cvtColorTwoPlane",
        {"code": cv2.COLOR_YUV2BGR_NV12},
        (GREY, HALF),
        lambda: cv2.cvtColorTwoPlane(GREY, HALF, cv2.COLOR_YUV2BGR_NV12),
    ),
    ("GaussianBlur", {"ksize": (7, 7), "sigmaX": 2, "sigmaY": 2}, (GREY,), lambda: cv2.GaussianBlur(GREY, (7, 7), 2)),
    ("dilate", {"iterations": 2}, (COLOUR,), lambda: cv2.dilate(COLOUR, None, iterations=2)),
    ("erode", {}, (GREY,), lambda: cv2.erode(GREY, None)),
    ("morphologyEx", {"op": cv2.MORPH_OPEN}, (GREY,), lambda: cv2.morphologyEx(GREY, cv2.MORPH_OPEN, None)),
    ("filter2D", {"ddepth": -1, "kernel": SHARPEN}, (COLOUR,), lambda: cv2.filter2D(COLOUR, -1, SHARPEN)),
    ("Sobel", {"ddepth": cv2.CV_8U, "dx": 0, "dy": 1}, (GREY,), lambda: cv2.Sobel(GREY, cv2.CV_8U, 0, 1)),
    (
        "adaptiveThreshold",
        {"maxValue": 200, "adaptiveMethod": 0, "thresholdType": 0, "blockSize": 11, "C": 2},
        (GREY,),
        lambda: cv2.adaptiveThreshold(GREY, 200, 0, 0, 11, 2),
    ),
    (
        "matchTemplate",
        {"method": cv2.TM_CCORR_NORMED},
        (GREY, GREY[8:24, 8:40].copy()),
        lambda: cv2.matchTemplate(GREY, GREY[8:24, 8:40].copy(), cv2.TM_CCORR_NORMED),
    ),
    ("warpAffine", {"M": EYE[:2], "dsize": (64, 32)}, (COLOUR,), lambda: cv2.warpAffine(COLOUR, EYE[:2], (64, 32))),
    ("warpPerspective", {"M": EYE, "dsize": (64, 32)}, (GREY,), lambda: cv2.warpPerspective(GREY, EYE, (64, 32))),
    ("pyrDown", {}, (COLOUR,), lambda: cv2.pyrDown(COLOUR)),
    ("pyrUp", {"dstsize": (192, 128)}, (GREY,), lambda: cv2.pyrUp(GREY)),
    ("remap", {"interpolation": cv2.INTER_LINEAR}, (GREY, GRID), lambda: GREY),
]


@pytest.mark.parametrize(
    ("name", "arguments", "inputs", "oracle"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)
def test_result_shape_and_place(name, arguments, inputs, oracle):
    program = OpenCva(name, **arguments)
    run = EmulatedDevice("drp").run(program, *inputs)
    np.testing.assert_array_equal(run.outputs[0], oracle())
    assert (run.work.unit, run.work.place, run.work.reasons) == ("drp", "opencva", ())
    (empty,) = NullDevice("drp").run(program, *inputs).outputs
    assert (empty.shape, empty.dtype) == (run.outputs[0].shape, run.outputs[0].dtype)


def test_every_function_is_a_program():
    assert set(FUNCTIONS) == set(CONDITIONS) == {c[0] for c in CASES} | {"FAST", "StereoSGBM"}


def test_fast_finds_lone_dots():
    image = np.zeros((64, 64), np.uint8)
    dots = {(24, 20), (44, 20), (10, 50)}
    for x, y in dots:
        image[y, x] = 200
    (points,) = OpenCva("FAST", threshold=20).compute(image)
    assert {tuple(map(int, p[:2])) for p in points} == dots
    assert OpenCva("FAST").compute(np.zeros((64, 64), np.uint8))[0].shape == (0, 3)


def test_stereo_measures_a_known_disparity():
    right = np.random.default_rng(3).integers(0, 256, (64, 160), dtype=np.uint8)
    left = np.roll(right, 8, axis=1)
    program = OpenCva("StereoSGBM", numDisparities=32, blockSize=5, P1=8, P2=32, mode=MODE_SGM_DRP)
    (disparity,) = EmulatedDevice("drp").run(program, left, right).outputs
    assert np.median(disparity[8:-8, 48:-8]) == 8 * 16
    assert program.empty(left, right)[0].shape == disparity.shape


def test_a_call_outside_the_conditions_is_the_cpus_work_and_says_why():
    device = EmulatedDevice("drp")
    inside = device.run(OpenCva("GaussianBlur", ksize=(5, 5)), GREY)
    outside = device.run(OpenCva("GaussianBlur", ksize=(9, 9)), GREY)
    assert (inside.work.unit, inside.work.place, inside.work.reasons) == ("drp", "opencva", ())
    assert (outside.work.unit, outside.work.place) == ("cpu", "cpu") and "ksize" in outside.work.reasons[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OpenCva("Canny"), "no 'Canny'"),
        (lambda: OpenCva("pyrUp", size=3), "unknown argument 'size'"),
        (lambda: OpenCva("pyrUp").compute(GREY, GREY), "takes 1 image"),
        (lambda: OpenCva("GaussianBlur", ksize=(4, 4)).compute(GREY), "OpenCV refuses"),
    ],
)
def test_wrong_calls_are_errors(make, message):
    with pytest.raises(DrpError, match=message):
        make()
