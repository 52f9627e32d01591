# SPDX-License-Identifier: Apache-2.0
"""Old, optimised and quantised files of one network get the answer of the plain file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from normal_forms import CHANNELS, batch_norm, conv, network, run
from onnx import TensorProto, helper, numpy_helper
from onnx_networks import Builder
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from test_normalise import HARD_SWISH

from drp_slam.chip.constants import load_constants
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.layers import layers, weight_of
from drp_slam.errors import DrpAi3Error

DEVICE = load_constants("rzv2h")


def mixed(form: str = "hard sigmoid", norm: bool = True) -> onnx.ModelProto:
    """Convolutions with every fold and curve that a rewrite could lose."""
    b = network()
    y = conv(b, "x")
    y = b.op("Relu", batch_norm(b, y) if norm else y)
    y = HARD_SWISH[form](b, conv(b, y, group=CHANNELS))
    y = b.op("Add", conv(b, y, k=1), y)
    y = b.op("Mul", conv(b, y), b.op("Sigmoid", conv(b, y)))
    return b.model(b.op("Softmax", b.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), axis=1))


def save(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def answer(path: Path) -> tuple[list[tuple[str, str]], float, float]:
    """Operators with their units (in any order), MACs and time."""
    found = estimate(load(path), DEVICE)
    return sorted((row.op, row.unit) for row in found.rows), found.macs, found.total_s


def same(path: Path, plain: Path) -> None:
    rows, macs, seconds = answer(path)
    wanted, wanted_macs, wanted_s = answer(plain)
    assert rows == wanted and macs == wanted_macs
    assert seconds == pytest.approx(wanted_s, rel=1e-3)  # a bias more is a few bytes more to stream


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12])
def test_old_opsets_with_initialisers_among_the_inputs(tmp_path, opset):
    b = Builder((1, CHANNELS, 6, 6), opset)
    y = b.op("Clip", batch_norm(b, conv(b, "x")), **({"min": 0.0, "max": 6.0} if opset < 11 else {}))
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    if opset < 9:
        y = b.op("Upsample", y, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest") if opset > 6 else y
    elif opset == 9:
        y = b.op("Upsample", y, scales, mode="nearest")
    elif opset == 10:
        y = b.op("Resize", y, scales, mode="nearest")
    else:
        y = b.op("Resize", y, b.constant(np.zeros(0, np.float32)), scales, mode="nearest")
    model = b.model(b.op("Squeeze", b.op("GlobalAveragePool", y), axes=[2, 3]))
    model.ir_version = 3
    for stored in b.weights:
        model.graph.input.append(helper.make_tensor_value_info(stored.name, stored.data_type, stored.dims))
    path = save(tmp_path / "a.onnx", model)
    graph = load(path)
    first = ["Conv", "Clip"] if opset < 11 else ["Conv"]
    assert [n.op for n in graph.nodes][: len(first)] == first
    assert graph.inputs == ("x",)
    for wanted, got in zip(run(model), run(graph.model())):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("opset", [11, 12, 13])
def test_a_constant_unsqueeze(tmp_path, opset):
    b = Builder((1, CHANNELS, 6, 6), opset)
    row = b.constant(b.random.normal(size=CHANNELS).astype(np.float32))
    wide = b.op("Unsqueeze", row, axes=[1, 2]) if opset < 13 else b.op("Unsqueeze", row, b.constant(np.array([1, 2])))
    path = save(tmp_path / "a.onnx", b.model(b.op("Add", conv(b, "x"), wide)))
    assert [n.op for n in load(path).nodes] == ["Conv"]


def test_half_precision_in_any_order_of_nodes(tmp_path):
    model = mixed()
    del model.graph.value_info[:]
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = "x_half" if name == "x" else name
    model.graph.node.append(helper.make_node("Cast", ["x"], ["x_half"], to=TensorProto.FLOAT16))
    model.graph.node.append(helper.make_node("Cast", [model.graph.output[0].name], ["y"], to=TensorProto.FLOAT))
    model.graph.output[0].name = "y"
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    half = save(tmp_path / "half.onnx", model)
    found, wanted = (answer(p) for p in (half, save(tmp_path / "a.onnx", mixed())))
    assert found[:2] == wanted[:2]


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
@pytest.mark.parametrize("form", ["hard sigmoid", "product first"])
def test_files_that_onnxruntime_optimised(tmp_path, level, form):
    plain = save(tmp_path / "a.onnx", mixed(form))
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    same(tmp_path / "optimised.onnx", plain)
    optimised = onnx.load(tmp_path / "optimised.onnx")
    assert level == "BASIC" or any(n.domain == "com.microsoft" for n in optimised.graph.node)
    for wanted, got in zip(run(mixed(form)), run(load(tmp_path / "optimised.onnx").model())):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


def test_a_file_in_the_layout_of_one_processor_is_refused(tmp_path):
    b = network()
    y = b.op("Conv", "x", b.constant(np.ones((8, 8, 1, 1), np.float32)), domain="com.microsoft.nchwc")
    with pytest.raises(DrpAi3Error, match="ORT_ENABLE_EXTENDED"):
        load(save(tmp_path / "a.onnx", b.model(y)))


def test_gelu_and_products_of_onnxruntime(tmp_path):
    b = Builder((2, 3, 12))
    y = b.op("FusedMatMul", "x", b.constant(np.ones((7, 12), np.float32)), domain="com.microsoft", transB=1, alpha=0.5)
    y = b.op("BiasGelu", y, b.constant(np.ones(7, np.float32)), domain="com.microsoft")
    sums = b.op(
        "SkipLayerNormalization", y, y, *(b.constant(np.ones(7, np.float32)) for _ in "gb"), domain="com.microsoft"
    )
    model = b.model(b.op("QuickGelu", sums, domain="com.microsoft"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    path = save(tmp_path / "a.onnx", model)
    for wanted, got in zip(run(onnx.load(path)), run(load(path).model())):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


class Images(CalibrationDataReader):
    def __init__(self) -> None:
        self._items = iter([{"x": np.random.default_rng(0).normal(size=(1, CHANNELS, 6, 6)).astype(np.float32)}])

    def get_next(self) -> dict | None:
        return next(self._items, None)


@pytest.mark.parametrize("layout", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("weights", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_files_place_as_the_float_file(tmp_path, layout, weights, per_channel):
    plain = save(tmp_path / "a.onnx", mixed(norm=False))
    path = tmp_path / "q.onnx"
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": weights}
    quantize_static(plain, path, Images(), quant_format=layout, per_channel=per_channel, **kinds)
    rows, macs, _ = answer(path)
    wanted, wanted_macs, _ = answer(plain)
    assert load(path).int8 and macs == wanted_macs
    # quantisers drop activations whose range the integers hold anyway
    assert [r for r in rows if r[0] not in ("Relu", "Clip")] == [r for r in wanted if r[0] not in ("Relu", "Clip")]
    graph, floats = load(path), load(plain)
    for layer, real in zip(
        (x for x in layers(graph) if x.weight), (x for x in layers(floats) if x.weight), strict=True
    ):
        stored, wished = weight_of(graph, layer).astype(float), weight_of(floats, real)
        for one, other in zip(stored, wished):
            assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > (0.999 if per_channel else 0.95)


@pytest.mark.parametrize("weights", [QuantType.QInt8, QuantType.QUInt8])
def test_dynamically_quantised_files(tmp_path, weights):
    b = network()
    y = b.op("Relu", b.op("Conv", "x", *(b.constant(b.random.normal(size=s).astype("f")) for s in ((8, 8, 3, 3), 8))))
    y = b.op("Flatten", b.op("GlobalAveragePool", y))
    y = b.op("MatMul", y, b.constant(b.random.normal(size=(8, 5)).astype(np.float32)))
    plain = save(tmp_path / "a.onnx", b.model(y))
    quantize_dynamic(plain, tmp_path / "d.onnx", weight_type=weights)
    assert {"ConvInteger", "MatMulInteger"} <= {n.op_type for n in onnx.load(tmp_path / "d.onnx").graph.node}
    same(tmp_path / "d.onnx", plain)
    for wanted, got in zip(run(onnx.load(tmp_path / "d.onnx")), run(load(tmp_path / "d.onnx").model())):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind, zero", [(np.uint8, 128), (np.uint8, 100), (np.int8, 0)])
def test_zero_points_of_weights_are_taken_away(tmp_path, kind, zero):
    b = Builder((1, 4, 8, 8))
    stored = b.random.integers(0, 100, (6, 4, 3, 3)).astype(kind)
    scale = b.constant(np.float32(0.1))
    y = b.op("Conv", "x", b.op("DequantizeLinear", b.constant(stored), scale, b.constant(kind(zero))))
    graph = load(b.save(tmp_path / "a.onnx", y))
    (layer,) = layers(graph)
    np.testing.assert_array_equal(weight_of(graph, layer), stored.astype(int) - zero)
    assert not graph.int8  # the activations are not quantised


@pytest.mark.parametrize("kind", ["int8", "uint8", "int4", "uint4"])
def test_blocked_weights(tmp_path, kind):
    b = Builder((3, 16), opset=21)
    limit = 8 if "4" in kind else 100
    numbers = b.random.integers(0, limit, (16, 5))
    zeros = b.random.integers(0, limit, (4, 5))
    code = getattr(TensorProto, kind.upper())
    names = []
    for name, values in (("w", numbers), ("z", zeros)):
        b.weights.append(helper.make_tensor(name, code, values.shape, values.ravel()))
        names.append(name)
    scale = b.constant(np.full((4, 5), 0.1, np.float32))
    y = b.op("MatMul", "x", b.op("DequantizeLinear", "w", scale, "z", axis=0, block_size=4))
    graph = load(b.save(tmp_path / "a.onnx", y))
    (layer,) = layers(graph)
    np.testing.assert_array_equal(weight_of(graph, layer), (numbers - np.repeat(zeros, 4, axis=0)).T)


def test_what_cannot_be_lifted_is_one_line(tmp_path):
    b = Builder((2, 3), opset=8)
    with pytest.raises(DrpAi3Error, match="cannot be lifted to 13|produced by no node"):
        load(save(tmp_path / "a.onnx", b.model(b.op("Upsample", "x", scales=[1.0], mode="nearest"))))
