# SPDX-License-Identifier: Apache-2.0
"""Calibration files of other programs, as values of `Camera`: camera_calibration, ORB-SLAM2 and 3, Kalibr, EuRoC."""

from __future__ import annotations

from typing import Any

import numpy as np

from drp_slam.data.camera_info import distortion_of

KNOWN = "ROS' camera_calibration (ost.yaml), ORB-SLAM2, ORB-SLAM3, Kalibr or EuRoC (sensor.yaml)"


def plain_yaml(text: str) -> str:
    """OpenCV's YAML without its first line and its matrix tag, which other parsers refuse."""
    lines = text.lstrip("\ufeff").splitlines()
    if lines and lines[0].startswith("%YAML"):
        lines[0] = ""
    return "\n".join(lines).replace("!!opencv-matrix", "")


def values_of(tree: dict[Any, Any], where: str) -> dict[str, Any] | None:
    """The values that a file states, by the names of `Camera`'s fields; None for an unknown form.

    Raises LookupError, TypeError, ValueError or DataError for an invalid file.
    """
    if "camera_matrix" in tree:
        return _ros(tree, where)
    for prefix in ("Camera1", "Camera"):
        if f"{prefix}.fx" in tree:
            return _orb_slam(tree, prefix, where)
    first = tree.get("cam0", tree)
    if isinstance(first, dict) and {"intrinsics", "resolution", "distortion_model"} <= first.keys():
        return _kalibr(first, where)
    return None


def _ros(tree: dict[Any, Any], where: str) -> dict[str, Any]:
    """camera_calibration and camera_info_manager: K and D of the raw images."""
    K = np.array(tree["camera_matrix"]["data"], np.float64).reshape(3, 3)
    values: dict[str, Any] = {"width": tree["image_width"], "height": tree["image_height"]}
    d = np.array(tree.get("distortion_coefficients", {}).get("data", []), np.float64)
    return values | _projection(*_of(K), str(tree.get("distortion_model", "")), d, where)


def _orb_slam(tree: dict[Any, Any], prefix: str, where: str) -> dict[str, Any]:
    """ORB-SLAM2 (`Camera.fx`) and ORB-SLAM3 (`Camera1.fx`); both write OpenCV's k1 k2 p1 p2 k3, or k1 to k4."""
    kind = str(tree.get("Camera.type", "PinHole"))
    names = ("k1", "k2", "k3", "k4") if kind.startswith("Kannala") else ("k1", "k2", "p1", "p2", "k3")
    d = np.array([float(tree.get(f"{prefix}.{name}", 0.0)) for name in names])
    if kind == "Rectified":
        d[:] = 0.0
    model = "equidistant" if len(d) == 4 else "plumb_bob"
    fx, fy, cx, cy = (float(tree[f"{prefix}.{name}"]) for name in ("fx", "fy", "cx", "cy"))
    values: dict[str, Any] = _projection(fx, fy, cx, cy, model, d, where)
    fields = {"width": int, "height": int, "fps": float}
    values |= {name: cast(tree[f"Camera.{name}"]) for name, cast in fields.items() if f"Camera.{name}" in tree}
    factor = tree.get("RGBD.DepthMapFactor", tree.get("DepthMapFactor"))
    if factor is not None:
        values["depth_scale"] = float(factor)
    elif "Stereo.b" in tree or "Camera.bf" in tree:  # of RGB-D, bf is a number of ORB-SLAM's own
        values["baseline_m"] = float(tree["Stereo.b"]) if "Stereo.b" in tree else float(tree["Camera.bf"]) / fx
    return values


def _kalibr(tree: dict[Any, Any], where: str) -> dict[str, Any]:
    """Kalibr's camchain, or a sensor.yaml of EuRoC: the first camera."""
    d = np.array(tree.get("distortion_coeffs", tree.get("distortion_coefficients", [])), np.float64)
    width, height = tree["resolution"]
    fx, fy, cx, cy = (float(value) for value in tree["intrinsics"])
    values = {"width": width, "height": height, **_projection(fx, fy, cx, cy, tree["distortion_model"], d, where)}
    return values | ({"fps": float(tree["rate_hz"])} if "rate_hz" in tree else {})


def _of(K: np.ndarray) -> tuple[float, float, float, float]:
    return float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])


def _projection(fx: float, fy: float, cx: float, cy: float, name: str, d: np.ndarray, where: str) -> dict[str, Any]:
    model, distortion = distortion_of(name, d, where)
    return {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "model": model, "distortion": distortion.tolist()}
