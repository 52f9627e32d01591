# SPDX-License-Identifier: Apache-2.0
"""The detector against plain loops over the cells, small networks, and the real one where it is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from drp_slam.config import PerceptionConfig
from drp_slam.drpai3 import detect
from drp_slam.drpai3.detect import Detector, open_detector
from drp_slam.drpai3.network_cost import RESULTS_TAKEN
from drp_slam.drpai3.perceive import open_accelerator
from drp_slam.drpai3.quantize import quantize
from drp_slam.errors import ConfigError, DeviceError, DrpAi3Error, ResourceError

CLASSES = 3
CPU = PerceptionConfig(backend="cpu", detector_threshold=0.5)


def cell_weights(channels: int) -> np.ndarray:
    """Weights of a 16 x 16 convolution that averages each colour of a cell, then mixes them."""
    mix = np.random.default_rng(7).normal(0, 3 / 256, (channels, 3, 1, 1))
    return np.ascontiguousarray(np.broadcast_to(mix, (channels, 3, 16, 16)), np.float32)


def save(path, inputs=((1, 3, 32, 64),), kind=TensorProto.FLOAT, outputs=None, last="Sigmoid"):
    """A network whose planes are its colours, averaged over 16 x 16 cells, times fixed weights."""
    made = outputs or [(1, 5 + CLASSES, 2, 4)]
    weight = cell_weights(8 if last == "Flatten" else made[0][1])
    weight[0] = abs(weight[0])  # something is found
    nodes = [
        helper.make_node("Conv", ["x0", "w"], ["logits"], strides=[16, 16]),
        *(helper.make_node(last, ["logits"], [f"y{i}"]) for i in range(len(made))),
    ]
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info(f"x{i}", kind, shape) for i, shape in enumerate(inputs)],
        [helper.make_tensor_value_info(f"y{i}", kind, shape) for i, shape in enumerate(made)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return save(tmp_path / "cells.onnx")


def picture(shape=(48, 100, 3), seed=1) -> np.ndarray:
    """Patches of strong colours, so that cells differ."""
    patches = np.random.default_rng(seed).integers(0, 2, (3, 6, 3), np.uint8) * 255
    out = cv2.resize(patches, shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return out if len(shape) == 3 else cv2.cvtColor(out, cv2.COLOR_BGR2GRAY)


def plain_cells(planes, threshold):
    """Each cell's box, score and class as upstream states them: one cell after the other."""
    found = []
    for y in range(planes.shape[1]):
        for x in range(planes.shape[2]):
            values = [float(v) for v in planes[:, y, x]]
            best = max(range(len(values) - 5), key=lambda c: values[5 + c])
            score = values[0] ** 0.6 * values[5 + best] ** 0.4
            if score > threshold:
                cx = (math.tanh(values[1]) + x) / planes.shape[2]
                cy = (math.tanh(values[2]) + y) / planes.shape[1]
                w, h = 1 / (1 + math.exp(-values[3])), 1 / (1 + math.exp(-values[4]))
                box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                found.append((box, score, best))
    return found


def iou(a, b) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0.0) * max(h, 0.0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def plain_suppression(found):
    """Best first; a box goes where a better one of its class covers it."""
    kept = []
    for one in sorted(found, key=lambda f: -f[1]):
        if all(one[2] != k[2] or iou(one[0], k[0]) <= detect.NMS_IOU for k in kept):
            kept.append(one)
    return kept


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9))
def test_boxes_are_those_of_plain_loops(seed, height, width, classes):
    rng = np.random.default_rng(seed)
    planes = rng.random((5 + classes, height, width), np.float32)
    planes[1:5] = rng.normal(0, 2, (4, height, width))
    boxes, score, class_id = detect.decode(planes, 0.55)
    expected = plain_cells(planes, 0.55)
    assert len(boxes) == len(expected)
    for got, one in zip(zip(boxes, score, class_id), expected):
        np.testing.assert_allclose(got[0], one[0], atol=1e-6)
        assert got[1] == pytest.approx(one[1], abs=1e-6) and got[2] == one[2]

    kept = detect.suppress(boxes * 352, score, class_id)
    wanted = plain_suppression([(b, s, c) for b, s, c in zip(boxes, score, class_id)])
    np.testing.assert_array_equal(score[kept], [w[1] for w in wanted])
    np.testing.assert_array_equal(boxes[kept], np.array([w[0] for w in wanted]).reshape(-1, 4))


def test_detections_are_in_pixels_of_the_image_best_first(network):
    image = picture()
    found, run = Detector(open_accelerator(CPU), network, CPU)(image)
    tensor = detect.prepare(image, (32, 64))
    assert tensor.dtype == np.float32 and tensor.shape == (3, 32, 64)
    small = cv2.resize(image, (64, 32))
    np.testing.assert_array_equal(tensor[2], small[..., 2] / np.float32(255))  # BGR stays BGR
    (planes,) = detect.DetectorNetwork(network).compute(tensor)
    expected = plain_suppression(plain_cells(planes, 0.5))
    assert len(found) == len(expected) > 0
    boxes = np.array([one[0] for one in expected]) * (100, 48, 100, 48)
    np.testing.assert_allclose(found.boxes_px, np.clip(boxes, 0, (100, 48, 100, 48)), atol=1e-3)
    assert found.label == tuple(str(one[2]) for one in expected)
    assert found.boxes_px.dtype == found.score.dtype == np.float32
    assert run.work.counters["macs"] == 8 * 3 * 256 * 8 and run.device == "cpu"


def test_emulated_is_modelled_and_null_finds_nothing(network):
    emulated = PerceptionConfig(detector_threshold=0.5)
    found, run = Detector(open_accelerator(emulated), network, emulated)(picture())
    on_cpu, _ = Detector(open_accelerator(CPU), network, CPU)(picture())
    np.testing.assert_array_equal(found.boxes_px, on_cpu.boxes_px)
    assert (run.work.unit, run.work.kind, run.device) == ("drpai3", RESULTS_TAKEN, "emulated")
    null = PerceptionConfig(backend="null")
    found, run = Detector(open_accelerator(null), network, null)(picture())
    assert len(found) == 0 and found.boxes_px.shape == (0, 4) and run.work.unit == "null"


def test_grey_images_are_grey_in_all_channels(network):
    grey = picture((48, 100))
    detector = Detector(open_accelerator(CPU), network, CPU)
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    np.testing.assert_array_equal(detector(grey)[0].boxes_px, detector(colour)[0].boxes_px)


@pytest.mark.parametrize(
    "form",
    [
        {"outputs": [(1, 5, 2, 4)]},  # no class
        {"outputs": [(1, 64)], "last": "Flatten"},
        {"outputs": [(1, 8, 2, 4), (1, 8, 2, 4)]},
        {"inputs": [("n", 3, 32, 64)]},
        {"inputs": [(1, 3, "h", 64)]},
        {"inputs": [(2, 3, 32, 64)]},
        {"inputs": [(1, 3, 32, 64), (1, 3, 32, 64)]},
        {"kind": TensorProto.FLOAT16},
        {"kind": TensorProto.INT8},
    ],
    ids=lambda form: str(next(iter(form.items()))),
)
def test_another_form_is_refused_with_the_expected_one(tmp_path, form):
    path = save(tmp_path / "other.onnx", **form)
    with pytest.raises(DrpAi3Error, match=r"other\.onnx") as error:
        Detector(open_accelerator(CPU), path, CPU)
    assert "\n" not in str(error.value)


def test_no_network_no_file_no_board(tmp_path, network):
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"no network")
    with pytest.raises(DrpAi3Error, match=r"junk\.onnx"):
        Detector(open_accelerator(CPU), junk, CPU)
    with pytest.raises(DrpAi3Error, match="no such file"):
        Detector(open_accelerator(CPU), tmp_path / "gone.onnx", CPU)
    with pytest.raises(ResourceError, match="gone"):
        open_detector(open_accelerator(CPU), PerceptionConfig(detector=str(tmp_path / "gone.onnx")))
    board = PerceptionConfig(backend="mera", detector=str(network))
    with pytest.raises(DeviceError, match="one compiled network"):
        open_detector(open_accelerator(CPU), board)
    assert open_detector(open_accelerator(CPU), CPU) is None
    with pytest.raises(ConfigError, match=r"drpai3\.detector_every is 0"):
        PerceptionConfig(detector_every=0)


def test_names_come_from_a_file(tmp_path, network):
    names = tmp_path / "three.names"
    names.write_text("person\nbicycle\ntraffic light\n")
    config = PerceptionConfig(backend="cpu", detector=str(network), detector_names=str(names), detector_threshold=0.5)
    detector = open_detector(open_accelerator(config), config)
    found, _ = detector(picture())
    listed = names.read_text().splitlines()
    assert found.label == tuple(listed[i] for i in found.class_id) and len(found)
    names.write_text("person\nbicycle\n")
    with pytest.raises(DrpAi3Error, match="2 names, the detector has 3 classes"):
        open_detector(open_accelerator(config), config)
    names.unlink()
    with pytest.raises(DrpAi3Error, match="cannot read"):
        open_detector(open_accelerator(config), config)


@pytest.mark.parametrize(
    "image",
    [np.zeros((48, 100, 4), np.uint8), np.zeros((48, 100), np.uint16), np.zeros((0, 9), np.uint8)],
    ids=["BGRA", "uint16", "empty"],
)
def test_what_is_no_image_is_refused(network, image):
    with pytest.raises(DrpAi3Error, match="image is"):
        Detector(open_accelerator(CPU), network, CPU)(image)


@pytest.mark.parametrize("value", [-0.5, 3.0, float("nan"), float("inf")])
def test_planes_that_are_no_probabilities_are_refused(value):
    planes = np.full((8, 2, 2), 0.5, np.float32)
    planes[6, 1, 1] = value
    planes[5:, 1, 1] = np.minimum(planes[5:, 1, 1], planes[6, 1, 1])  # the best is the bad one
    with pytest.raises(DrpAi3Error, match="probabilities"):
        detect.decode(planes, 0.5)


def test_an_int8_network_finds_what_the_float_one_finds(tmp_path, network):
    images = [picture(seed=seed) for seed in range(8)]
    tensors = [detect.prepare(image, (32, 64))[None] for image in images]
    int8 = tmp_path / "cells-int8.onnx"
    quantize(onnx.load(network), tensors, int8)
    low = replace(CPU, detector_threshold=0.3)
    exact, coarse = (Detector(open_accelerator(low), path, low) for path in (network, int8))
    assert coarse.network.dtype == np.int8
    for image, tensor in zip(images, tensors):
        (real,) = exact.network.compute(tensor[0])
        (stored,) = coarse.network.compute(coarse.network.stored(tensor[0]))
        assert stored.dtype == np.int8
        np.testing.assert_allclose(coarse.network.real(stored), real, atol=0.03)
        assert len(coarse(image)[0]) > 0
    null = PerceptionConfig(backend="null", detector_threshold=0.0)
    assert len(Detector(open_accelerator(null), int8, null)(images[0])[0]) == 0


def test_parts_of_a_last_concat_have_their_own_scales(tmp_path):
    """As in FastestDet: objectness, box values and classes are quantised apart."""
    weight = cell_weights(8)
    nodes = []
    for name, op in (("a", "Sigmoid"), ("b", ""), ("c", "Softmax")):
        nodes.append(helper.make_node("Conv", ["x", f"w{name}"], [f"l{name}"], strides=[16, 16]))
        if op:
            axis = {"axis": 1} if op == "Softmax" else {}
            nodes.append(helper.make_node(op, [f"l{name}"], [f"p{name}"], **axis))
    nodes.append(helper.make_node("Concat", ["pa", "lb", "pc"], ["y"], axis=1))
    graph = helper.make_graph(
        nodes,
        "parts",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 32, 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 2, 4))],
        [
            numpy_helper.from_array(weight[part], f"w{name}")
            for name, part in (("a", slice(0, 1)), ("b", slice(1, 5)), ("c", slice(5, 8)))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    tensors = [detect.prepare(picture(seed=seed), (32, 64))[None] for seed in range(8)]
    onnx.save(model, tmp_path / "parts.onnx")
    quantize(model, tensors, tmp_path / "int8.onnx")
    exact = detect.DetectorNetwork(tmp_path / "parts.onnx")
    coarse = detect.DetectorNetwork(tmp_path / "int8.onnx")
    for tensor in tensors:
        (real,) = exact.compute(tensor[0])
        (stored,) = coarse.compute(coarse.stored(tensor[0]))
        error = np.abs(coarse.real(stored) - real).max(axis=(1, 2))
        assert error[0] < 0.03 and error[5:].max() < 0.03 and error[1:5].max() < 0.15


def test_real_network_finds_the_four_people_of_its_picture(data_folder):
    """Boxes drawn by eye around the people of 3.jpg, from left to right."""
    folder = data_folder / "networks" / "fastestdet"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    config = PerceptionConfig(detector=str(folder / "FastestDet.onnx"), detector_names=str(folder / "coco.names"))
    image = cv2.imread(str(folder / "3.jpg"))
    detector = open_detector(open_accelerator(config), config)
    found, run = detector(image)
    assert found.label == ("person",) * 4
    by_eye = [(42, 66, 164, 297), (162, 138, 248, 266), (235, 140, 325, 288), (292, 143, 485, 294)]
    for person, box in zip(by_eye, found.boxes_px[np.argsort(found.boxes_px[:, 0])]):
        assert iou(person, box) > 0.7
    planes = detector.network.compute(detect.prepare(image, detector.network.shape[1:]))[0]
    height, width = image.shape[:2]
    kept = plain_suppression(plain_cells(planes, config.detector_threshold))
    expected = [np.array(box) * (width, height, width, height) for box, _, _ in kept]
    np.testing.assert_allclose(found.boxes_px, expected, atol=0.01)
    assert run.work.counters["macs"] == pytest.approx(121.5e6, rel=0.01)
