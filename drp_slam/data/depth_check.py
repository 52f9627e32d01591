# SPDX-License-Identifier: Apache-2.0
"""Checks the unit of depth by its median."""

from __future__ import annotations

import numpy as np

NEAR_M, FAR_M = 0.25, 4.0
"""Range of the usual median depth in rooms; outside of it, the unit is doubtful."""
UNITS_M = {"1 mm": 1e-3, "0.1 mm (D405, SR300)": 1e-4, "0.25 mm (L515)": 2.5e-4, "1/5000 m (TUM)": 2e-4, "1 m": 1.0}


def median_of(depth: np.ndarray) -> float:
    """Median depth of an image in its own unit; 0 without depth."""
    some = depth[::4, ::4].ravel()
    some = some[(some > 0) & np.isfinite(some)]
    return float(np.median(some)) if len(some) else 0.0


def plausible(median_m: float) -> bool:
    """Whether this is a usual median depth."""
    return NEAR_M <= median_m <= FAR_M


def doubt(median_m: float, unit_m: float, where: str) -> tuple[str, ...]:
    """A note if the median depth is unusual."""
    if not median_m or plausible(median_m):
        return ()
    units = [name for name, u in UNITS_M.items() if u != unit_m and plausible(median_m / unit_m * u)]
    likely = f"; likely units: {', '.join(units)}" if units else ""
    side = "farther" if median_m > FAR_M else "nearer"
    return (
        f"{where}: half of the depth is {side} than {median_m:.3g} m: is its unit {unit_m * 1e3:g} mm? If not, the map "
        f"has the wrong scale: give depth_unit_m{likely}",
    )
