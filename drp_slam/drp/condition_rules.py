# SPDX-License-Identifier: Apache-2.0
"""Building blocks of the OpenCV Accelerator's conditions: one rule tests one argument of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Call = Mapping[str, Any]
UHD, FHD = (3840, 2160), (1920, 1080)


@dataclass(frozen=True)
class Condition:
    """`states` is the documented condition on `parameter`; `holds` tests a whole call."""

    parameter: str
    states: str
    holds: Callable[[Call], bool]


def channels_of(array: np.ndarray) -> int:
    """Channels of a (H, W) or (H, W, C) image."""
    return 1 if array.ndim == 2 else array.shape[2]


def one_of(parameter: str, *allowed: Any, states: str = "") -> Condition:
    """The argument is one of these values."""
    states = states or " or ".join(repr(a) for a in allowed)
    return Condition(parameter, states, lambda call: call[parameter] in allowed)


def between(parameter: str, low: float, high: float, step: int = 0) -> Condition:
    """low <= argument <= high; with a step, only low, low + step, ..."""
    states = f"{low} to {high}" + (f" in steps of {step}" if step else "")

    def holds(call: Call) -> bool:
        value = call[parameter]
        return low <= value <= high and not (step and (value - low) % step)

    return Condition(parameter, states, holds)


def ignored(parameter: str) -> Condition:
    """The DRP ignores the argument, so no value of it moves the call to the CPU."""
    return Condition(parameter, "ignored by the DRP", lambda call: True)


def absent(parameter: str) -> Condition:
    """The optional argument is not given."""

    def holds(call: Call) -> bool:
        return call[parameter] is None or np.size(call[parameter]) == 0

    return Condition(parameter, "none", holds)


def default_border(parameter: str = "borderType") -> Condition:
    return one_of(parameter, cv2.BORDER_DEFAULT, states="BORDER_DEFAULT")


def image(
    name: str,
    low: tuple[int, int],
    high: tuple[int, int] | None = UHD,
    *,
    step: int = 2,
    channels: tuple[int, int] = (1, 4),
) -> list[Condition]:
    """Conditions on an image: (width, height) limits and step, channels, 8 bit."""

    def side(axis: int) -> Condition:
        label, least, most = ("width", "height")[axis], low[axis], high[axis] if high else None
        states = f"a {label} of {least}" + (f" to {most}" if most else " or more")

        def holds(call: Call) -> bool:
            pixels = call[name].shape[1 - axis]
            return pixels >= least and pixels % step == 0 and (most is None or pixels <= most)

        return Condition(name, states + (f", multiple of {step}" if step > 1 else ""), holds)

    few, many = channels
    return [
        side(0),
        side(1),
        Condition(
            name,
            f"{few} to {many} channels" if few < many else f"{few} channel(s)",
            lambda call: few <= channels_of(call[name]) <= many,
        ),
        Condition(name, "8 bit", lambda call: call[name].dtype == np.uint8),
    ]


def size(name: str, low: int, high: tuple[int, int], step: int = 1) -> Condition:
    """A (width, height) argument within limits."""
    states = f"{low} x {low} to {high[0]} x {high[1]}" + (", even" if step == 2 else "")

    def holds(call: Call) -> bool:
        w, h = call[name]
        return low <= w <= high[0] and low <= h <= high[1] and w % step == 0 and h % step == 0

    return Condition(name, states, holds)


def matrix(name: str, shape: tuple[int, int]) -> Condition:
    """A transformation of 32-bit floats (CV_32F)."""

    def holds(call: Call) -> bool:
        return call[name].dtype == np.float32 and call[name].shape == shape

    return Condition(name, f"CV_32F {shape[0]} x {shape[1]}", holds)


def scaled(name: str, multiply: Callable[[int], int], states: str) -> Condition:
    """`dstsize` of a pyramid step: none, or exactly this of the source."""

    def holds(call: Call) -> bool:
        h, w = call["src"].shape[:2]
        return tuple(call[name] or (0, 0)) in ((0, 0), (multiply(w), multiply(h)))

    return Condition(name, f"none or {states}", holds)


def resize_target(call: Call) -> tuple[int, int]:
    """(width, height) of `resize`'s output: `dsize`, or round(source x scale) where it is empty."""
    if call["dsize"] and all(call["dsize"]):
        return int(call["dsize"][0]), int(call["dsize"][1])
    height, width = call["src"].shape[:2]
    return round(width * call["fx"]), round(height * call["fy"])


def resized(parameter: str, axes: tuple[int, ...], by_scale: bool) -> Condition:
    """Limits of the resized image; a scale counts only where `dsize` is empty."""
    sides = " and ".join(f"{('width', 'height')[a]} of 2 to {UHD[a]}" for a in axes)

    def holds(call: Call) -> bool:
        if by_scale == bool(call["dsize"] and all(call["dsize"])):
            return True
        return all(2 <= resize_target(call)[axis] <= UHD[axis] for axis in axes)

    return Condition(parameter, f"a result {sides}", holds)


def gaussian_sigma(parameter: str) -> Condition:
    """Sigma 0, or the blur before ORB: one channel, 7 x 7, both sigmas stated as 2."""

    def holds(call: Call) -> bool:
        orb = tuple(call["ksize"]) == (7, 7) and channels_of(call["src"]) == 1
        return call[parameter] == 0 or (orb and call["sigmaX"] == 2 == call["sigmaY"])

    return Condition(parameter, "0 (or 2 with 1 channel, 7 x 7 and both sigmas 2)", holds)


def rectangle(parameter: str = "kernel") -> Condition:
    """None, or the 3 x 3 rectangle (the patch accepts that size too)."""

    def holds(call: Call) -> bool:
        kernel = call[parameter]
        return kernel is None or kernel.size == 0 or bool(kernel.shape == (3, 3) and kernel.all())

    return Condition(parameter, "none or a 3 x 3 rectangle", holds)
