# SPDX-License-Identifier: Apache-2.0
"""Where the camera sits on a robot (REP-103: the body is x forward, z up; the optical frame z forward, x right)."""

from __future__ import annotations

import numpy as np

from drp_slam.errors import ConfigError

T_LINK_OPTICAL = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""REP-103: the optical frame is z forward, x right; the link is x forward, z up."""


def mount(text: str) -> np.ndarray:
    """`x y z roll pitch yaw` in m and degrees (fixed axes, REP-103) -> (4, 4).

    Raises ConfigError for anything but six finite numbers.
    """
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        raise ConfigError(f"graph.mount is {text!r}, expected six numbers: x y z in m, roll pitch yaw in deg")
    (cr, cp, cy), (sr, sp, sy) = np.cos(np.deg2rad(numbers[3:])), np.sin(np.deg2rad(numbers[3:]))
    T = np.eye(4)
    T[:3, :3] = (
        np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
        @ np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
        @ np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    )
    T[:3, 3] = numbers[:3]
    return T
