# SPDX-License-Identifier: Apache-2.0
"""The loader: what it accepts, and one line for everything it does not."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_networks import Builder, residual

from drp_slam.commands._networks import input_shapes
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.layers import layers, weight_of
from drp_slam.errors import DrpAi3Error

CORPUS = Path(__file__).parent / "corpus"


def test_macs_and_shapes(tmp_path):
    graph = load(residual(tmp_path / "a.onnx"))
    work = layers(graph)
    assert [layer.kind for layer in work] == ["conv", "relu", "conv", "add", "relu"]
    assert sum(layer.macs for layer in work) == 32 * 32 * 64 * 9 * (16 + 64)
    assert work[-1].out_shape == (1, 64, 32, 32)


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_opsets(tmp_path, opset):
    b = Builder(opset=opset)
    path = b.save(tmp_path / "a.onnx", b.op("Relu", b.conv("x", 16, 8)))
    assert len(load(path).nodes) == 2


def test_gz_is_the_same_network(tmp_path):
    path = residual(tmp_path / "a.onnx")
    packed = tmp_path / "a.onnx.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert load(packed).shapes == load(path).shapes and load(packed).name == "a"


def test_dynamic_batch_is_one_and_other_dimensions_are_asked_for(tmp_path):
    b = Builder(("N", 16, "H", "W"))
    path = b.save(tmp_path / "a.onnx", b.conv("x", 16, 8))
    with pytest.raises(DrpAi3Error, match=r"a.onnx.*'x'.*'H'.*--input-shape x=1,\d+,") as error:
        load(path)
    assert "\n" not in str(error.value)
    assert load(path, {"": (1, 16, 8, 12)}).shapes["x"] == (1, 16, 8, 12)
    assert load(path, {"x": (2, 16, 8, 12)}).shapes["x"][0] == 2
    with pytest.raises(DrpAi3Error, match="fixed to 16"):
        load(path, {"x": (1, 3, 8, 12)})
    with pytest.raises(DrpAi3Error, match="dimensions"):
        load(path, {"x": (1, 16, 8)})
    with pytest.raises(DrpAi3Error, match="inputs are: x"):
        load(path, {"y": (1, 16, 8, 8)})


def test_shapes_computed_in_the_graph_are_folded(tmp_path):
    b = Builder((1, 16, "H", "W"))
    y = b.conv("x", 16, 8)
    size = b.op("Slice", b.op("Shape", y), b.constant(np.array([2])), b.constant(np.array([4])))
    twice = b.op("Mul", size, b.constant(np.array([2, 2])))
    head = b.op("Slice", b.op("Shape", y), b.constant(np.array([0])), b.constant(np.array([2])))
    shape = b.op("Concat", head, twice, axis=0)
    path = b.save(tmp_path / "a.onnx", b.op("Resize", y, "", "", shape, mode="nearest"))
    graph = load(path, {"": (1, 16, 10, 20)})
    assert [n.op for n in graph.nodes] == ["Conv", "Resize"]
    assert graph.shapes[graph.outputs[0]] == (1, 8, 20, 40)


def quantised(tmp_path: Path, per_channel: bool) -> tuple[Path, np.ndarray]:
    """A QDQ convolution whose weights have a zero point."""
    b = Builder((1, 4, 8, 8))
    stored = b.random.integers(-128, 128, (6, 4, 3, 3)).astype(np.int8)
    size = (6,) if per_channel else ()
    zero = np.full(size, 5, np.int8)
    scale = np.full(size, 0.1, np.float32)
    w = b.op("DequantizeLinear", b.constant(stored), b.constant(scale), b.constant(zero), axis=0)
    one, origin = b.constant(np.float32(0.1)), b.constant(np.int8(0))
    x = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", one, origin), one, origin)
    y = b.op("Conv", x, w, pads=[1, 1, 1, 1])
    return b.save(tmp_path / "q.onnx", b.op("QuantizeLinear", y, one, origin)), stored


@pytest.mark.parametrize("per_channel", [False, True])
def test_qdq_becomes_one_int8_layer(tmp_path, per_channel):
    path, stored = quantised(tmp_path, per_channel)
    graph = load(path)
    (layer,) = layers(graph)
    assert graph.int8 and layer.op == "Conv" and layer.macs == 64 * 6 * 36
    np.testing.assert_array_equal(weight_of(graph, layer), stored.astype(int) - 5)


@pytest.mark.parametrize("trans", [0, 1])
def test_weights_are_turned_output_first(tmp_path, trans):
    b = Builder((1, 12))
    w = b.random.normal(size=(7, 12) if trans else (12, 7)).astype(np.float32)
    graph = load(b.save(tmp_path / "g.onnx", b.op("Gemm", "x", b.constant(w), transB=trans)))
    (layer,) = layers(graph)
    assert weight_of(graph, layer).shape == (7, 12) and layer.macs == 84


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Every kind of bad input, with what its line must say."""
    good = residual(folder / "good.onnx").read_bytes()
    cases: dict[str, tuple[bytes | onnx.ModelProto, str]] = {
        "text": (b"this is no network", "not an ONNX"),
        "empty": (b"", "not an ONNX"),
        "truncated": (good[: len(good) // 2], "truncated|not an ONNX|wrong amount|invalid"),
    }
    b = Builder()
    cases["operator"] = (b.model(b.op("Convolve", "x")), "unknown operator Convolve")
    b = Builder()
    cases["domain"] = (b.model(b.op("Conv", "x", domain="com.acme")), "domain 'com.acme'")
    b = Builder(opset=99)
    cases["new"] = (b.model(b.op("Relu", "x")), "opset 99")
    b = Builder()
    w = np.full((8, 16, 3, 3), np.nan, np.float32)
    cases["nan"] = (b.model(b.op("Conv", "x", b.constant(w))), "NaN or infinity")
    b = Builder()
    cases["shape"] = (b.model(b.op("Conv", "x", b.constant(np.ones((8, 5, 3, 3), "f")))), "conv0.*does not fit")
    b = Builder(("N",))
    cases["unfixed"] = (b.model(b.op("Relu", "x")), "not fixed")
    b = Builder()
    cases["unresolved"] = (b.model(b.op("NonZero", "x")), "cannot be inferred")
    b = Builder()
    y = b.conv("x", 16, 8)
    external = b.model(y)
    tensor = external.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    cases["external"] = (external, "weights.bin")
    b = Builder()
    short = b.model(b.conv("x", 16, 128))
    short.graph.initializer[0].raw_data = short.graph.initializer[0].raw_data[:-8]
    cases["short"] = (short, "wrong amount|invalid")
    out = {}
    for name, (content, says) in cases.items():
        path = folder / f"{name}.onnx"
        data = content if isinstance(content, bytes) else content.SerializeToString()
        path.write_bytes(data)
        out[name] = (path, says)
    gz = folder / "half.onnx.gz"
    gz.write_bytes(gzip.compress(good)[:100])
    out["gz"] = (gz, "cannot read")
    out["missing"] = (folder / "none.onnx", "cannot read")
    return out


@pytest.mark.parametrize(
    "case",
    [
        "text",
        "empty",
        "truncated",
        "operator",
        "domain",
        "new",
        "nan",
        "shape",
        "unfixed",
        "unresolved",
        "external",
        "short",
        "gz",
        "missing",
    ],
)
def test_bad_input_is_one_line(tmp_path, case):
    path, says = bad_files(tmp_path)[case]
    with pytest.raises(DrpAi3Error, match=says) as error:
        graph = load(path)
        for layer in layers(graph):
            if layer.weight:
                weight_of(graph, layer)
    assert path.name in str(error.value)


def read_all(path: Path) -> None:
    """Loads and reads every weight; deliberate errors are fine, anything else is not."""
    try:
        graph = load(path)
        for layer in layers(graph):
            assert layer.macs >= 0 and math.prod(layer.out_shape) >= 0
            if layer.weight:
                weight_of(graph, layer)
    except DrpAi3Error as error:
        assert path.name in str(error)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_fuzzed_bytes_never_escape(tmp_path, data):
    b = Builder((1, 4, 8, 8))
    y = b.op("Relu", b.conv("x", 4, 4))
    good = bytearray(b.model(b.op("Add", y, b.conv(y, 4, 4, 1))).SerializeToString())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(good) - 1))
        match data.draw(st.sampled_from(("flip", "cut", "insert"))):
            case "flip":
                good[at] = data.draw(st.integers(0, 255))
            case "cut":
                del good[at : at + data.draw(st.integers(1, 40))]
            case "insert":
                good[at:at] = data.draw(st.binary(max_size=12))
        if not good:
            good = bytearray(b"\0")
    path = tmp_path / "fuzz.onnx"
    path.write_bytes(good)
    read_all(path)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.onnx")), ids=lambda p: p.stem)
def test_files_that_broke_the_loader_before(path):
    read_all(path)


@pytest.mark.parametrize("text, shape", [("x=1,3,8,8", {"x": (1, 3, 8, 8)}), ("1x3x8x8", {"": (1, 3, 8, 8)})])
def test_input_shape_texts(text, shape):
    assert input_shapes([text]) == shape


def test_invalid_input_shapes_are_refused():
    with pytest.raises(DrpAi3Error, match="expected NAME="):
        input_shapes(["x=1,a"])


@pytest.mark.parametrize("form", ["shared", "reshaped", "standardised"])
def test_weights_computed_from_constants_are_constants(tmp_path, form):
    """Exporters share equal weights through Identity, and leave weight standardisation in."""
    b = Builder((1, 64, 8, 8))
    w = b.random.normal(size=(128, 64, 3, 3)).astype(np.float32)
    if form == "shared":
        weight = b.op("Identity", b.constant(w))
    else:
        weight = b.op("Reshape", b.constant(w), b.constant(np.array([1, 128, 576])))
        if form == "standardised":
            sums = [b.constant(f(w.reshape(128, 576), axis=1)) for f in (np.mean, np.var)]
            one, zero = (b.constant(np.full(128, v, np.float32)) for v in (1, 0))
            weight = b.op("BatchNormalization", weight, one, zero, *sums, outputs=5)
        weight = b.op("Reshape", weight, b.op("Identity", b.constant(np.array(w.shape))))
    graph = load(b.save(tmp_path / "a.onnx", b.op("Conv", "x", weight, pads=[1] * 4)))
    (layer,) = layers(graph)
    assert layer.kind == "conv" and layer.macs == w.size * 64
    stored = graph.constant(layer.weight)
    assert stored.std() == pytest.approx(1.0 if form == "standardised" else w.std(), rel=1e-3)


def test_infinite_bounds_and_masks_are_no_bad_weights(tmp_path):
    b = Builder()
    mask = b.constant(np.full((1, 1, 32, 32), -np.inf, np.float32))
    load(b.save(tmp_path / "a.onnx", b.op("Add", b.conv("x", 16, 8), mask)))


def test_functions_are_inlined(tmp_path):
    b = Builder()
    model = b.model(b.op("Twice", "x", domain="local"))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(helper.make_function("local", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 13)]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    path = tmp_path / "f.onnx"
    path.write_bytes(model.SerializeToString())
    assert [n.op for n in load(path).nodes] == ["Add"]


def test_external_weights_are_read(tmp_path):
    b = Builder()
    model = b.model(b.conv("x", 16, 8))
    wanted = numpy_helper.to_array(model.graph.initializer[0])
    onnx.save_model(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.bin", size_threshold=0)
    graph = load(tmp_path / "e.onnx")
    (layer,) = layers(graph)
    np.testing.assert_array_equal(weight_of(graph, layer), wanted)
