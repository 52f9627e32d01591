# SPDX-License-Identifier: Apache-2.0
"""ORB on the DRP: pyramid, Gaussian, FAST in cells, orientation and 256-bit descriptors.

Partitioned like the public SLAM on this chip (ComputermindCorp/yolo-planar-slam-drp): four DRP1 configurations
whose images stay in the DRP's memory. The definitions follow ORB-SLAM2 (Mur-Artal and Tardos, T-RO 2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np

from drp_slam.drp.kernels import Arrays, Kernel
from drp_slam.drp.orb_pairs import PAIRS
from drp_slam.errors import DrpError

BORDER_PX = 16
"""Minimum distance of keypoints from a level's border, plus three pixels for FAST's circle."""
CELL_PX = 30
"""Cells are at least this wide and high."""
RADIUS_PX = 15
"""Radius of the disc whose centroid gives the orientation; no descriptor reads beyond 19 pixels."""
CIRCLE = (
    *((0, 3), (1, 3), (2, 2), (3, 1), (3, 0), (3, -1), (2, -2), (1, -3)),
    *((0, -3), (-1, -3), (-2, -2), (-3, -1), (-3, 0), (-3, 1), (-2, 2), (-1, 3)),
)
"""x y of FAST's circle of 16 pixels, in order."""
ARC = 9
"""A corner has as many contiguous pixels of the circle brighter or darker than its centre."""
ROWS = 48
"""Rows of an image whose 32 differences stay in the cache."""


def level_shapes(shape: tuple[int, int], levels: int, scale: float) -> list[tuple[int, int]]:
    """(height, width) of each level, the first being the image's own.

    Raises DrpError if the smallest level has no room for a keypoint.
    """
    sizes = [(round(shape[0] / scale**level), round(shape[1] / scale**level)) for level in range(levels)]
    least = 2 * (BORDER_PX + 3) + 1
    if min(sizes[-1]) < least:
        raise DrpError(
            f"image is {shape[1]} x {shape[0]}: level {levels - 1} would be {sizes[-1][1]} x {sizes[-1][0]} pixels, "
            f"ORB needs {least}; give larger images or fewer levels"
        )
    return sizes


class Shrink(Kernel):
    """(H, W) uint8 -> (h, w) uint8: bilinear, as OpenCV's INTER_LINEAR."""

    name, place, kind, configuration = "orb_resize", "custom", "point", "resize"

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape

    def compute(self, *inputs: np.ndarray) -> Arrays:
        return (cv2.resize(inputs[0], self._shape[::-1], interpolation=cv2.INTER_LINEAR),)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros(self._shape, np.uint8),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        made = self._shape[0] * self._shape[1]
        return {"pixels": inputs[0].size, "ops": 6 * made, "bytes": inputs[0].size + made}


class Blur(Kernel):
    """(H, W) uint8 -> (H, W) uint8: Gaussian 7 x 7, sigma 2, border reflected.

    In 8-bit fixed point as OpenCV's ORB computes it; `cv2.GaussianBlur` of a whole image rounds differently and
    differs by one grey value in some pixels.
    """

    name, place, kind, configuration = "orb_gaussian", "custom", "stencil", "gaussian"

    def __init__(self) -> None:
        self._taps = cv2.getGaussianKernel(7, 2.0)

    def compute(self, *inputs: np.ndarray) -> Arrays:
        return (cv2.sepFilter2D(inputs[0], -1, self._taps, self._taps, borderType=cv2.BORDER_REFLECT_101),)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros_like(inputs[0]),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        pixels = inputs[0].size
        return {"pixels": pixels, "ops": 2 * 2 * 7 * pixels, "bytes": 2 * pixels}


class Fast(Kernel):
    """(H, W) uint8 -> (n, 2) int64 x y, (n,) uint8 response: FAST 9-16 in cells of about 30 pixels.

    Suppression is 3 x 3 inside a cell; a cell without a corner at the first threshold keeps the corners of the second.
    The response is the largest threshold at which the pixel is still a corner (as in OpenCV). Raster order.
    """

    name, place, kind, configuration = "orb_fast", "custom", "stencil", "slamfast"

    def __init__(self, threshold: int = 20, low_threshold: int = 7) -> None:
        self._high, self._low = threshold, low_threshold

    def compute(self, *inputs: np.ndarray) -> Arrays:
        image = inputs[0]
        response = corner_response(image)
        height, width = (side - 2 * (BORDER_PX + 3) for side in image.shape)
        inside = response[BORDER_PX : BORDER_PX + height, BORDER_PX : BORDER_PX + width]
        rows, columns = _cells(height), _cells(width)
        # a line of zeros separates the cells, so that none suppresses its neighbour's corners
        apart = np.zeros((height + rows[-1] + 2, width + columns[-1] + 2), np.uint8)
        y, x = np.arange(height) + rows + 1, np.arange(width) + columns + 1
        apart[np.ix_(y, x)] = inside
        largest = cv2.dilate(apart, _NEIGHBOURS)
        keep = ((apart > largest) & (apart >= self._low))[np.ix_(y, x)]
        y, x = np.nonzero(keep)
        found = inside[y, x]
        cell = rows[y] * (columns[-1] + 1) + columns[x]
        strong = np.zeros((rows[-1] + 1) * (columns[-1] + 1), bool)
        strong[cell[found >= self._high]] = True
        chosen = (found >= self._high) | ~strong[cell]
        pixels = np.stack((x[chosen], y[chosen]), 1) + BORDER_PX + 3
        return pixels, found[chosen]

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.uint8)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        # on the CPU the first four tests reject most pixels; about one in seven needs the whole circle
        pixels = inputs[0].size
        return {"pixels": pixels, "ops": (8 + 2 * 96 / 7) * pixels, "bytes": pixels}


_NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


def _cells(size: int) -> np.ndarray:
    """(size,) cell number of each row or column: as many equal cells as fit."""
    count = max(1, (size + 6) // CELL_PX)
    return np.arange(size) // -(-(size + 6) // count)


def corner_response(image: np.ndarray) -> np.ndarray:
    """(H - 6, W - 6) uint8: largest FAST 9-16 threshold of each inner pixel, 0 if it is not a corner.

    Saturated differences of whole rows of pixels: the smallest over each arc, the largest over all arcs.
    """
    height, width = image.shape
    out = np.empty((height - 6, width - 6), np.uint8)
    for top in range(0, height - 6, ROWS):
        rows = min(ROWS, height - 6 - top)
        centre = image[top + 3 : top + 3 + rows, 3 : width - 3]
        around = [image[top + 3 + dy : top + 3 + dy + rows, 3 + dx : width - 3 + dx] for dx, dy in CIRCLE]
        best = np.zeros(centre.shape, np.uint8)
        for differences in (
            [cv2.subtract(centre, other) for other in around],
            [cv2.subtract(other, centre) for other in around],
        ):
            arcs = differences
            for step in (1, 2, 4):
                arcs = [cv2.min(arcs[k], arcs[(k + step) % 16]) for k in range(16)]
            for k in range(16):
                cv2.max(best, cv2.min(arcs[k], differences[(k + ARC - 1) % 16]), dst=best)
        np.subtract(best, best > 0, out=out[top : top + rows], casting="unsafe")
    return out


class Spread(Kernel):
    """(n, 2) int64 x y, (n,) uint8 response -> (m,) int64: the selected corners, m at most `quota`.

    They are spread over the level: first the best of every cell, then the second of every cell, and so on, the larger
    response first. (ORB-SLAM uses a quadtree instead.) Runs on the CPU: it sorts some thousand corners.
    """

    name, place, kind = "orb_select", "cpu", "gather"

    def __init__(self, quota: int) -> None:
        self._quota = quota

    def compute(self, *inputs: np.ndarray) -> Arrays:
        pixels, response = inputs
        if len(pixels) <= self._quota:
            return (np.arange(len(pixels)),)
        size = np.ptp(pixels, axis=0) + 1
        cell_px = max(1, int(math.sqrt(size[0] * size[1] / self._quota)))
        column, row = ((pixels - pixels.min(axis=0)) // cell_px).T
        strength = -response.astype(np.int16)
        cell = row * (size[0] // cell_px + 1) + column
        order = np.lexsort((strength, cell))
        first = np.flatnonzero(np.r_[True, np.diff(cell[order]) > 0])
        rank = np.empty(len(pixels), np.int64)
        rank[order] = np.arange(len(pixels)) - np.repeat(first, np.diff(np.r_[first, len(pixels)]))
        return (np.lexsort((strength, rank))[: self._quota],)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros(0, np.int64),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        n = len(inputs[0])
        return {"pixels": n, "ops": 2 * 8 * n * math.log2(max(n, 2)), "bytes": 40 * n}


class Describe(Kernel):
    """Level, blurred level, (n, 2) pixels x y -> (n, 32) uint8 descriptors, (n,) float32 angles in degrees.

    The angle is that of the intensity centroid of a disc of the level, the descriptor compares 256 pairs of the
    blurred level, turned by it (Rublee et al., ICCV 2011). Raises DrpError for a pixel too near the border.
    """

    name, place, kind, configuration = "orb_describe", "custom", "gather", "orb"

    def compute(self, *inputs: np.ndarray) -> Arrays:
        level, blurred, pixels = inputs
        reach = BORDER_PX + 3
        if len(pixels) and ((pixels < reach) | (pixels >= np.array(level.shape[::-1]) - reach)).any():
            raise DrpError(f"a keypoint lies within {reach} pixels of the border; FAST gives none there")
        angle = orientation(level, pixels)
        turn = np.deg2rad(angle)
        cosine, sine = np.cos(turn), np.sin(turn)
        # one (n, 2, 2) rotation by the pairs, with OpenCV's rounding
        x = np.multiply.outer(cosine, PAIRS[..., 0]) - np.multiply.outer(sine, PAIRS[..., 1])
        y = np.multiply.outer(sine, PAIRS[..., 0]) + np.multiply.outer(cosine, PAIRS[..., 1])
        width = level.shape[1]
        offset = np.rint(y).astype(np.int32) * np.int32(width) + np.rint(x).astype(np.int32)
        centre = (pixels[:, 1] * width + pixels[:, 0]).astype(np.int32)
        value = blurred.ravel()[offset + centre[:, None, None]]
        return np.packbits(value[..., 0] < value[..., 1], axis=1, bitorder="little"), angle

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return np.zeros((len(inputs[2]), 32), np.uint8), np.zeros(len(inputs[2]), np.float32)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        n = len(inputs[2])
        read = n * (len(_DISC) + 2 * len(PAIRS))
        # a patch is read row by row: 31 rows of 31 bytes for the orientation, 37 of 37 for the descriptor
        beats, rows = n * (31 * 2 + 37 * 3), n * (31 + 37)
        return {"pixels": beats, "reads": rows, "ops": 3 * read, "flops": n * 8 * len(PAIRS), "bytes": read}


def orientation(level: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(n,) float32 degrees, 0 to 360, from the pixel to the centroid of its disc (OpenCV's `fastAtan2`)."""
    taps = _DISC[:, 1] * level.shape[1] + _DISC[:, 0]
    centre = pixels[:, 1] * level.shape[1] + pixels[:, 0]
    patch = level.ravel()[centre[:, None] + taps].astype(np.float32)
    moments = patch @ _DISC.astype(np.float32)  # whole numbers below 2^24: exact
    if not len(pixels):
        return np.zeros(0, np.float32)
    return cv2.phase(moments[:, :1], moments[:, 1:], angleInDegrees=True)[:, 0]


def _disc() -> np.ndarray:
    """(709, 2) x y of the disc's pixels; its outline is ORB's, symmetric about the diagonal."""
    top = math.floor(RADIUS_PX * math.sqrt(0.5) + 1)
    half = [round(math.sqrt(RADIUS_PX**2 - v * v)) for v in range(top + 1)] + [0] * (RADIUS_PX - top)
    first = 0
    for v in range(RADIUS_PX, math.ceil(RADIUS_PX * math.sqrt(0.5)) - 1, -1):
        while half[first] == half[first + 1]:
            first += 1
        half[v], first = first, first + 1
    return np.array([(x, y) for y in range(-15, 16) for x in range(-half[abs(y)], half[abs(y)] + 1)], np.int64)


_DISC = _disc()
