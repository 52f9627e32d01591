# SPDX-License-Identifier: Apache-2.0
"""Every row of the OpenCV Accelerator's conditions, on both sides of its boundary."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from drp_slam.drp.conditions import CONDITIONS, MODE_SGM_DRP, check
from drp_slam.errors import DrpError


def img(w: int, h: int, c: int = 1, dtype: type = np.uint8) -> np.ndarray:
    """A view of one element: images of any size cost nothing."""
    return np.broadcast_to(np.zeros((), dtype), (h, w) if c == 1 else (h, w, c))


VGA = img(640, 480)
BLUR = {"src": VGA, "ksize": (3, 3)}
MORPH = {"src": VGA}
ADAPTIVE = {
    "src": VGA,
    "maxValue": 255,
    "adaptiveMethod": cv2.ADAPTIVE_THRESH_MEAN_C,
    "thresholdType": cv2.THRESH_BINARY,
    "blockSize": 11,
    "C": 2,
}
MATCH = {"src": VGA, "templ": img(32, 32), "method": cv2.TM_SQDIFF}
AFFINE = {"src": VGA, "M": np.eye(2, 3, dtype=np.float32), "dsize": (640, 480)}
PERSPECTIVE = {**AFFINE, "M": np.eye(3, dtype=np.float32)}
MAP = np.zeros((480, 640, 2), np.float32)
STEREO = {"src": VGA, "src2": VGA, "numDisparities": 64, "blockSize": 5, "P1": 8, "P2": 32, "mode": MODE_SGM_DRP}

BASE = {
    "resize": {"src": VGA, "dsize": (320, 240), "interpolation": cv2.INTER_LINEAR},
    "cvtColor": {"src": img(640, 480, 2), "code": cv2.COLOR_YUV2BGR_YUY2},
    "cvtColorTwoPlane": {"src": VGA, "src2": img(320, 240, 2), "code": cv2.COLOR_YUV2BGR_NV12},
    "GaussianBlur": BLUR,
    "dilate": MORPH,
    "erode": MORPH,
    "morphologyEx": {**MORPH, "op": cv2.MORPH_OPEN},
    "filter2D": {"src": VGA, "ddepth": -1, "kernel": np.ones((3, 3), np.float32)},
    "Sobel": {"src": VGA, "ddepth": cv2.CV_8U, "dx": 1, "dy": 0},
    "adaptiveThreshold": ADAPTIVE,
    "matchTemplate": MATCH,
    "warpAffine": AFFINE,
    "warpPerspective": PERSPECTIVE,
    "pyrDown": {"src": VGA},
    "pyrUp": {"src": VGA},
    "FAST": {"src": VGA},
    "remap": {"src": VGA, "map1": MAP, "interpolation": cv2.INTER_LINEAR},
    "StereoSGBM": STEREO,
}

YUV422 = [f"COLOR_YUV2{o}_{n}" for o in ("RGB", "BGR") for n in ("UYVY", "YUY2", "YVYU")]
NV = [f"COLOR_YUV2{o}_{n}" for o in ("RGB", "BGR") for n in ("NV12", "NV21")]


def even_images(w: int, h: int, most: tuple[int, int] | None, name: str = "src"):
    """(inside, outside) values of an image argument with these limits."""
    inside = [img(w, h), img(w + 2, h), img(w, h + 2)]
    outside = [img(w - 2, h), img(w, h - 2), img(w + 1, h), img(w, h + 1), img(w, h, 1, np.uint16)]
    if most:
        inside.append(img(*most))
        outside += [img(most[0] + 2, most[1]), img(most[0], most[1] + 2)]
    return name, inside, outside


def coloured(w: int, h: int):
    return "src", [img(w, h, 2), img(w, h, 3), img(w, h, 4)], [img(w, h, 5)]


UHD, FHD = (3840, 2160), (1920, 1080)
FILTERS = (
    "GaussianBlur",
    "dilate",
    "erode",
    "morphologyEx",
    "filter2D",
    "Sobel",
    "warpAffine",
    "warpPerspective",
    "pyrDown",
    "remap",
)
ROWS: list[tuple[str, str, list, list]] = [
    (
        "resize",
        "src",
        [img(2, 2), img(3, 3), img(3840, 2160), img(64, 64, 4)],
        [img(1, 2), img(2, 1), img(3841, 2160), img(3840, 2161), img(64, 64, 5), img(64, 64, 1, np.uint16)],
    ),
    ("resize", "dsize", [(2, 2), (3840, 2160)], [(1, 2), (2, 1), (3841, 2160), (3840, 2161)]),
    ("resize", "interpolation", [cv2.INTER_LINEAR], [cv2.INTER_AREA, cv2.INTER_NEAREST]),
    (
        "cvtColor",
        "src",
        [img(4, 6, 2), img(9998, 6, 2)],
        [img(2, 6, 2), img(4, 4, 2), img(5, 6, 2), img(4, 7, 2), img(4, 6, 3), img(4, 6), img(4, 6, 2, np.uint16)],
    ),
    ("cvtColor", "code", [getattr(cv2, n) for n in YUV422], [cv2.COLOR_BGR2GRAY]),
    ("cvtColor", "dstCn", [0], [3]),
    (
        "cvtColorTwoPlane",
        "src2",
        [img(320, 240, 2)],
        [img(320, 240), img(320, 238, 2), img(640, 480, 2), img(320, 240, 2, np.uint16)],
    ),
    ("cvtColorTwoPlane", "code", [getattr(cv2, n) for n in NV], [cv2.COLOR_YUV2BGR_YUY2]),
    ("GaussianBlur", "ksize", [(3, 3), (5, 5), (7, 7)], [(1, 1), (9, 9), (3, 5)]),
    ("GaussianBlur", "sigmaX", [0], [0.5, 2]),
    ("GaussianBlur", "sigmaY", [0], [0.5, 2]),
    ("GaussianBlur", "borderType", [cv2.BORDER_REFLECT_101], [cv2.BORDER_REPLICATE]),
    *(
        (f, p, good, bad)
        for f in ("dilate", "erode", "morphologyEx")
        for p, good, bad in (
            ("kernel", [None, np.ones((3, 3), np.uint8)], [np.ones((5, 5), np.uint8), np.eye(3, dtype=np.uint8)]),
            ("anchor", [(-1, -1)], [(0, 0)]),
            ("iterations", [1, 3840], [0, 3841]),
            ("borderType", [cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE], [cv2.BORDER_REFLECT_101]),
            ("borderValue", [None], [(0, 0, 0, 0)]),
        )
    ),
    ("filter2D", "ddepth", [-1], [cv2.CV_32F]),
    (
        "filter2D",
        "kernel",
        [np.full((3, 3), 127, np.float32), np.full((3, 3), -128, np.float32)],
        [
            np.full((3, 3), 127.5, np.float32),
            np.full((3, 3), -129, np.float32),
            np.ones((5, 5), np.float32),
            np.ones((3, 3)),
        ],
    ),
    ("filter2D", "anchor", [(-1, -1)], [(1, 1)]),
    ("filter2D", "delta", [0], [1]),
    ("filter2D", "borderType", [cv2.BORDER_DEFAULT], [cv2.BORDER_CONSTANT]),
    ("Sobel", "ddepth", [cv2.CV_8U], [cv2.CV_16S, -1]),
    ("Sobel", "dx", [1], [0, 2]),
    ("Sobel", "dy", [0], [1]),
    ("Sobel", "ksize", [3], [1, 5]),
    ("Sobel", "scale", [1], [2]),
    ("Sobel", "delta", [0], [1]),
    ("Sobel", "borderType", [cv2.BORDER_DEFAULT], [cv2.BORDER_REPLICATE]),
    ("adaptiveThreshold", "maxValue", [0, 255], [-1, 256]),
    ("adaptiveThreshold", "adaptiveMethod", [cv2.ADAPTIVE_THRESH_MEAN_C], [cv2.ADAPTIVE_THRESH_GAUSSIAN_C]),
    ("adaptiveThreshold", "thresholdType", [cv2.THRESH_BINARY, cv2.THRESH_BINARY_INV], [cv2.THRESH_TRUNC]),
    ("adaptiveThreshold", "blockSize", [3, 255], [1, 4, 257]),
    ("adaptiveThreshold", "C", [0, 255], [-1, 256]),
    ("adaptiveThreshold", *even_images(16, 16, UHD)),
    ("adaptiveThreshold", "src", [VGA], [img(640, 480, 3)]),
    ("FAST", *even_images(16, 16, UHD)),
    ("FAST", "src", [VGA], [img(640, 480, 3)]),
    ("FAST", "threshold", [0, 255], [-1, 256]),
    ("FAST", "nonmaxSuppression", [True], [False]),
    ("FAST", "type", [cv2.FAST_FEATURE_DETECTOR_TYPE_9_16], [cv2.FAST_FEATURE_DETECTOR_TYPE_5_8]),
    (
        "matchTemplate",
        "src",
        [img(32, 32), img(1920, 1080)],
        [img(33, 32), img(1922, 1080), img(1920, 1082), img(64, 64, 3), img(30, 32)],
    ),
    (
        "matchTemplate",
        "templ",
        [img(8, 8), VGA],
        [img(6, 8), img(8, 6), img(9, 8), img(642, 480), img(8, 8, 3), img(8, 8, 1, np.uint16)],
    ),
    (
        "matchTemplate",
        "method",
        [cv2.TM_SQDIFF, cv2.TM_SQDIFF_NORMED, cv2.TM_CCORR, cv2.TM_CCORR_NORMED],
        [cv2.TM_CCOEFF, cv2.TM_CCOEFF_NORMED],
    ),
    ("matchTemplate", "mask", [None], [img(32, 32)]),
    *(
        (f, p, good, bad)
        for f in ("warpAffine", "warpPerspective")
        for p, good, bad in (
            ("M", [BASE[f]["M"]], [BASE[f]["M"].astype(np.float64)]),
            ("dsize", [(16, 16), UHD], [(14, 16), (16, 14), (17, 16), (16, 17), (3842, 2160), (3840, 2162)]),
            ("flags", [cv2.INTER_LINEAR], [cv2.INTER_NEAREST]),
            ("borderMode", [cv2.BORDER_CONSTANT], [cv2.BORDER_REPLICATE]),
        )
    ),
    ("pyrDown", "dstsize", [None, (0, 0), (320, 240)], [(321, 240), (640, 480)]),
    ("pyrDown", "borderType", [cv2.BORDER_DEFAULT], [cv2.BORDER_REPLICATE]),
    ("pyrUp", *even_images(8, 8, FHD)),
    ("pyrUp", "dstsize", [None, (0, 0), (1280, 960)], [(1281, 960), (640, 480)]),
    ("pyrUp", "borderType", [cv2.BORDER_DEFAULT], [cv2.BORDER_REPLICATE]),
    (
        "remap",
        "map1",
        [MAP, np.zeros((16, 16, 2), np.float32), np.zeros((2160, 3840, 2), np.float32)],
        [
            MAP.astype(np.float64),
            MAP[..., 0],
            MAP[:, ::2],
            np.zeros((14, 16, 2), np.float32),
            np.zeros((16, 17, 2), np.float32),
            np.zeros((16, 3842, 2), np.float32),
        ],
    ),
    ("remap", "map2", [None], [MAP[..., 0]]),
    ("remap", "interpolation", [cv2.INTER_LINEAR], [cv2.INTER_CUBIC]),
    ("remap", "borderMode", [cv2.BORDER_CONSTANT], [cv2.BORDER_REPLICATE]),
    *((f, *even_images(16, 16, UHD)) for f in FILTERS),
    *((f, *coloured(640, 480)) for f in FILTERS),
]


@pytest.mark.parametrize(
    ("function", "parameter", "inside", "outside"), ROWS, ids=[f"{i}-{r[0]}-{r[1]}" for i, r in enumerate(ROWS)]
)
def test_both_sides_of_a_condition(function, parameter, inside, outside):
    for value in inside:
        assert check(function, {**BASE[function], parameter: value}) == [], value
    for value in outside:
        assert check(function, {**BASE[function], parameter: value}), value


def test_rows_cover_every_condition():
    tested = {(r[0], r[1]) for r in ROWS}
    stated = {(f, c.parameter) for f, rules in CONDITIONS.items() for c in rules}
    elsewhere = {("cvtColorTwoPlane", "src"), ("resize", "fx"), ("resize", "fy")}
    stereo = {s for s in stated if s[0] == "StereoSGBM"}
    assert stated - tested == elsewhere | stereo
    assert len(CONDITIONS) == 18


def test_two_plane_source():
    def reasons(w: int, h: int, c: int = 1) -> list[str]:
        call = {**BASE["cvtColorTwoPlane"], "src": img(w, h, c), "src2": img(w // 2, h // 2, 2)}
        return check("cvtColorTwoPlane", call)

    assert not reasons(4, 6) and not reasons(640, 480)
    assert reasons(2, 6) and reasons(4, 4) and reasons(5, 6) and reasons(4, 7) and reasons(4, 6, 2)


def test_resize_by_scale_counts_only_without_dsize():
    def reasons(src: np.ndarray, **more: object) -> list[str]:
        return check("resize", {"src": src, "dsize": None, **more})

    assert not reasons(img(100, 100), fx=0.02, fy=0.02)
    assert not reasons(img(1920, 1080), fx=2.0, fy=2.0)
    assert reasons(img(100, 100), fx=0.01, fy=0.02) and reasons(img(100, 100), fx=0.02, fy=0.01)
    assert reasons(img(1922, 1080), fx=2.0, fy=2.0) and reasons(img(1920, 1082), fx=2.0, fy=2.0)
    assert not check("resize", {"src": VGA, "dsize": (2, 2), "fx": 99.0, "fy": 99.0})


def test_gaussian_exception_is_the_blur_before_orb():
    orb = {"src": VGA, "ksize": (7, 7), "sigmaX": 2, "sigmaY": 2}
    assert check("GaussianBlur", orb) == []
    for change in ({"src": img(640, 480, 3)}, {"ksize": (5, 5)}, {"sigmaX": 1}, {"sigmaY": 1}):
        assert check("GaussianBlur", {**orb, **change})


def test_a_reason_names_value_and_limit():
    (reason,) = check("FAST", {"src": VGA, "threshold": 300})
    assert reason == "threshold is 300, needs 0 to 255"


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("Canny", {}, "no 'Canny'"),
        ("FAST", {}, "'src' is missing"),
        ("FAST", {"source": VGA}, "unknown argument 'source'"),
    ],
)
def test_wrong_calls_are_errors(function, arguments, message):
    with pytest.raises(DrpError, match=message):
        check(function, arguments)
