# SPDX-License-Identifier: Apache-2.0
"""INT8 quantisation: the numbers are the formula's, the borders are int8, the shipped files run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from drp_slam import resources
from drp_slam.card import load_card
from drp_slam.drpai3 import emulator
from drp_slam.drpai3.quantize import affine, quantize
from drp_slam.drpai3.quantize_borders import border_scales
from drp_slam.drpai3.ranges import activation_ranges
from drp_slam.errors import DrpAi3Error

INT8 = ("xfeat", "xfeat-p50", "xfeat-p70", "xfeat-p80", "xfeat-p90")


def network(heads: int = 2, seed: int = 0) -> onnx.ModelProto:
    """1x1x H x W -> 3x3 convolution and Relu -> `heads` 1x1 convolutions -> Concat."""
    rng = np.random.default_rng(seed)
    weights = {"a.weight": rng.standard_normal((8, 1, 3, 3)), "a.bias": rng.standard_normal(8)}
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["a_conv"], pads=[1] * 4),
        helper.make_node("Relu", ["a_conv"], ["a"]),
    ]
    for i in range(heads):
        weights[f"h{i}.weight"] = rng.standard_normal((4, 8, 1, 1)) * 10.0**i
        weights[f"h{i}.bias"] = rng.standard_normal(4)
        nodes.append(helper.make_node("Conv", ["a", f"h{i}.weight", f"h{i}.bias"], [f"h{i}"]))
    nodes.append(helper.make_node("Concat", [f"h{i}" for i in range(heads)], ["y"], axis=1))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4 * heads, "H", "W"])],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(count: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal((1, 1, 16, 24)).astype(np.float32) for _ in range(count)]


@settings(max_examples=40, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(0, 1e3))
def test_affine_covers_its_range_and_zero(low: float, width: float) -> None:
    scale, zero = affine(low, low + width)
    assert -128 <= zero <= 127
    ends = (np.array([-128, 127]) - zero) * scale
    assert ends[0] <= min(low, 0) + 0.51 * scale
    assert ends[1] >= max(low + width, 0) - 0.51 * scale


def test_heads_keep_their_own_scale_and_borders_are_int8(tmp_path: Path) -> None:
    model = quantize(network(), images(), tmp_path / "q.onnx")
    assert (tmp_path / "q.onnx").is_file()
    graph = model.graph
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.INT8
    assert graph.output[0].type.tensor_type.elem_type == TensorProto.INT8
    (scale, zero), heads = border_scales(model)
    assert len(heads) == 2
    assert heads[1][0] > 3 * heads[0][0]  # ten times the weights

    x = images()[0]
    (expected,) = ort.InferenceSession(network().SerializeToString()).run(None, {"x": x})
    stored = np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)
    (found,) = emulator.session(model.SerializeToString()).run(None, {"x": stored})
    assert found.dtype == np.int8
    for i, (s, z) in enumerate(heads):
        part = slice(4 * i, 4 * i + 4)
        error = np.abs((found[:, part].astype(np.float32) - z) * s - expected[:, part])
        assert error.max() < 5 * s


def test_weights_are_symmetric_per_channel_and_zeros_stay() -> None:
    model = network()
    weight = next(t for t in model.graph.initializer if t.name == "a.weight")
    pruned = np.array(numpy_helper.to_array(weight))
    pruned[:, :, 1] = 0.0
    weight.CopyFrom(numpy_helper.from_array(pruned, "a.weight"))
    stored = {t.name: numpy_helper.to_array(t) for t in quantize(model, images()).graph.initializer}
    assert stored["a.weight_quantized"].dtype == np.int8
    assert not stored["a.weight_quantized"][:, :, 1].any()
    expected = np.abs(pruned).max((1, 2, 3)) / 127.0
    np.testing.assert_allclose(stored["a.weight_scale"], expected, rtol=1e-5)
    assert not stored["a.weight_zero_point"].any()


def test_percentile_cuts_an_outlier() -> None:
    spiked = images(8)
    spiked[3][0, 0, 0, 0] = 1000.0
    widest = activation_ranges(network(), spiked)["x"]
    cut = activation_ranges(network(), spiked, "percentile", 99.0)["x"]
    assert widest[1] == 1000.0
    assert cut[1] < 10.0
    assert activation_ranges(network(), spiked, "percentile", 100.0)["x"][1] == 1000.0


def test_given_scales_are_used_exactly() -> None:
    given_scales = {"x": (0.05, 3), "h0": (0.125, -7)}
    first, heads = border_scales(quantize(network(), images(), scales=given_scales))
    assert first == (pytest.approx(0.05), 3)
    assert heads[0] == (pytest.approx(0.125), -7)


def test_network_without_concat() -> None:
    model = network(heads=1)
    del model.graph.node[-1]
    model.graph.output[0].name = "h0"
    (found,) = ort.InferenceSession(quantize(model, images()).SerializeToString()).run(
        None, {"x": np.zeros((1, 1, 16, 24), np.int8)}
    )
    assert found.shape == (1, 4, 16, 24)
    assert found.dtype == np.int8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": []}, "no calibration image"),
        ({"method": "entropy"}, "known: minmax, percentile"),
        ({"percentile": 20.0}, "outside"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(DrpAi3Error, match=message):
        quantize(network(), **({"calibration": images(1)} | options))


@pytest.mark.parametrize("name", INT8)
def test_shipped_int8_networks_run_in_integer_kernels(name: str, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(resources.network(name), options)
    counts = Counter(n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node)
    assert counts["QLinearConv"] == 29
    assert counts["Conv"] == 0


@pytest.mark.parametrize("name", ["xfeat-fp32", *INT8])
def test_cards_tell_the_truth(name: str) -> None:
    import hashlib

    card = load_card(name)
    assert hashlib.sha256(card.onnx.read_bytes()).hexdigest() == card.facts["sha256"]
    assert card.channels == 130
    if card.dtype == "int8":
        first, heads = border_scales(onnx.load(card.onnx))
        assert (card.input.scale, card.input.zero_point) == first
        stated = [(h.quantisation.scale, h.quantisation.zero_point) for h in card.heads.values()]
        assert stated == heads
