# SPDX-License-Identifier: Apache-2.0
"""The calibration of a sequence: reads and writes `camera.yaml`, and chooses the one to use."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam import resources
from drp_slam.atomic import write_text
from drp_slam.data import calibration_forms
from drp_slam.datatypes import DISTORTION, Camera
from drp_slam.errors import DataError

REQUIRED = ("width", "height", "fx", "fy", "cx", "cy", "distortion", "depth_scale", "fps")
OPTIONAL = ("baseline_m", "model")
FORM = {
    "plumb_bob": "5 numbers: k1 k2 p1 p2 k3",
    "rational_polynomial": "8 numbers: k1 k2 p1 p2 k3 k4 k5 k6",
    "equidistant": "4 numbers: k1 k2 k3 k4",
}
"""Distortion of each model."""
POSITIVE = ("fx", "fy", "depth_scale", "fps", "baseline_m")


@dataclass(frozen=True)
class Given:
    """A calibration file: the camera, the keys of `REQUIRED` and `OPTIONAL` that the file states, and notes.

    Width and height are 0 if the file does not state them.
    """

    camera: Camera
    stated: frozenset[str]
    notes: tuple[str, ...] = ()

    def of_size(self, size_px: tuple[int, int]) -> Camera:
        """The camera, with the size of the images if the file states none."""
        return self.camera if self.camera.width else replace(self.camera, width=size_px[0], height=size_px[1])


def read_calibration(path: str | Path) -> Given:
    """Reads `camera.yaml` or a file of another program (`calibration_forms`). Raises DataError."""
    text = resources.read_text(Path(path), DataError, resources.LONGEST_YAML)
    tree = resources.parse_yaml(calibration_forms.plain_yaml(text), str(path), DataError)
    try:
        found = calibration_forms.values_of(tree, str(path)) if isinstance(tree, dict) else None
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"{path}: cannot read this calibration: {error!r}") from error
    if found is None:
        return Given(_native(path, tree), frozenset(tree))
    values = {key: _value(path, key, value) for key, value in found.items()}
    assumed = {"width": 0, "height": 0, "depth_scale": 1000.0, "fps": 30.0}
    notes = () if "depth_scale" in found else (f"{path} does not state the unit of depth: 1 mm unless the images do",)
    return Given(Camera(**{**assumed, **values}), frozenset(found), notes)


def _native(path: str | Path, tree: Any) -> Camera:
    """A calibration in this package's form. Only `baseline_m` is optional: a guessed value gives a wrong map."""
    if not isinstance(tree, dict):
        raise DataError(f"{path}: expected the keys {', '.join(REQUIRED)}")
    missing = [key for key in REQUIRED if key not in tree]
    unknown = sorted(str(key) for key in tree if key not in REQUIRED + OPTIONAL)
    if missing or unknown:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has unknown {', '.join(unknown)}"
        raise DataError(
            f"{path}: {wrong}; a calibration has {', '.join(REQUIRED)} and for stereo baseline_m, or is a file of "
            f"{calibration_forms.KNOWN}"
        )
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
    """Whether it is a number that fits a float."""
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def save_camera(path: str | Path, camera: Camera) -> None:
    """Writes a calibration with full precision, through a temporary name."""
    lines = []
    for f in fields(camera):
        value = getattr(camera, f.name)
        if f.name in ("right", "T_right_left", "mono") or value is None:
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


def own_or_given(
    own: Camera | None, given: Given | None, name: str, size_px: tuple[int, int] | None = None
) -> tuple[Camera, tuple[str, ...]]:
    """The calibration of the command line, else the recorded one, and notes. Raises DataError without either."""
    if given is not None:
        instead = (f"{name}: --camera is used instead of the recording's own calibration",) if own is not None else ()
        camera = given.of_size(size_px or (0, 0))
        if own is None:
            return camera, given.notes
        kept = {key: getattr(own, key) for key in ("depth_scale", "fps") if key not in given.stated}
        return replace(camera, **kept), instead
    if own is not None:
        return own, ()
    shipped = sorted(p.stem for p in (resources.share() / "config" / "cameras").glob("*.yaml"))
    raise DataError(
        f"{name}: no calibration; put a camera.yaml into the folder or name a camera with --camera "
        f"NAME|FILE (shipped: {', '.join(shipped) or 'none'})"
    )


def calibration_of_pair(own: Camera, given: Given | None, name: str) -> tuple[Camera, tuple[str, ...]]:
    """The camera of a stereo folder, and notes. `given` replaces it if it has a baseline and the pair is rectified."""
    if given is None:
        return own, ()
    if given.camera.baseline_m is None or own.right is not None:
        why = "states no baseline_m" if given.camera.baseline_m is None else "is one camera, the images are a raw pair"
        return own, (f"{name}: --camera is not used: it {why}",)
    camera = given.of_size((own.width, own.height))
    return replace(camera, fps=own.fps), (f"{name}: --camera is used instead of the recording's own calibration",)
