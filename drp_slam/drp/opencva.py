# SPDX-License-Identifier: Apache-2.0
"""The 18 functions of the OpenCV Accelerator as programs, computed by OpenCV.

    run = device.run(OpenCva("GaussianBlur", ksize=(7, 7), sigmaX=2, sigmaY=2), image)

The real output is "almost identical, not exactly the same" as OpenCV's (README V1.40).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from drp_slam.drp.condition_rules import Call, channels_of, resize_target
from drp_slam.drp.conditions import MODE_SGM_DRP, check, complete
from drp_slam.drp.kernels import Arrays, Kernel
from drp_slam.errors import DrpError


@dataclass(frozen=True)
class Function:
    """`ops` are byte operations for each output value, a first-order count for the CPU's model."""

    compute: Callable[[Call], np.ndarray]
    kind: str
    ops: Callable[[Call], float]
    images: tuple[str, ...] = ("src",)
    shape: Callable[[Call], tuple[int, ...]] = lambda c: c["src"].shape
    dtype: type = np.uint8


class OpenCva(Kernel):
    """One call of one function; its images are the inputs: `src`, then `src2`, `templ` or `map1`.

    Raises DrpError for an unknown function or argument.
    """

    place = "opencva"

    def __init__(self, function: str, **arguments: Any) -> None:
        self._arguments = complete(function, arguments)
        self._function, self.name, self.kind = (FUNCTIONS[function], function, FUNCTIONS[function].kind)

    def reasons(self, *inputs: np.ndarray) -> list[str]:
        return check(self.name, self._call(inputs))

    def compute(self, *inputs: np.ndarray) -> Arrays:
        call = self._call(inputs)
        try:
            return (self._function.compute(call),)
        except cv2.error as error:
            raise DrpError(f"{self.name}: OpenCV refuses the call: {error.err}") from error

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros(self._function.shape(self._call(inputs)), self._function.dtype),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        call = self._call(inputs)
        made = float(np.prod(self._function.shape(call)))
        moved = made * np.dtype(self._function.dtype).itemsize + sum(i.nbytes for i in inputs)
        streamed = max(made, float(inputs[0].size)) * self._passes(call)
        return {"pixels": streamed, "ops": streamed * self._function.ops(call), "bytes": moved}

    def _passes(self, call: Call) -> float:
        if self.name == "StereoSGBM":
            return float(call["numDisparities"])
        return float(call.get("iterations", 1))

    def _call(self, inputs: tuple[np.ndarray, ...]) -> dict[str, Any]:
        names = self._function.images
        if len(inputs) != len(names):
            raise DrpError(f"{self.name} takes {len(names)} image(s) ({', '.join(names)}), not {len(inputs)}")
        return {**self._arguments, **dict(zip(names, inputs))}


def _fast(c: Call) -> np.ndarray:
    """(N, 3) float32: x, y, response."""
    detector = cv2.FastFeatureDetector.create(c["threshold"], c["nonmaxSuppression"], c["type"])
    points = detector.detect(c["src"])
    rows = [(*p.pt, p.response) for p in points]
    return np.array(rows, np.float32).reshape(-1, 3)


def _stereo(c: Call) -> np.ndarray:
    """(H, W) int16 disparity x 16, then median filtered on the CPU, as in the patch."""
    mode = cv2.STEREO_SGBM_MODE_SGBM if c["mode"] == MODE_SGM_DRP else c["mode"]
    matcher = cv2.StereoSGBM.create(
        minDisparity=c["minDisparity"],
        numDisparities=c["numDisparities"],
        blockSize=c["blockSize"],
        P1=c["P1"],
        P2=c["P2"],
        uniquenessRatio=c["uniquenessRatio"],
        mode=mode,
    )
    disparity = matcher.compute(c["src"], c["src2"])
    return cv2.medianBlur(disparity, 3) if c["mode"] == MODE_SGM_DRP else disparity


def _morphology(function: Callable[..., np.ndarray]) -> Callable[[Call], np.ndarray]:
    def compute(c: Call) -> np.ndarray:
        border = {} if c["borderValue"] is None else {"borderValue": c["borderValue"]}
        first = (c["src"], c["op"]) if function is cv2.morphologyEx else (c["src"],)
        return function(
            *first, c["kernel"], anchor=c["anchor"], iterations=c["iterations"], borderType=c["borderType"], **border
        )

    return compute


def _warp(function: Callable[..., np.ndarray]) -> Callable[[Call], np.ndarray]:
    return lambda c: function(c["src"], c["M"], c["dsize"], flags=c["flags"], borderMode=c["borderMode"])


def _channels(c: Call, height: int, width: int) -> tuple[int, ...]:
    return (height, width) + ((channels_of(c["src"]),) if c["src"].ndim == 3 else ())


def _warped_shape(c: Call) -> tuple[int, ...]:
    return _channels(c, c["dsize"][1], c["dsize"][0])


def _template_shape(c: Call) -> tuple[int, ...]:
    return tuple(s - t + 1 for s, t in zip(c["src"].shape[:2], c["templ"].shape[:2]))


def _scaled_shape(up: bool) -> Callable[[Call], tuple[int, ...]]:
    def shape(c: Call) -> tuple[int, ...]:
        if c["dstsize"] and all(c["dstsize"]):
            return _channels(c, c["dstsize"][1], c["dstsize"][0])
        return _channels(c, *(2 * n if up else (n + 1) // 2 for n in c["src"].shape[:2]))

    return shape


def _colour_shape(c: Call) -> tuple[int, ...]:
    return (*c["src"].shape[:2], 3)


def _constant(ops: float) -> Callable[[Call], float]:
    return lambda c: ops


FUNCTIONS: dict[str, Function] = {
    "resize": Function(
        lambda c: cv2.resize(c["src"], resize_target(c), interpolation=c["interpolation"]),
        "stencil",
        _constant(8),
        shape=lambda c: _channels(c, *resize_target(c)[::-1]),
    ),
    "cvtColor": Function(
        lambda c: cv2.cvtColor(c["src"], c["code"], dstCn=c["dstCn"]), "point", _constant(5), shape=_colour_shape
    ),
    "cvtColorTwoPlane": Function(
        lambda c: cv2.cvtColorTwoPlane(c["src"], c["src2"], c["code"]),
        "point",
        _constant(5),
        ("src", "src2"),
        _colour_shape,
    ),
    "GaussianBlur": Function(
        lambda c: cv2.GaussianBlur(c["src"], c["ksize"], c["sigmaX"], sigmaY=c["sigmaY"], borderType=c["borderType"]),
        "stencil",
        lambda c: 2.0 * sum(c["ksize"]),
    ),
    "dilate": Function(_morphology(cv2.dilate), "stencil", _constant(4)),
    "erode": Function(_morphology(cv2.erode), "stencil", _constant(4)),
    "morphologyEx": Function(_morphology(cv2.morphologyEx), "stencil", _constant(8)),
    "filter2D": Function(
        lambda c: cv2.filter2D(
            c["src"], c["ddepth"], c["kernel"], anchor=c["anchor"], delta=c["delta"], borderType=c["borderType"]
        ),
        "stencil",
        lambda c: 2.0 * c["kernel"].size,
    ),
    "Sobel": Function(
        lambda c: cv2.Sobel(
            c["src"],
            c["ddepth"],
            c["dx"],
            c["dy"],
            ksize=c["ksize"],
            scale=c["scale"],
            delta=c["delta"],
            borderType=c["borderType"],
        ),
        "stencil",
        _constant(10),
    ),
    "adaptiveThreshold": Function(
        lambda c: cv2.adaptiveThreshold(
            c["src"], c["maxValue"], c["adaptiveMethod"], c["thresholdType"], c["blockSize"], c["C"]
        ),
        "stencil",
        _constant(8),
    ),
    "matchTemplate": Function(
        lambda c: cv2.matchTemplate(c["src"], c["templ"], c["method"], mask=c["mask"]),
        "stencil",
        lambda c: 2.0 * c["templ"].size,
        ("src", "templ"),
        _template_shape,
        np.float32,
    ),
    "warpAffine": Function(_warp(cv2.warpAffine), "gather", _constant(16), shape=_warped_shape),
    "warpPerspective": Function(_warp(cv2.warpPerspective), "gather", _constant(24), shape=_warped_shape),
    "pyrDown": Function(
        lambda c: cv2.pyrDown(c["src"], dstsize=c["dstsize"], borderType=c["borderType"]),
        "stencil",
        _constant(12),
        shape=_scaled_shape(up=False),
    ),
    "pyrUp": Function(
        lambda c: cv2.pyrUp(c["src"], dstsize=c["dstsize"], borderType=c["borderType"]),
        "stencil",
        _constant(12),
        shape=_scaled_shape(up=True),
    ),
    "FAST": Function(_fast, "stencil", _constant(24), shape=lambda c: (0, 3), dtype=np.float32),
    "remap": Function(
        lambda c: cv2.remap(c["src"], c["map1"], c["map2"], c["interpolation"], borderMode=c["borderMode"]),
        "gather",
        _constant(12),
        ("src", "map1"),
        lambda c: _channels(c, *c["map1"].shape[:2]),
    ),
    "StereoSGBM": Function(_stereo, "stencil", _constant(12), ("src", "src2"), dtype=np.int16),
}
