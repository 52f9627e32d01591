# SPDX-License-Identifier: Apache-2.0
"""Detectors of other layouts: outputs made from known boxes give them back, whatever the image's shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from drp_slam.config import PerceptionConfig
from drp_slam.drpai3.detect import Detector
from drp_slam.drpai3.detector_forms import STRIDES, Form, form_of
from drp_slam.drpai3.perceive import open_accelerator
from drp_slam.errors import DrpAi3Error

SHAPE = (64, 96)
CELLS = sum((SHAPE[0] // s) * (SHAPE[1] // s) for s in STRIDES)
CLASSES = 4
BOXES = np.array([[10.0, 20.0, 40.0, 50.0], [50.0, 5.0, 90.0, 60.0]])
CLASS = (2, 0)
LAYOUTS = {"YOLOX": (CELLS, 5 + CLASSES), "YOLOv5": (3 * CELLS, 5 + CLASSES), "YOLOv8": (4 + CLASSES, CELLS)}
ROWS = (3, 100)
"""Cells that hold the two boxes."""


def grid(row: int) -> tuple[float, float, int]:
    """x, y and stride of a cell, by a plain loop."""
    cells = [(x, y, s) for s in STRIDES for y in range(SHAPE[0] // s) for x in range(SHAPE[1] // s)]
    return cells[row]


def output(name: str, decoded: bool = True) -> np.ndarray:
    """What a network of that layout gives for BOXES, with scores 0.9 and 0.8."""
    rows = np.zeros((LAYOUTS[name][0] if name != "YOLOv8" else CELLS, 5 + CLASSES), np.float32)
    if not decoded:
        rows[:, 2:4] = -1.0
    for row, box, k, score in zip(ROWS, BOXES, CLASS, (0.9, 0.8)):
        centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        if not decoded:
            x, y, stride = grid(row)
            centre, size = centre / stride - (x, y), np.log(size / stride)
        rows[row, :2], rows[row, 2:4], rows[row, 4], rows[row, 5 + k] = centre, size, 1.0, score
    return np.delete(rows, 4, axis=1).T if name == "YOLOv8" else rows


def form(name: str) -> Form:
    found = form_of((1, 3, *SHAPE), (1, *LAYOUTS[name]))
    assert found is not None and found.name == name and found.classes == CLASSES
    return found


@pytest.mark.parametrize(("name", "decoded"), [("YOLOX", True), ("YOLOX", False), ("YOLOv5", True), ("YOLOv8", True)])
def test_known_boxes_come_back(name: str, decoded: bool) -> None:
    boxes, score, class_id = form(name).decode(output(name, decoded), SHAPE)
    best = np.argsort(-score)[:2]
    np.testing.assert_allclose(boxes[best], BOXES, atol=1e-4)
    np.testing.assert_allclose(score[best], [0.9, 0.8], atol=1e-6)
    assert class_id[best].tolist() == list(CLASS)
    assert score[np.argsort(-score)[2]] == 0


@pytest.mark.parametrize("name", list(LAYOUTS))
@pytest.mark.parametrize("size", [(48, 200), (300, 40), (64, 96)])
def test_a_letterbox_keeps_the_aspect_and_is_inverted(name: str, size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    y, x = size[0] // 2, size[1] // 2
    image[y:, x:] = (10, 20, 250)  # red, in the lower right quarter
    tensor, box = form(name).prepare(image, SHAPE)
    red, blue = (0, 2) if form(name).rgb else (2, 0)
    full = 250 if form(name).bytes else 250 / 255
    rows, columns = np.nonzero(tensor[red] > 0.6 * full)
    corner = box.back(np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], float))[0]
    np.testing.assert_allclose(corner, (x, y, size[1], size[0]), atol=1.0 / box.scale)
    assert tensor[blue].max() < 0.5 * full and tensor.shape == (3, *SHAPE)


def network(path: Path, planes: np.ndarray) -> Path:
    """A network that finds the same in any image."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["none"]),
        helper.make_node("Add", ["planes", "none"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, *SHAPE))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, *planes.shape))],
        [numpy_helper.from_array(planes[None], "planes"), numpy_helper.from_array(np.float32(0), "zero")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_the_detector_takes_every_form(tmp_path: Path, name: str) -> None:
    config = PerceptionConfig(backend="cpu", detector_threshold=0.5)
    detector = Detector(open_accelerator(config), network(tmp_path / "net.onnx", output(name)), config)
    found, run = detector(np.zeros((128, 192, 3), np.uint8))  # twice the input's size
    np.testing.assert_allclose(found.boxes_px, 2 * BOXES, atol=1e-3)
    assert found.label == ("2", "0") and run.device == "cpu"
    logits = output(name) * 9
    with pytest.raises(DrpAi3Error, match=f"detected as {name}.*sigmoid"):
        Detector(open_accelerator(config), network(tmp_path / "raw.onnx", logits), config)(np.zeros((9, 9), np.uint8))
