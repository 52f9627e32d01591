# SPDX-License-Identifier: Apache-2.0
"""Multiply-accumulates: equal to an independent counter's, and nothing counted as zero in silence."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_networks import Builder

from drp_slam.chip.constants import load_constants
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.layers import layers, weight_of
from drp_slam.errors import DrpAi3Error

DEVICE = load_constants("rzv2h")
COMPARED = ("Conv", "Gemm", "MatMul")


def public_files() -> list[Path]:
    """What the onnx package ships for its own tests, and a folder of other public files if one is named."""
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    light = (p for p in data.glob("light/*.onnx") if "vgg19" not in p.name)  # half a gigabyte of constants
    found = [*light, *data.glob("pytorch-*/*/model.onnx"), *data.glob("simple/*/model.onnx")]
    more = os.environ.get("DRP_SLAM_ONNX")
    return sorted(found) + (sorted(Path(more).glob("*.onnx")) if more else [])


def counted_by_onnx_tool(path: Path, inputs: dict[str, np.ndarray]) -> int:
    """Its MACs of matrix operators, without the additions of their biases, which it counts as well."""
    onnx_tool = pytest.importorskip("onnx_tool")
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        graph = onnx_tool.Model(str(path), {"verbose": False}).graph
        graph.shape_infer(inputs)
        graph.profile()
    total = 0
    for node in graph.nodemap.values():
        if node.op_type in COMPARED:
            bias = node.op_type != "MatMul" and len(node.input) > 2
            total += int(node.macs[0]) - bias * int(np.prod(graph.tensormap[node.output[0]].get_shape()))
    return total


def test_public_files_count_as_onnx_tool_counts_them():
    compared = 0
    for path in public_files():
        try:
            graph = load(path)
        except DrpAi3Error:
            continue
        ours = sum(layer.macs for layer in layers(graph) if layer.op in COMPARED)
        if not ours:
            continue
        kinds = {v.name: v.type.tensor_type.elem_type for v in onnx.load(path).graph.input}
        feeds = {n: np.zeros(graph.shapes[n], helper.tensor_dtype_to_np_dtype(kinds[n])) for n in graph.inputs}
        try:
            theirs = counted_by_onnx_tool(path, feeds)
        except NotImplementedError:
            continue  # an operator that onnx-tool does not know
        assert ours == pytest.approx(theirs, rel=0.005), path
        compared += 1
    assert compared >= 39


def total(path: Path) -> tuple[int, tuple[str, ...]]:
    found = estimate(load(path), DEVICE)
    return int(found.macs), found.incomplete


@pytest.mark.parametrize("op, gates", [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_layers(tmp_path, op, gates, directions):
    steps, batch, size, hidden = 7, 2, 12, 20
    b = Builder((steps, batch, size))
    w = b.constant(np.ones((directions, gates * hidden, size), np.float32))
    r = b.constant(np.ones((directions, gates * hidden, hidden), np.float32))
    direction = "bidirectional" if directions == 2 else "forward"
    path = b.save(tmp_path / "a.onnx", b.op(op, "x", w, r, hidden_size=hidden, direction=direction))
    assert total(path) == (steps * batch * directions * gates * hidden * (size + hidden), ())
    (row,) = estimate(load(path), DEVICE).rows
    assert row.unit == "cpu" and row.reason == "recurrent layer" and row.seconds > 0


@pytest.mark.parametrize(
    "equation, second, macs",
    [
        ("bij,bjk->bik", (2, 5, 6), 2 * 4 * 5 * 6),
        ("...ij,jk->...ik", (5, 7), 2 * 4 * 5 * 7),
        ("bij,bij->b", (2, 4, 5), 40),
    ],
)
def test_einsum(tmp_path, equation, second, macs):
    b = Builder((2, 4, 5))
    y = b.op("Einsum", "x", b.constant(np.ones(second, np.float32)), equation=equation)
    assert total(b.save(tmp_path / "a.onnx", y)) == (macs, ())


def test_einsum_of_three_is_incomplete_and_of_one_is_none(tmp_path):
    b = Builder((2, 4, 5))
    y = b.op("Einsum", "x", "x", "x", equation="bij,bkj,bkl->bil")
    macs, missing = total(b.save(tmp_path / "a.onnx", y))
    assert macs == 0 and "Einsum" in missing[0] and len(missing) == 1
    b = Builder((2, 4, 5))
    assert total(b.save(tmp_path / "b.onnx", b.op("Einsum", "x", equation="bij->bji"))) == (0, ())


def test_integer_convolution_and_product(tmp_path):
    b = Builder((1, 4, 8, 8))
    quantised = b.op("DynamicQuantizeLinear", "x", outputs=3)
    w = b.random.integers(0, 255, (6, 4, 3, 3)).astype(np.uint8)
    y = b.op(
        "ConvInteger", quantised, b.constant(w), quantised.replace("_0", "_2"), b.constant(np.uint8(128)), pads=[1] * 4
    )
    path = b.save(tmp_path / "a.onnx", b.op("Cast", y, to=1))
    assert total(path) == (64 * 6 * 36, ())
    graph = load(path)
    layer = next(layer for layer in layers(graph) if layer.op == "ConvInteger")
    np.testing.assert_array_equal(weight_of(graph, layer), w.astype(int) - 128)
    assert estimate(graph, DEVICE).rows[1].unit == "ai-mac"
    b = Builder((3, 16))
    quantised = b.op("DynamicQuantizeLinear", "x", outputs=3)
    w = b.constant(b.random.integers(-9, 9, (16, 5)).astype(np.int8))
    y = b.op("Cast", b.op("MatMulInteger", quantised, w, quantised.replace("_0", "_2")), to=1)
    assert total(b.save(tmp_path / "b.onnx", y)) == (3 * 16 * 5, ())


def test_attention_operator(tmp_path):
    b = Builder((2, 3, 10, 8), opset=23)
    y = b.op("Attention", "x", "x", "x")
    assert total(b.save(tmp_path / "a.onnx", y)) == (2 * (2 * 3 * 10 * 10 * 8), ())


def value(name: str, shape: tuple | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def product_body(name: str, source: str, times: int = 1) -> onnx.GraphProto:
    """`times` products with a matrix of its own."""
    nodes = []
    for n in range(times):
        nodes.append(helper.make_node("MatMul", [source if n == 0 else f"{name}{n - 1}", f"{name}_w"], [f"{name}{n}"]))
    w = numpy_helper.from_array(np.ones((4, 4), np.float32), f"{name}_w")
    return helper.make_graph(nodes, name, [], [value(f"{name}{times - 1}", (3, 4))], [w])


@pytest.mark.parametrize("constant", [True, False])
def test_if_counts_the_branch_taken_or_the_larger_one(tmp_path, constant):
    condition = [] if constant else [value("c", (), TensorProto.BOOL)]
    stored = [numpy_helper.from_array(np.array(True), "c")] if constant else []
    nodes = [
        helper.make_node(
            "If", ["c"], ["y"], then_branch=product_body("a", "x"), else_branch=product_body("b", "x", times=2)
        )
    ]
    graph = helper.make_graph(nodes, "g", [value("x", (3, 4)), *condition], [value("y", (3, 4))], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    assert total(path) == (48 if constant else 96, ())


@pytest.mark.parametrize("passes, ends, known", [(5, "going", True), (5, "early", False), (None, "going", False)])
def test_loop(tmp_path, passes, ends, known):
    nodes = [helper.make_node("MatMul", ["state", "w"], ["next"])]
    if ends == "going":
        nodes.append(helper.make_node("Identity", ["going"], ["on"]))
    else:
        nodes.append(helper.make_node("ReduceMax", ["next"], ["most"], keepdims=0))
        nodes.append(helper.make_node("Cast", ["most"], ["on"], to=TensorProto.BOOL))
    body = helper.make_graph(
        nodes,
        "body",
        [value("n", (), TensorProto.INT64), value("going", (), TensorProto.BOOL), value("state", None)],
        [value("on", (), TensorProto.BOOL), value("next", None)],
    )
    stored = [numpy_helper.from_array(np.ones((4, 4), np.float32), "w")]
    inputs = [value("x", (3, 4))]
    if passes:
        stored.append(numpy_helper.from_array(np.array(passes), "passes"))
    else:
        inputs.append(value("passes", (), TensorProto.INT64))
    nodes = [helper.make_node("Loop", ["passes", "", "x"], ["y"], body=body)]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", (3, 4))], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    macs, missing = total(path)
    assert macs == 48 * (passes or 1) and (not missing) == known


def test_an_operator_of_unknown_work_makes_the_total_incomplete(tmp_path):
    b = Builder((1, 4, 8, 8))
    y = b.op("Secret", b.conv("x", 4, 4), domain="com.acme")
    model = b.model(y)
    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    model.graph.output[0].CopyFrom(value(y, (1, 4, 8, 8)))
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    macs, missing = total(path)
    assert macs == 64 * 4 * 36 and "Secret" in missing[0]


def test_what_follows_nms_is_cut_off_with_a_note(tmp_path):
    b = Builder((1, 16, 4))
    scores = b.op("Transpose", b.op("Slice", "x", *(b.constant(np.array([v])) for v in (0, 1, 2))), perm=[0, 2, 1])
    few = (b.constant(np.array(v)) for v in (np.int64(3), np.float32(0.5), np.float32(0.1)))
    kept = b.op("NonMaxSuppression", b.op("Relu", "x"), scores, *few)
    path = b.save(tmp_path / "a.onnx", b.op("Gather", "x", b.op("Cast", kept, to=TensorProto.INT32)))
    graph = load(path)
    assert {n.op for n in graph.nodes} == {"Relu", "Slice", "Transpose"}
    assert len(graph.outputs) == 2 and "NonMaxSuppression" in graph.notes[0] and not graph.incomplete


def test_work_behind_a_dynamic_shape_is_missing(tmp_path):
    b = Builder((3, 4))
    rows = b.op("Compress", b.op("Relu", "x"), b.op("Cast", b.op("ReduceMax", "x", axes=[1], keepdims=0), to=9), axis=0)
    path = b.save(tmp_path / "a.onnx", b.op("MatMul", rows, b.constant(np.ones((4, 2), np.float32))))
    macs, missing = total(path)
    assert macs == 0 and "MatMul" in missing[0]


def test_branches_of_different_shapes_give_the_larger_one(tmp_path):
    few = helper.make_graph([helper.make_node("ReduceMean", ["x"], ["m"], axes=[0])], "few", [], [value("m", None)])
    node = helper.make_node("If", ["c"], ["t"], then_branch=few, else_branch=product_body("a", "x"))
    inputs = [value("x", (3, 4)), value("c", (), TensorProto.BOOL)]
    graph = helper.make_graph([node, helper.make_node("Relu", ["t"], ["y"])], "g", inputs, [value("y", None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    assert total(path) == (48, ())
    assert load(path).shapes["y"] == (3, 4)
