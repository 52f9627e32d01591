# SPDX-License-Identifier: Apache-2.0
"""Tensor layouts of exported detectors: preparation of the image, and decoding of the boxes.

FastestDet (dog-qiuqiu, BSD-3), YOLOX (Megvii, Apache-2.0), and the layouts of YOLOv5 and YOLOv8, as
their public exporters write them. Only their tensor layouts are used, not their code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

GREY = 114
"""Grey value that fills the letterbox."""
STRIDES = (8, 16, 32)

Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Boxes (N, 4) float64 x0 y0 x1 y1, score (N,) float32, class (N,) int64."""
Decode = Callable[[np.ndarray, tuple[int, int]], Found]
"""Output without its batch, and (height, width) of the input, to all candidates, boxes in pixels of the input."""


@dataclass(frozen=True)
class Letterbox:
    """Placement of an image in the network's input: scaled by `scale`, `left` and `top` px from the corner."""

    scale: float
    left: float
    top: float

    def back(self, boxes_px: np.ndarray) -> np.ndarray:
        """Boxes in pixels of the input, in pixels of the image."""
        return (boxes_px - (self.left, self.top, self.left, self.top)) / self.scale


@dataclass(frozen=True)
class Form:
    """`name`, and its input: `rgb` or BGR, in [0, 1] or 0 to 255 (`bytes`), centred or at the top left."""

    name: str
    classes: int
    decode: Decode
    rgb: bool
    bytes: bool
    centred: bool

    def prepare(self, image: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, Letterbox]:
        """(H, W, 3) BGR or (H, W) grey uint8 -> (3, h, w) float32, aspect ratio kept."""
        colour = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image
        scale = min(shape[0] / image.shape[0], shape[1] / image.shape[1])
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        top, left = ((shape[0] - height) // 2, (shape[1] - width) // 2) if self.centred else (0, 0)
        box = np.full((*shape, 3), GREY, np.uint8)
        box[top : top + height, left : left + width] = cv2.resize(colour, (width, height))
        tensor = np.ascontiguousarray((box[..., ::-1] if self.rgb else box).transpose(2, 0, 1), np.float32)
        return (tensor if self.bytes else tensor / np.float32(255)), Letterbox(scale, left, top)


def form_of(taken: tuple[int, ...], given: tuple[int, ...]) -> Form | None:
    """The form of a network with input (1, 3, H, W) and one output of three dimensions; None for another.

    One cell of each stride gives a row (YOLOX), three anchors do (YOLOv5), or a column without objectness (YOLOv8).
    """
    height, width = taken[2:]
    if len(given) != 3 or given[0] != 1 or height % STRIDES[-1] or width % STRIDES[-1]:
        return None
    cells = sum((height // s) * (width // s) for s in STRIDES)
    if given[1] == cells and given[2] > 5:
        return Form("YOLOX", given[2] - 5, yolox, rgb=False, bytes=True, centred=False)
    if given[1] == 3 * cells and given[2] > 5:
        return Form("YOLOv5", given[2] - 5, yolov5, rgb=True, bytes=False, centred=True)
    if given[2] == cells and given[1] > 4:
        return Form("YOLOv8", given[1] - 4, yolov8, rgb=True, bytes=False, centred=True)
    return None


def yolox(rows: np.ndarray, shape: tuple[int, int]) -> Found:
    """(cells, 5 + classes): centre, size, objectness, classes.

    By default the exports give centres relative to their cell and logarithms of sizes, recognised by values below
    zero; with `--decode_in_inference` both are already pixels.
    """
    centre, size = rows[:, :2].astype(np.float64), rows[:, 2:4].astype(np.float64)
    if (size < 0).any():
        grids, strides = [], []
        for stride in STRIDES:
            y, x = np.mgrid[: shape[0] // stride, : shape[1] // stride]
            grids.append(np.stack([x, y], axis=2).reshape(-1, 2))
            strides.append(np.full((x.size, 1), stride))
        of_cell = np.concatenate(strides)
        centre = (centre + np.concatenate(grids)) * of_cell
        size = np.exp(np.minimum(size, math.log(4 * max(shape)))) * of_cell
    return _best(centre, size, rows[:, 4:5] * rows[:, 5:])


def yolov5(rows: np.ndarray, shape: tuple[int, int]) -> Found:
    """(3 x cells, 5 + classes): centre and size in pixels, objectness, classes."""
    return _best(rows[:, :2].astype(np.float64), rows[:, 2:4].astype(np.float64), rows[:, 4:5] * rows[:, 5:])


def yolov8(columns: np.ndarray, shape: tuple[int, int]) -> Found:
    """(4 + classes, cells): centre and size in pixels, classes; no objectness."""
    rows = columns.T
    return _best(rows[:, :2].astype(np.float64), rows[:, 2:4].astype(np.float64), rows[:, 4:])


def _best(centre: np.ndarray, size: np.ndarray, scores: np.ndarray) -> Found:
    class_id = scores.argmax(axis=1)
    score = scores[np.arange(len(scores)), class_id].astype(np.float32)
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1), score, class_id
