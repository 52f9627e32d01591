# SPDX-License-Identifier: Apache-2.0
"""Calibration from CameraInfo, of bags and of live topics: one camera, or a stereo pair.

Messages are those of rclpy or of the `rosbags` typestore. Every function raises DataError, whose message begins with
the topic, for a model that this package does not have and for numbers out of range.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from drp_slam.datatypes import DISTORTION, Camera
from drp_slam.errors import DataError

LARGEST_PX = 16384
"""Longest side of an accepted image."""
MOST_FOCAL = 100.0
"""Largest ratio of the focal length to the image's longer side, and of the side to the focal length."""
MOST_DISTORTION = 1e4
LONGEST_BASELINE_M = 100.0
POLYNOMIAL = {0: "plumb_bob", 4: "plumb_bob", 5: "plumb_bob", 8: "rational_polynomial"}
"""OpenCV distinguishes these models by the number of coefficients; drivers mix up the names."""
OTHER_NAMES = {
    "": "plumb_bob",
    "none": "plumb_bob",
    "pinhole": "plumb_bob",
    "radtan": "plumb_bob",
    "radial-tangential": "plumb_bob",
    "brown_conrady": "plumb_bob",
    "opencv": "plumb_bob",
    "fisheye": "equidistant",
    "kannala_brandt": "equidistant",
    "kannalabrandt8": "equidistant",
}
"""Other names of the models of `DISTORTION`, in lower case."""


def camera_of(info: Any, topic: str = "camera_info", rectified: bool = False) -> Camera:
    """The calibration of the published images, with binning and region of interest applied.

    For `rectified` images it is P without distortion: K and D belong to the raw images. Drivers that fill only one of K
    and P mean the published images; a K with distortion cannot belong to rectified ones. Raises DataError.
    """
    K, d = np.array(info.k, np.float64).reshape(3, 3), np.array(info.d, np.float64)
    P = np.array(info.p, np.float64).reshape(3, 4)
    if P[0, 0] > 0 and (rectified or not (K[0, 0] > 0 or d.any())):
        K, model, d = P[:, :3], "plumb_bob", np.zeros(5)
    elif rectified and d.any():
        raise DataError(
            f"{topic}: P is zero, and K with distortion belongs to raw images: not calibrated for rectified ones; "
            "publish P, or name a calibration with --camera"
        )
    else:
        model, d = distortion_of(info.distortion_model, d, topic)
    roi = info.roi
    size_px = np.array([roi.width or info.width, roi.height or info.height], np.float64)
    binning = np.array([max(info.binning_x, 1), max(info.binning_y, 1)], np.float64)
    if not (size_px.min() >= 1 and size_px.max() <= LARGEST_PX):
        raise DataError(f"{topic}: an image of {info.width}x{info.height}; expected 1 to {LARGEST_PX} pixels a side")
    focal_px, centre_px = np.array([K[0, 0], K[1, 1]]), np.array([K[0, 2], K[1, 2]])
    longest = max(size_px.max(), info.width, info.height)
    # Written so that NaN is refused, too.
    if not np.all((focal_px >= longest / MOST_FOCAL) & (focal_px <= longest * MOST_FOCAL)):
        raise DataError(
            f"{topic}: focal lengths {focal_px[0]:g}, {focal_px[1]:g} for {info.width}x{info.height}: not calibrated; "
            "run a camera calibration, or name one with --camera"
        )
    if not np.all(np.abs(centre_px) <= 2 * longest) or not np.all(np.abs(d) <= MOST_DISTORTION):
        raise DataError(
            f"{topic}: principal point {centre_px[0]:g}, {centre_px[1]:g}, distortion {np.round(d, 4).tolist()}: out "
            "of range; run a camera calibration"
        )
    width, height = (int(side) for side in size_px // binning)
    fx, fy = (focal_px / binning).tolist()
    cx, cy = ((centre_px - (roi.x_offset, roi.y_offset)) / binning).tolist()
    return Camera(width, height, fx, fy, cx, cy, d, model=model)


def is_calibrated(info: Any) -> bool:
    """Whether K or P of a CameraInfo is set: drivers without a calibration leave both zero."""
    return bool(info.k[0] > 0 or info.p[0] > 0)


def distortion_of(name: str, d: np.ndarray, where: str) -> tuple[str, np.ndarray]:
    """Model and coefficients of `Camera` from the name and the numbers that a driver or a file gives."""
    lower = name.strip().lower()
    model = OTHER_NAMES.get(lower, lower)
    if model in ("plumb_bob", "rational_polynomial"):
        if len(d) > 8 and not d[8:].any():
            d = d[:8]
        if len(d) == 8 and not d[5:].any():
            d = d[:5]
        model = POLYNOMIAL.get(len(d), "")
    if model not in DISTORTION or (model == "equidistant" and len(d) != DISTORTION[model]):
        known = ", ".join(f"{m} with {count}" for m, count in DISTORTION.items())
        raise DataError(
            f"{where}: distortion model {name!r} with {len(d)} numbers; expected {known}: rectify the images"
        )
    return model, np.concatenate([d, np.zeros(DISTORTION[model] - len(d))])


def pair_of(
    left: Any, right: Any, rectified: bool = False, topics: tuple[str, str] = ("camera_info", "right_camera_info")
) -> Camera:
    """The left camera with its baseline, and with the right one if the images are raw.

    P of the right image holds the baseline: P[0, 3] = -fx baseline. `rectified`: the images are rectified, whatever K
    and D state, which then belong to the raw ones. Raises DataError for a pair without a baseline.
    """
    cameras = [camera_of(left, topics[0], rectified), camera_of(right, topics[1], rectified)]
    R = [np.array(m.r, np.float64).reshape(3, 3) for m in (left, right)]
    baseline_m = baseline_of(left, right)
    if not 0 < baseline_m < LONGEST_BASELINE_M:
        P = np.array(right.p, np.float64).reshape(3, 4)
        raise DataError(
            f"{topics[1]}: P has fx {P[0, 0]:g} and Tx {P[0, 3]:g}: no baseline; calibrate the pair (Tx = -fx "
            "times the baseline in m)"
        )
    raw = any(np.any(c.distortion) for c in cameras) or not all(np.allclose(r, np.eye(3), atol=1e-9) for r in R)
    if rectified or not raw:
        return replace(camera_of(left, topics[0], rectified=True), baseline_m=baseline_m)
    T_right_left = np.eye(4)
    T_right_left[:3, :3] = R[1].T @ R[0]
    T_right_left[:3, 3] = R[1].T @ [-baseline_m, 0.0, 0.0]
    return replace(cameras[0], baseline_m=baseline_m, right=cameras[1], T_right_left=T_right_left)


def raw_rectification(camera: Camera) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Rotations (3, 3) and projections (3, 4) of left and right that rectify a raw pair: R and P for `pair_of`."""
    right, T = camera.right, camera.T_right_left
    assert right is not None and T is not None
    size, R, t = (camera.width, camera.height), T[:3, :3].copy(), T[:3, 3:].copy()
    arguments = (camera.K, camera.distortion, right.K, right.distortion, size, R, t)
    if camera.model == "equidistant":
        R1, R2, P1, P2, _ = cv2.fisheye.stereoRectify(*arguments, cv2.CALIB_ZERO_DISPARITY)
    else:
        R1, R2, P1, P2, *_ = cv2.stereoRectify(*arguments, flags=cv2.CALIB_ZERO_DISPARITY, alpha=0)
    return (R1, R2), (P1, P2)


def baseline_of(left: Any, right: Any) -> float:
    """Distance in m between the cameras of two CameraInfo by their P; NaN where P has none."""
    offsets_m = [float(m.p[3]) / float(m.p[0]) if m.p[0] else float("nan") for m in (left, right)]
    return offsets_m[0] - offsets_m[1]


def is_rectified(topic: str) -> bool:
    """Whether a topic has rectified images, by its name: `image_rect`, `image_rect_color`, `rect/image`."""
    return bool({"rect", "rectified"} & set(re.split(r"[/_]", topic.lower())))
