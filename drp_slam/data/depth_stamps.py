# SPDX-License-Identifier: Apache-2.0
"""Pairs depth images with images by nearest stamps, and measures a constant offset between them."""

from __future__ import annotations

import numpy as np

from drp_slam.data.sequence import DepthReading
from drp_slam.data.trajectory import associate

FAR_NS = 1_000_000_000
"""Largest offset that is searched."""
SHARP_NS = 1_500_000
"""Largest deviation of a constant offset to either side: free-running cameras jitter by more."""
MOST = 0.8
"""Smallest share of the images that must have the offset."""
AS_GOOD = 0.95
"""Offsets one period apart have almost the same share: above this ratio, the smallest one is used."""


def paired(
    image_ns: np.ndarray, depth_ns: np.ndarray, reading: DepthReading, where: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Indices of images and of their depth images, both increasing, and notes.

    The stamps are int64 and increase. If `reading` gives no offset, a constant one is measured and used.
    """
    given = reading.offset_s
    shift_ns = round((given or 0.0) * 1e9)
    i, j = associate(image_ns, depth_ns - shift_ns, reading.tolerance_s)
    notes: tuple[str, ...] = ()
    if given is None and (offset_ns := constant_offset_ns(image_ns, depth_ns)):
        i2, j2 = associate(image_ns, depth_ns - offset_ns, reading.tolerance_s)
        same = len(set(zip(i.tolist(), j.tolist())) & set(zip(i2.tolist(), j2.tolist())))
        if len(i2) >= len(i) and same < MOST * len(i2):
            i, j = i2, j2
            notes = (
                f"{where}: depth stamps have a constant offset of {offset_ns * 1e-6:+.1f} ms from the image's; this "
                "offset is used (depth_offset_s sets another one, 0 none)",
            )
    return i, j, notes


def constant_offset_ns(image_ns: np.ndarray, depth_ns: np.ndarray) -> int:
    """The difference depth - image that most images share; 0 if there is none.

    Sorts the differences of all stamps up to `FAR_NS` apart and finds the densest place. In regular streams
    every period gives one: the smallest offset is returned.
    """
    low, high = np.searchsorted(depth_ns, image_ns - FAR_NS), np.searchsorted(depth_ns, image_ns + FAR_NS)
    counts = high - low
    if len(image_ns) < 3 or not counts.sum():
        return 0
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    differences = np.sort(depth_ns[np.repeat(low, counts) + within] - np.repeat(image_ns, counts))
    crowd = np.searchsorted(differences, differences + 2 * SHARP_NS, side="right") - np.arange(len(differences))
    if crowd.max() < MOST * min(len(image_ns), len(depth_ns)):
        return 0
    good = np.flatnonzero(crowd >= AS_GOOD * crowd.max())
    middles = differences[good + crowd[good] // 2]
    return int(middles[np.abs(middles).argmin()])


def nearest_text(image_ns: np.ndarray, depth_ns: np.ndarray) -> str:
    """The difference of the first image to its nearest depth image, in words."""
    if not len(image_ns) or not len(depth_ns):
        return "none"
    difference = depth_ns - image_ns[0]
    return f"{difference[np.abs(difference).argmin()] * 1e-9:+.3f} s away"
