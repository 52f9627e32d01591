# SPDX-License-Identifier: Apache-2.0
"""An optional object detector beside the features' network: read `Detector.__call__` first.

Networks of FastestDet's form (https://github.com/dog-qiuqiu/FastestDet, BSD-3), none is shipped:
input (1, 3, H, W) float32, BGR in [0, 1]; output (1, 5 + classes, h, w) with objectness, four box
values and class probabilities of each cell, sigmoid and softmax already applied.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam import resources
from drp_slam.config import PerceptionConfig
from drp_slam.datatypes import Detections
from drp_slam.device import Device, Run
from drp_slam.drpai3.emulator import session
from drp_slam.errors import DeviceError, DrpAi3Error

log = logging.getLogger(__name__)

NMS_IOU = 0.45
"""Of two boxes of one class that overlap more than this, the better one stays (upstream's)."""
OBJECT_POWER, CLASS_POWER = 0.6, 0.4
"""Score of a cell: objectness and class probability to these powers (upstream's)."""
FORM = "(1, 3, H, W) float32 in, (1, 5 + classes, h, w) out, as FastestDet exports it"


class DetectorNetwork:
    """The network as a program: tensor (3, H, W) float32 in, planes (5 + classes, h, w) out.

    Raises DrpAi3Error for a file that is no ONNX network or has another form.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        if not path.is_file():
            raise DrpAi3Error(f"{path}: no such file; give a detector's .onnx file")
        self.name, self.path = path.stem, path
        self._session = session(path, threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        taken = [(i.type, i.shape) for i in inputs]
        given = [(o.type, o.shape) for o in outputs]
        if not _has_form(taken, given):
            raise DrpAi3Error(
                f"{path}: takes {_text(taken)}, gives {_text(given)}; expected {FORM}"
            )
        self._input = inputs[0].name
        self.shape: tuple[int, ...] = tuple(inputs[0].shape[1:])
        self._planes: tuple[int, ...] = tuple(outputs[0].shape[1:])
        self.classes = self._planes[0] - 5
        self._work: Mapping[str, float] = {}

    def compute(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The planes."""
        (tensor,) = inputs
        self.check(tensor)
        (planes,) = self._session.run(None, {self._input: tensor[None]})
        return (planes[0],)

    def empty(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Zeros of the planes' shape: nothing is detected."""
        self.check(inputs[0])
        return (np.zeros(self._planes, np.float32),)

    def work(self, *inputs: np.ndarray) -> Mapping[str, float]:
        """`macs`, dense, counted from the graph once."""
        if not self._work:
            from drp_slam.drpai3.layers import layers

            self._work = {"macs": float(sum(la.macs for la in layers(self.graph(self.shape))))}
        return self._work

    def graph(self, shape: tuple[int, ...]) -> Any:
        """The network's `graph.Graph`, for the model of the chip."""
        from drp_slam.drpai3.graph import load

        return load(self.path, {"": (1, *shape)})

    def check(self, tensor: np.ndarray) -> None:
        """Raises DrpAi3Error unless the tensor fits the network."""
        if tensor.dtype != np.float32 or tensor.shape != self.shape:
            raise DrpAi3Error(
                f"detector {self.name} takes float32 {self.shape}, got {tensor.dtype} "
                f"{tensor.shape}; let Detector prepare the image"
            )


def _has_form(taken: list[tuple[str, list]], given: list[tuple[str, list]]) -> bool:
    if len(taken) != 1 or len(given) != 1:
        return False
    if {taken[0][0], given[0][0]} != {"tensor(float)"}:
        return False
    inner, outer = taken[0][1], given[0][1]
    fixed = all(isinstance(side, int) and side > 0 for side in (*inner, *outer))
    four = len(inner) == len(outer) == 4
    return fixed and four and inner[:2] == [1, 3] and outer[0] == 1 and outer[1] > 5


def _text(values: list[tuple[str, list]]) -> str:
    return ", ".join(f"{kind.removeprefix('tensor')}{shape}" for kind, shape in values) or "nothing"


class Detector:
    """`detect(image) -> (Detections, run)`; one per network.

    `config` gives threshold, names and threads. The `Run` is the network's alone: the resize
    before it and the decoding after it are not in its times. On an emulated DRP-AI3 a float32
    network's boxes are computed in float32, its time and energy as the chip would run it, in INT8.
    """

    def __init__(self, device: Device, onnx_path: str | Path, config: PerceptionConfig) -> None:
        self.device, self._threshold = device, config.detector_threshold
        self.network = DetectorNetwork(Path(onnx_path), config.threads)
        self.names = read_names(config.detector_names, self.network.classes)
        # what is loaded at the first run is loaded now, not in the middle of a sequence
        device.run(self.network, np.zeros(self.network.shape, np.float32))
        log.info("detector %s on %s", self.network.name, device.name)

    def __call__(self, image: np.ndarray) -> tuple[Detections, Run]:
        """(H, W, 3) BGR or (H, W) grey uint8 -> boxes in its pixels, best score first.

        Raises DrpAi3Error for another image, or planes that are no probabilities.
        """
        tensor = prepare(image, self.network.shape[1:])
        run = self.device.run(self.network, tensor)
        boxes, score, class_id = decode(run.outputs[0], self._threshold, self.network.name)
        height, width = image.shape[:2]
        boxes_px = boxes * (width, height, width, height)
        keep = suppress(boxes_px, score, class_id)
        boxes_px = np.clip(boxes_px[keep], 0, (width, height, width, height)).astype(np.float32)
        label = tuple(self.names[i] for i in class_id[keep])
        return Detections(boxes_px, score[keep], class_id[keep], label), run


def open_detector(device: Device, config: PerceptionConfig) -> Detector | None:
    """The detector that the configuration names, on a device that is already open, or None.

    Raises ResourceError for a file that is not there, DrpAi3Error for one of another form,
    DeviceError for a board: its runtime holds one compiled network, the features'.
    """
    if not config.detector:
        return None
    if config.backend == "mera":
        raise DeviceError(
            f"drpai3.detector is {config.detector!r}: backend mera runs one compiled network, the "
            "features'; use backend emulated or cpu, or no detector"
        )
    return Detector(device, resources.network(config.detector), config)


def read_names(path: str, classes: int) -> tuple[str, ...]:
    """Names of the classes, one a line; their numbers where no file is given.

    Raises DrpAi3Error for a file that cannot be read or does not have `classes` lines.
    """
    if not path:
        return tuple(str(i) for i in range(classes))
    try:
        names = tuple(Path(path).expanduser().read_text().split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise DrpAi3Error(f"{path}: cannot read names: {error}; give one name a line") from error
    names = tuple(name.strip() for name in names if name.strip())
    if len(names) != classes:
        raise DrpAi3Error(f"{path}: {len(names)} names, the detector has {classes} classes; "
                          "give the file of its own data set")  # fmt: skip
    return names


def prepare(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(3, h, w) float32 in [0, 1], BGR, bilinearly resized without keeping the aspect ratio."""
    import cv2

    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise DrpAi3Error(f"image is {image.dtype} {image.shape}, expected uint8 (H, W) grey or "
                          "(H, W, 3) BGR; convert it before")  # fmt: skip
    if not image.size:
        raise DrpAi3Error(f"image is {image.shape}: empty; a detector needs at least one pixel")
    small = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    if small.ndim == 2:
        small = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(small.transpose(2, 0, 1), np.float32) / np.float32(255)


def decode(
    planes: np.ndarray, threshold: float, name: str = "detector"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells above `threshold`: boxes (N, 4) float64, score (N,) float32, class (N,) int64.

    `planes` is (5 + classes, h, w); boxes are x0 y0 x1 y1 as shares of the image, not clipped.
    Raises DrpAi3Error for values that are not finite or no probabilities.
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
    """(K,) indices of the boxes that stay, best score first; classes do not suppress each other."""
    import cv2

    if not len(boxes):
        return np.zeros(0, np.intp)
    apart = boxes[:, :2] + (class_id * (np.abs(boxes).max() * 2 + 1))[:, None]
    rectangles = np.concatenate([apart, boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(rectangles.tolist(), score.tolist(), 0.0, NMS_IOU)
    return np.asarray(kept, np.intp).reshape(-1)
