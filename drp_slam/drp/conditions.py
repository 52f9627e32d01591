# SPDX-License-Identifier: Apache-2.0
"""Conditions under which the OpenCV Accelerator runs a call on the DRP.

The 18 functions of rzv2h_opencv_accelerator V1.40 (README section 4, and its patch where that states
more). A call runs on the DRP only when every condition holds; otherwise the accelerator silently
runs the ordinary CPU function. `check` reports it. One exception: `StereoSGBM` with
`MODE_SGM_DRP` raises (-502).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from drp_slam.drp.condition_rules import (
    FHD,
    UHD,
    Call,
    Condition,
    absent,
    between,
    channels_of,
    default_border,
    gaussian_sigma,
    ignored,
    image,
    matrix,
    one_of,
    rectangle,
    resized,
    scaled,
    size,
)
from drp_slam.errors import DrpError

MODE_SGM_DRP = 4
"""StereoSGBM mode that exists in the accelerator's OpenCV only."""

_LINEAR = one_of("interpolation", cv2.INTER_LINEAR, states="INTER_LINEAR")
_CONSTANT = one_of("borderMode", cv2.BORDER_CONSTANT, states="BORDER_CONSTANT")
_ANCHOR = one_of("anchor", (-1, -1))
_FILTER = image("src", (16, 16))


def _codes(names: str) -> Condition:
    """`COLOR_YUV2{RGB,BGR}_{names}`."""
    full = [f"COLOR_YUV2{order}_{name}" for order in ("RGB", "BGR") for name in names.split()]
    return one_of("code", *(getattr(cv2, n) for n in full), states=" or ".join(full))


def _fits(call: Call) -> bool:
    small, big = call["templ"].shape[:2], call["src"].shape[:2]
    return small[0] <= big[0] and small[1] <= big[1]


_MORPHOLOGY = [
    *_FILTER,
    rectangle(),
    _ANCHOR,
    between("iterations", 1, 3840),
    one_of("borderType", cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, states="BORDER_CONSTANT or BORDER_REPLICATE"),
    one_of("borderValue", None, states="morphologyDefaultBorderValue()"),
]

_WARP = [size("dsize", 16, UHD, step=2), one_of("flags", cv2.INTER_LINEAR, states="INTER_LINEAR"), _CONSTANT]


def _limit(by_width: tuple[int, int, int], call: Call) -> int:
    """A StereoSGBM limit: images up to 640, up to 1280, wider."""
    width = call["src"].shape[1]
    return by_width[0] if width <= 640 else by_width[1] if width <= 1280 else by_width[2]


_STEREO = [
    *image("src", (32, 32), FHD, step=1, channels=(1, 1)),
    Condition("src", "a width that is a multiple of 4", lambda c: c["src"].shape[1] % 4 == 0),
    Condition(
        "src2", "8 bit and as large as src", lambda c: c["src2"].shape == c["src"].shape and c["src2"].dtype == np.uint8
    ),
    one_of("minDisparity", 0),
    Condition(
        "numDisparities",
        "16 to 256 (128 for images wider than 1280), multiple of 16",
        lambda c: 16 <= c["numDisparities"] <= _limit((256, 256, 128), c) and c["numDisparities"] % 16 == 0,
    ),
    one_of("blockSize", 3, 5, 7, 9, 11),
    Condition(
        "P1",
        "1 to 79 / 49 / 29 (width to 640 / 1280 / 1920), less than P2",
        lambda c: 1 <= c["P1"] <= _limit((79, 49, 29), c) and c["P1"] < c["P2"],
    ),
    Condition(
        "P2",
        "2 to 80 / 50 / 30 (width to 640 / 1280 / 1920), more than P1",
        lambda c: 2 <= c["P2"] <= _limit((80, 50, 30), c) and c["P1"] < c["P2"],
    ),
    ignored("disp12MaxDiff"),
    ignored("preFilterCap"),
    between("uniquenessRatio", 0, 100),
    ignored("speckleWindowSize"),
    ignored("speckleRange"),
    one_of("mode", MODE_SGM_DRP, states="MODE_SGM_DRP"),
]

CONDITIONS: dict[str, list[Condition]] = {
    "resize": [
        *image("src", (2, 2), step=1),
        resized("dsize", (0, 1), by_scale=False),
        resized("fx", (0,), by_scale=True),
        resized("fy", (1,), by_scale=True),
        _LINEAR,
    ],
    "cvtColor": [*image("src", (4, 6), None, channels=(2, 2)), _codes("UYVY YUY2 YVYU"), one_of("dstCn", 0)],
    "cvtColorTwoPlane": [
        *image("src", (4, 6), None, channels=(1, 1)),
        Condition(
            "src2",
            "half as wide and high as src, 2 channels, 8 bit",
            lambda c: (
                c["src2"].dtype == np.uint8 and c["src2"].shape == (c["src"].shape[0] // 2, c["src"].shape[1] // 2, 2)
            ),
        ),
        _codes("NV12 NV21"),
    ],
    "GaussianBlur": [
        *_FILTER,
        one_of("ksize", (3, 3), (5, 5), (7, 7)),
        gaussian_sigma("sigmaX"),
        gaussian_sigma("sigmaY"),
        default_border(),
    ],
    "dilate": _MORPHOLOGY,
    "erode": _MORPHOLOGY,
    "morphologyEx": _MORPHOLOGY,
    "filter2D": [
        *_FILTER,
        one_of("ddepth", -1),
        Condition(
            "kernel",
            "3 x 3 CV_32F of -128 to 127",
            lambda c: (
                c["kernel"].shape == (3, 3)
                and c["kernel"].dtype == np.float32
                and bool(np.all((c["kernel"] >= -128) & (c["kernel"] <= 127)))
            ),
        ),
        _ANCHOR,
        one_of("delta", 0),
        default_border(),
    ],
    "Sobel": [
        *_FILTER,
        one_of("ddepth", cv2.CV_8U, states="CV_8U"),
        Condition("dx", "dx 1 and dy 0, or dx 0 and dy 1", lambda c: (c["dx"], c["dy"]) in ((0, 1), (1, 0))),
        one_of("ksize", 3),
        one_of("scale", 1),
        one_of("delta", 0),
        default_border(),
    ],
    "adaptiveThreshold": [
        *image("src", (16, 16), channels=(1, 1)),
        between("maxValue", 0, 255),
        one_of("adaptiveMethod", cv2.ADAPTIVE_THRESH_MEAN_C, states="ADAPTIVE_THRESH_MEAN_C"),
        one_of("thresholdType", cv2.THRESH_BINARY, cv2.THRESH_BINARY_INV, states="THRESH_BINARY or THRESH_BINARY_INV"),
        between("blockSize", 3, 255, step=2),
        between("C", 0, 255),
    ],
    "matchTemplate": [
        *image("src", (16, 16), FHD),
        *image("templ", (8, 8), FHD),
        Condition("templ", "no larger than src", _fits),
        Condition("templ", "as many channels as src", lambda c: channels_of(c["templ"]) == channels_of(c["src"])),
        one_of(
            "method",
            cv2.TM_SQDIFF,
            cv2.TM_SQDIFF_NORMED,
            cv2.TM_CCORR,
            cv2.TM_CCORR_NORMED,
            states="TM_SQDIFF(_NORMED) or TM_CCORR(_NORMED)",
        ),
        absent("mask"),
    ],
    "warpAffine": [*_FILTER, matrix("M", (2, 3)), *_WARP],
    "warpPerspective": [*_FILTER, matrix("M", (3, 3)), *_WARP],
    "pyrDown": [*_FILTER, scaled("dstsize", lambda n: n // 2, "half of src"), default_border()],
    "pyrUp": [*image("src", (8, 8), FHD), scaled("dstsize", lambda n: 2 * n, "twice src"), default_border()],
    "FAST": [
        *image("src", (16, 16), channels=(1, 1)),
        between("threshold", 0, 255),
        one_of("nonmaxSuppression", True),
        one_of("type", cv2.FAST_FEATURE_DETECTOR_TYPE_9_16, states="TYPE_9_16"),
    ],
    "remap": [
        *_FILTER,
        Condition(
            "map1",
            "16 x 16 to 3840 x 2160, even",
            lambda c: all(16 <= n <= limit and n % 2 == 0 for n, limit in zip(c["map1"].shape, UHD[::-1])),
        ),
        Condition(
            "map1",
            "CV_32FC2, continuous",
            lambda c: c["map1"].dtype == np.float32 and channels_of(c["map1"]) == 2 and c["map1"].flags.c_contiguous,
        ),
        absent("map2"),
        _LINEAR,
        _CONSTANT,
    ],
    "StereoSGBM": _STEREO,
}
"""Conditions of each function. Image arguments are `src` and `src2`; the rest is OpenCV's name."""

_MORPHOLOGY_DEFAULTS = {
    "kernel": None,
    "anchor": (-1, -1),
    "iterations": 1,
    "borderType": cv2.BORDER_CONSTANT,
    "borderValue": None,
}
_WARP_DEFAULTS = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_CONSTANT}

DEFAULTS: dict[str, dict[str, Any]] = {
    "resize": {"dsize": None, "fx": 0.0, "fy": 0.0, "interpolation": cv2.INTER_LINEAR},
    "cvtColor": {"dstCn": 0},
    "GaussianBlur": {"sigmaX": 0, "sigmaY": 0, "borderType": cv2.BORDER_DEFAULT},
    "dilate": _MORPHOLOGY_DEFAULTS,
    "erode": _MORPHOLOGY_DEFAULTS,
    "morphologyEx": _MORPHOLOGY_DEFAULTS,
    "filter2D": {"anchor": (-1, -1), "delta": 0, "borderType": cv2.BORDER_DEFAULT},
    "Sobel": {"ksize": 3, "scale": 1, "delta": 0, "borderType": cv2.BORDER_DEFAULT},
    "matchTemplate": {"mask": None},
    "warpAffine": _WARP_DEFAULTS,
    "warpPerspective": _WARP_DEFAULTS,
    "pyrDown": {"dstsize": None, "borderType": cv2.BORDER_DEFAULT},
    "pyrUp": {"dstsize": None, "borderType": cv2.BORDER_DEFAULT},
    "FAST": {"threshold": 10, "nonmaxSuppression": True, "type": cv2.FAST_FEATURE_DETECTOR_TYPE_9_16},
    "remap": {"map2": None, "borderMode": cv2.BORDER_CONSTANT},
    "StereoSGBM": {
        "minDisparity": 0,
        "numDisparities": 16,
        "blockSize": 3,
        "P1": 0,
        "P2": 0,
        "disp12MaxDiff": 0,
        "preFilterCap": 0,
        "uniquenessRatio": 0,
        "speckleWindowSize": 0,
        "speckleRange": 0,
        "mode": 0,
    },
}
"""OpenCV's default arguments."""


def complete(function: str, arguments: Call) -> dict[str, Any]:
    """The arguments with OpenCV's defaults. Raises DrpError for an unknown function or name."""
    if function not in CONDITIONS:
        raise DrpError(f"the OpenCV Accelerator has no {function!r}; it has {', '.join(CONDITIONS)}")
    known = {c.parameter for c in CONDITIONS[function]} | {"dy", "op"}
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise DrpError(f"{function}: unknown argument {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return {**DEFAULTS.get(function, {}), **arguments}


def check(function: str, arguments: Call) -> list[str]:
    """Reasons why the call runs on the CPU instead of the DRP; [] if it runs on the DRP.

    `arguments` are OpenCV's own names, images being `src` and `src2`; absent ones have OpenCV's
    default. Raises DrpError for an unknown function or argument, for a missing argument, and for
    StereoSGBM with MODE_SGM_DRP outside its conditions, like the original.
    """
    call = complete(function, arguments)
    try:
        failed = [c for c in CONDITIONS[function] if not c.holds(call)]
    except KeyError as error:
        raise DrpError(f"{function}: argument {error} is missing") from error
    reasons = [f"{c.parameter} is {_shown(call[c.parameter])}, needs {c.states}" for c in failed]
    if function == "StereoSGBM" and call["mode"] == MODE_SGM_DRP and reasons:
        raise DrpError(
            "StereoSGBM: OpenCVADRPParameterError (-502): " + "; ".join(reasons) + "; another mode would run on the CPU"
        )
    return reasons


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {' x '.join(map(str, value.shape))}"
    return repr(value)
