# SPDX-License-Identifier: Apache-2.0
"""Training views: two warped, re-lit crops of one image, and the place of each cell of the first
in the second. No labels: the warps are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from drp_slam.pruning.images import normalised

CELL = 8


@dataclass(frozen=True)
class View:
    """`images` (2, 1, H, W) float32, normalised; `target` (H/8, W/8, 2) float32: position, in
    cells of the second image, of each cell centre of the first; outside if not visible."""

    images: np.ndarray
    target: np.ndarray


def draw(images: Sequence[np.ndarray], rng: np.random.Generator, shape: tuple[int, int] = (256, 352)) -> View:
    """One pair of views (H, W) = `shape` of one of `images` (grey, uint8), chosen at random."""
    image = images[int(rng.integers(len(images)))]
    first = _homography(image.shape, shape, rng, 1.0)
    second = _jitter(shape, rng) @ first
    pair = [_render(image, matrix, shape, rng) for matrix in (first, second)]
    return View(np.concatenate([normalised(p) for p in pair]), _target(first, second, shape))


def _homography(source: tuple[int, ...], shape: tuple[int, int], rng: np.random.Generator, tilt: float) -> np.ndarray:
    """Image to crop: a window of random size and place, slightly rotated and tilted."""
    height, width = shape
    fill = max(height / source[0], width / source[1])
    scale = max(fill, float(np.exp(rng.uniform(np.log(0.6), np.log(1.35)))))
    free = np.array([source[1] - width / scale, source[0] - height / scale])
    corner = rng.uniform(0, 1, 2) * np.maximum(free, 0)
    window = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]], [0, 0, 1.0]])
    return _jitter(shape, rng, tilt * 0.5) @ window


def _jitter(shape: tuple[int, int], rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A camera's small motion in crop pixels: roll, zoom, shift, perspective; about the centre."""
    height, width = shape
    angle = np.deg2rad(rng.normal(0, 9) * strength)
    zoom = float(np.exp(rng.normal(0, 0.11) * strength))
    shift = rng.normal(0, 0.07, 2) * strength * np.array([width, height])
    bend = rng.normal(0, 0.08, 2) * strength / np.array([width, height])
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1.0]])
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    move = np.array([[c, -s, shift[0]], [s, c, shift[1]], [bend[0], bend[1], 1.0]])
    back = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1.0]])
    return back @ move @ centre


def _render(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The crop, with other exposure, contrast, blur and noise; uint8, like a camera's. One in
    six is of little contrast: a bare wall, whose noise the normalisation amplifies."""
    crop: Any = cv2.warpPerspective(
        image, matrix, shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    ).astype(np.float32)
    kind = rng.uniform()
    if kind < 0.2:
        crop = cv2.GaussianBlur(crop, (0, 0), float(rng.uniform(0.4, 1.5)))
    elif kind < 0.4:  # motion blur of a hand-held camera
        length, angle = int(rng.integers(3, 13)), rng.uniform(0, 180)
        kernel: Any = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1.0 / length
        turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), angle, 1.0)
        kernel = cv2.warpAffine(kernel, turn, (length, length))
        crop = cv2.filter2D(crop, -1, kernel / max(float(kernel.sum()), 1e-6))
    crop = 255.0 * (np.clip(crop, 0, 255) / 255.0) ** float(np.exp(rng.normal(0, 0.2)))
    gain = float(rng.uniform(0.2, 0.75) if rng.uniform() < 1 / 6 else rng.uniform(0.75, 1.2))
    crop = (crop - crop.mean()) * gain + crop.mean() + float(rng.uniform(-15, 15))
    crop += rng.standard_normal(crop.shape, dtype=np.float32) * float(rng.uniform(0, 4))
    return np.clip(np.round(crop), 0, 255).astype(np.uint8)


def _target(first: np.ndarray, second: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = shape[0] // CELL, shape[1] // CELL
    x, y = np.meshgrid((np.arange(columns) + 0.5) * CELL, (np.arange(rows) + 0.5) * CELL)
    points = np.stack([x, y, np.ones_like(x)], -1) @ (second @ np.linalg.inv(first)).T
    return (points[..., :2] / points[..., 2:] / CELL - 0.5).astype(np.float32)
