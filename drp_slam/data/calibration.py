# SPDX-License-Identifier: Apache-2.0
"""The calibration of a sequence: reads and writes `camera.yaml`, and chooses the one to use."""

from __future__ import annotations

import logging
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam import resources
from drp_slam.atomic import write_text
from drp_slam.datatypes import DISTORTION, Camera
from drp_slam.errors import DataError

log = logging.getLogger(__name__)

REQUIRED = ("width", "height", "fx", "fy", "cx", "cy", "distortion", "depth_scale", "fps")
OPTIONAL = ("baseline_m", "model")
FORM = {
    "plumb_bob": "5 numbers: k1 k2 p1 p2 k3",
    "rational_polynomial": "8 numbers: k1 k2 p1 p2 k3 k4 k5 k6",
    "equidistant": "4 numbers: k1 k2 k3 k4",
}
"""Distortion of each model."""
POSITIVE = ("fx", "fy", "depth_scale", "fps", "baseline_m")


def load_camera(path: str | Path) -> Camera:
    """Reads a calibration. Raises DataError that names file, key and what is expected.

    Only `baseline_m` has a default (none): a guessed calibration gives a wrong map.
    """
    tree = resources.read_yaml(Path(path), DataError)
    if not isinstance(tree, dict):
        raise DataError(f"{path}: expected the keys {', '.join(REQUIRED)}")
    missing = [key for key in REQUIRED if key not in tree]
    unknown = sorted(str(key) for key in tree if key not in REQUIRED + OPTIONAL)
    if missing or unknown:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has unknown {', '.join(unknown)}"
        raise DataError(f"{path}: {wrong}; a calibration has {', '.join(REQUIRED)} and for stereo baseline_m")
    values = {key: _value(path, key, tree[key]) for key in tree}
    model = values.get("model", "plumb_bob")
    if len(values["distortion"]) != DISTORTION[model]:
        raise DataError(f"{path}: {len(values['distortion'])} numbers of distortion, {model} has {FORM[model]}")
    return Camera(**values)


def _value(path: str | Path, key: str, value: Any) -> Any:
    """One entry, checked."""
    if key == "baseline_m" and value is None:
        return None
    if key == "model":
        if value not in DISTORTION:
            raise DataError(f"{path}: model is {value!r}, expected one of {', '.join(DISTORTION)}")
        return value
    if key == "distortion":
        if not (isinstance(value, list) and len(value) in DISTORTION.values() and all(map(_finite, value))):
            raise DataError(f"{path}: distortion is {value!r}, expected {FORM['plumb_bob']}")
        return np.array(value, np.float64)
    if key in ("width", "height"):
        if type(value) is not int or not 1 <= value <= 65536:
            raise DataError(f"{path}: {key} is {value!r}, expected pixels, 1 to 65536")
        return value
    if not _finite(value) or (key in POSITIVE and not value > 0):
        kind = "a number above 0" if key in POSITIVE else "a finite number"
        raise DataError(f"{path}: {key} is {value!r}, expected {kind}")
    return float(value)


def _finite(value: Any) -> bool:
    """Whether it is a number that a float holds."""
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def save_camera(path: str | Path, camera: Camera) -> None:
    """Writes a calibration with full precision, through a temporary name."""
    lines = []
    for f in fields(camera):
        value = getattr(camera, f.name)
        if f.name in ("right", "T_right_left") or value is None:
            continue
        if f.name == "distortion":
            lines.append(f"distortion: [{', '.join(map(_number, value))}]  # OpenCV's order\n")
        elif f.name == "model":
            lines.append(f"model: {value}\n")
        else:
            note = "  # raw units per metre" if f.name == "depth_scale" else ""
            lines.append(f"{f.name}: {_number(value)}{note}\n")
    write_text(Path(path), "".join(lines), DataError)


def _number(value: float) -> str:
    """Shortest text that reads back exactly, with the point that YAML needs before an exponent."""
    if isinstance(value, int):
        return str(value)
    mantissa, exponent, power = repr(float(value)).partition("e")
    point = "" if not exponent or "." in mantissa else ".0"
    return f"{mantissa}{point}{exponent}{power}"


def own_or_given(own: Camera | None, given: Camera | None, name: str) -> Camera:
    """The sequence's own calibration, else the one named on the command line, else DataError."""
    if own is not None and given is not None:
        log.warning("%s has its own calibration; --camera is not used", name)
    if own is not None:
        return own
    if given is not None:
        return given
    shipped = sorted(p.stem for p in (resources.share() / "config" / "cameras").glob("*.yaml"))
    raise DataError(
        f"{name}: no calibration; put a camera.yaml into the folder or name a camera with --camera "
        f"NAME|FILE (shipped: {', '.join(shipped) or 'none'})"
    )
