# SPDX-License-Identifier: Apache-2.0
"""An optional object detector beside the feature network: read `Detector.__call__` first.

Networks of FastestDet's form (https://github.com/dog-qiuqiu/FastestDet, BSD-3): input (1, 3, H, W),
BGR in [0, 1]; output (1, 5 + classes, h, w) with objectness, four box values and class probabilities
of each cell, sigmoid and softmax already applied. Other forms: `detector_forms`. None is shipped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drp_slam import resources
from drp_slam.config import PerceptionConfig
from drp_slam.datatypes import Detections
from drp_slam.device import Device, Run
from drp_slam.drpai3.detector_forms import Found
from drp_slam.drpai3.detector_network import DetectorNetwork
from drp_slam.errors import DeviceError, DrpAi3Error

log = logging.getLogger(__name__)

NMS_IOU = 0.45
"""Of two boxes of one class that overlap more than this, the better one is kept (upstream's value)."""
OBJECT_POWER, CLASS_POWER = 0.6, 0.4
"""Exponents of objectness and class probability in the score of a cell (upstream's values)."""


class Due:
    """Chooses the frames for detection, from the frames so far: every n-th, or the first of each period."""

    def __init__(self, every: int, rate_hz: float = 0.0) -> None:
        self._every, self._period_ns = every, round(1e9 / rate_hz) if rate_hz else 0
        self._count = 0
        self._next_ns: int | None = None

    @classmethod
    def of(cls, config: PerceptionConfig) -> Due:
        return cls(config.detector_every, config.detector_rate_hz)

    def __call__(self, stamp_ns: int) -> bool:
        """Whether to detect on the next frame, with this stamp."""
        if not self._period_ns:
            self._count += 1
            return (self._count - 1) % self._every == 0
        ahead = self._next_ns is not None and 0 < self._next_ns - stamp_ns <= self._period_ns
        if ahead:
            return False
        # the next period follows this one, unless frames are missing or the stamps restarted
        begun = self._next_ns is not None and 0 <= stamp_ns - self._next_ns < self._period_ns
        self._next_ns = (self._next_ns if begun and self._next_ns is not None else stamp_ns) + self._period_ns
        return True


class Detector:
    """`detect(image) -> (Detections, run)`; one per network.

    `config` gives threshold, names and threads. The `Run` covers the network only: its times exclude
    out the resize before it and the decoding after it. On an emulated DRP-AI3 a float32 network is
    computed in float32, but its time and energy are those of INT8, as the chip would run it; an INT8
    network is computed exactly as on the chip.
    """

    def __init__(self, device: Device, onnx_path: str | Path, config: PerceptionConfig) -> None:
        self.device, self.threshold = device, config.detector_threshold
        self.network = DetectorNetwork(Path(onnx_path), config.threads)
        self.names = read_names(config.detector_names or names_beside(Path(onnx_path)), self.network.classes)
        # load everything now, not in the middle of a sequence
        device.run(self.network, np.zeros(self.network.shape, self.network.dtype))
        log.info("detector %s on %s", self.network.name, device.name)

    def __call__(self, image: np.ndarray) -> tuple[Detections, Run]:
        """(H, W, 3) BGR or (H, W) grey uint8 -> boxes in its pixels, best score first.

        Raises DrpAi3Error for another image, or planes that are not probabilities.
        """
        runs: list[Run] = []

        def execute(tensor: np.ndarray) -> np.ndarray:
            runs.append(self.device.run(self.network, tensor))
            return runs[-1].outputs[0]

        boxes_px, score, class_id = candidates(self.network, image, self.threshold, execute)
        height, width = image.shape[:2]
        keep = suppress(boxes_px, score, class_id)
        boxes_px = np.clip(boxes_px[keep], 0, (width, height, width, height)).astype(np.float32)
        label = tuple(self.names[i] for i in class_id[keep])
        return Detections(boxes_px, score[keep], class_id[keep], label), runs[0]


def open_detector(device: Device, config: PerceptionConfig) -> Detector | None:
    """The configured detector on a device that is already open; None without one.

    Raises ResourceError for a missing file, DrpAi3Error for one of another form,
    DeviceError for a board: its runtime holds one compiled network, the feature network.
    """
    if not config.detector:
        return None
    if config.backend == "mera":
        raise DeviceError(
            f"drpai3.detector is {config.detector!r}: backend mera runs one compiled network, the "
            "features'; use backend emulated or cpu, or no detector"
        )
    return Detector(device, resources.network(config.detector), config)


def names_beside(onnx_path: Path) -> str:
    """The only `*.names` file in the network's folder; "" if there is none or several."""
    found = sorted(onnx_path.parent.glob("*.names"))
    return str(found[0]) if len(found) == 1 else ""


def read_names(path: str, classes: int) -> tuple[str, ...]:
    """Names of the classes, one per line; their numbers without a file.

    Raises DrpAi3Error for a file that cannot be read or does not have `classes` lines.
    """
    if not path:
        return tuple(str(i) for i in range(classes))
    text = resources.read_text(resources.user_path(path), DrpAi3Error, 1 << 20, "give one name a line")
    names = tuple(text.split("\n"))
    names = tuple(name.strip() for name in names if name.strip())
    if len(names) != classes:
        raise DrpAi3Error(
            f"{path}: {len(names)} names, the detector has {classes} classes; give the file of its own data set"
        )
    return names


def candidates(
    network: DetectorNetwork, image: np.ndarray, threshold: float, execute: Callable[[np.ndarray], np.ndarray]
) -> Found:
    """All boxes with a score above `threshold`, overlapping ones included, in pixels of the image.

    `execute` runs the network on its tensor. Raises DrpAi3Error for an unsupported image or output.
    """
    check_image(image)
    height, width = image.shape[:2]
    shape, form = (network.shape[1], network.shape[2]), network.form
    if form is None:
        planes = network.real(execute(network.stored(prepare(image, shape))))
        boxes, score, class_id = decode(planes, threshold, network.name)
        return boxes * (width, height, width, height), score, class_id
    tensor, box = form.prepare(image, shape)
    boxes, score, class_id = form.decode(execute(tensor), shape)
    if not (np.isfinite(boxes).all() and np.isfinite(score).all()) or score.max(initial=0.0) > 1.001:
        raise DrpAi3Error(
            f"{network.name}: detected as {form.name}, but its scores reach {score.max(initial=0.0):.3g}; expected "
            "boxes and probabilities: export it with its sigmoid"
        )
    keep = score > threshold
    return box.back(boxes[keep]), score[keep], class_id[keep]


def check_image(image: np.ndarray) -> None:
    """Raises DrpAi3Error unless it is (H, W, 3) BGR or (H, W) grey, uint8, with a pixel."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise DrpAi3Error(
            f"image is {image.dtype} {image.shape}, expected uint8 (H, W) grey or (H, W, 3) BGR; convert it before"
        )
    if not image.size:
        raise DrpAi3Error(f"image is {image.shape}: empty; a detector needs at least one pixel")


def prepare(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(3, h, w) float32 in [0, 1], BGR, bilinearly resized without keeping the aspect ratio."""
    import cv2

    check_image(image)
    small = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    if small.ndim == 2:
        small = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(small.transpose(2, 0, 1), np.float32) / np.float32(255)


def decode(planes: np.ndarray, threshold: float, name: str = "detector") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells above `threshold`: boxes (N, 4) float64, score (N,) float32, class (N,) int64.

    `planes` is (5 + classes, h, w); boxes are x0 y0 x1 y1 as shares of the image, not clipped.
    Raises DrpAi3Error for values that are not finite or not probabilities.
    """
    height, width = planes.shape[1:]
    probable = np.concatenate([planes[:1], planes[5:].max(axis=0, keepdims=True)])
    if not np.isfinite(planes).all() or probable.min() < 0.0 or probable.max() > 1.001:
        raise DrpAi3Error(
            f"{name}: objectness and classes span {probable.min():.3g} to {probable.max():.3g}, "
            "expected probabilities; export it with its sigmoid and softmax"
        )
    score = probable[0] ** OBJECT_POWER * probable[1] ** CLASS_POWER
    rows, columns = np.nonzero(score > threshold)
    dx, dy, w, h = planes[1:5, rows, columns].astype(np.float64)
    centre = np.stack([(np.tanh(dx) + columns) / width, (np.tanh(dy) + rows) / height], axis=1)
    half = 0.5 / (1.0 + np.exp(-np.stack([w, h], axis=1)))
    class_id = planes[5:, rows, columns].argmax(axis=0)
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return boxes, score[rows, columns].astype(np.float32), class_id


def suppress(boxes: np.ndarray, score: np.ndarray, class_id: np.ndarray) -> np.ndarray:
    """(K,) indices of the boxes kept, best score first; classes do not suppress each other."""
    import cv2

    if not len(boxes):
        return np.zeros(0, np.intp)
    apart = boxes[:, :2] + (class_id * (np.abs(boxes).max() * 2 + 1))[:, None]
    rectangles = np.concatenate([apart, boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(rectangles.tolist(), score.tolist(), 0.0, NMS_IOU)
    return np.asarray(kept, np.intp).reshape(-1)
