# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile files: one line each, no traceback, no endless work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from damage import CASES
from onnx import TensorProto, helper, numpy_helper
from onnx_networks import Builder
from test_lifting import mixed
from test_macs import product_body, value

from drp_slam.chip.constants import load_constants
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import load
from drp_slam.errors import DrpAi3Error

DEVICE = load_constants("rzv2h")
DAMAGED_FILES = max(CASES, 100)


def with_control_flow() -> onnx.ModelProto:
    node = helper.make_node("If", ["c"], ["y"], then_branch=product_body("a", "x"), else_branch=product_body("b", "x"))
    inputs = [value("x", (3, 4)), value("c", (), TensorProto.BOOL)]
    graph = helper.make_graph([node], "g", inputs, [value("y", (3, 4))])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def old() -> onnx.ModelProto:
    b = Builder((1, 4, 8, 8), opset=9)
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    y = b.op("Upsample", b.op("Clip", b.conv("x", 4, 4), min=0.0, max=6.0), scales, mode="nearest")
    return b.model(b.op("Reshape", y, b.op("Concat", b.constant(np.array([1])), b.constant(np.array([-1])), axis=0)))


def quantised() -> onnx.ModelProto:
    b = Builder((1, 4, 8, 8))
    one, zero = b.constant(np.float32(0.1)), b.constant(np.int8(3))
    w = b.op("DequantizeLinear", b.constant(b.random.integers(-9, 9, (4, 4, 3, 3)).astype(np.int8)), one, zero)
    x = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", one, zero), one, zero)
    return b.model(b.op("QuantizeLinear", b.op("Conv", x, w), one, zero))


def with_function() -> onnx.ModelProto:
    b = Builder((1, 4, 8, 8))
    model = b.model(b.op("Twice", "x", domain="local"))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(helper.make_function("local", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 13)]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


def refused(path: Path) -> str:
    with pytest.raises(DrpAi3Error) as error:
        load(path)
    text = str(error.value)
    assert path.name in text and "\n" not in text and len(text) < 600
    return text


def test_damaged_files_are_answered_or_refused_in_one_line(tmp_path):
    random = np.random.default_rng(7)
    good = [m.SerializeToString() for m in (mixed(), with_control_flow(), old(), quantised(), with_function())]
    path, outcomes = tmp_path / "damaged.onnx", {"answered": 0, "refused": 0}
    for n in range(DAMAGED_FILES):
        data = bytearray(good[n % len(good)])
        for _ in range(random.integers(1, 3)):
            at = int(random.integers(0, len(data)))
            match random.integers(0, 4):
                case 0:
                    data[at] = random.integers(0, 256)
                case 1:
                    del data[at : at + int(random.integers(1, 40))]
                case 2:
                    data[at:at] = random.bytes(int(random.integers(1, 12)))
                case _:
                    data[at : at + 8] = data[at // 2 : at // 2 + 8]
        path.write_bytes(data)
        try:
            estimate(load(path), DEVICE)
            outcomes["answered"] += 1
        except DrpAi3Error as error:
            assert "damaged.onnx" in str(error) and "\n" not in str(error), error
            outcomes["refused"] += 1
    assert min(outcomes.values()) > DAMAGED_FILES // 20


def functions(path: Path, calls: dict[str, list[str]]) -> Path:
    """A model whose functions call each other."""
    b = Builder((1, 4))
    first = next(iter(calls))
    model = b.model(b.op(first, "x", domain="local"))
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("local", 1)]
    for name, inner in calls.items():
        steps = ["a", *(f"t{n}" for n in range(len(inner)))]
        nodes = [
            helper.make_node(op, [steps[n]], [steps[n + 1]], domain="" if op == "Relu" else "local")
            for n, op in enumerate(inner)
        ]
        model.functions.append(helper.make_function("local", name, ["a"], [steps[-1]], nodes, opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    path.write_bytes(model.SerializeToString())
    return path


def test_functions_that_call_themselves_or_explode(tmp_path):
    assert "calls itself" in refused(functions(tmp_path / "a.onnx", {"F": ["G"], "G": ["F"]}))
    bomb = {f"F{n}": [f"F{n + 1}"] * 10 for n in range(12)} | {"F12": ["Relu"]}
    assert "functions expand to" in refused(functions(tmp_path / "b.onnx", bomb))


def external(folder: Path, location: str, **fields: str) -> Path:
    b = Builder((1, 4, 8, 8))
    model = b.model(b.conv("x", 4, 4))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **fields}.items():
        tensor.external_data.add(key=key, value=text)
    path = folder / "external.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("case", ["absolute", "above", "link", "negative", "beyond", "long", "number", "folder"])
def test_external_data_stays_in_the_folder_and_the_file(tmp_path, case):
    outside, inside = tmp_path / "outside.bin", tmp_path / "model"
    inside.mkdir()
    outside.write_bytes(np.ones(144, np.float32).tobytes())
    (inside / "inside.bin").write_bytes(outside.read_bytes())
    (inside / "link.bin").symlink_to(outside)
    location, fields = {
        "absolute": (str(outside), {}),
        "above": ("../outside.bin", {}),
        "link": ("link.bin", {}),
        "negative": ("inside.bin", {"offset": "-16", "length": "576"}),
        "beyond": ("inside.bin", {"offset": "4096"}),
        "long": ("inside.bin", {"length": "99999999999999"}),
        "number": ("inside.bin", {"offset": "many"}),
        "folder": (".", {}),
    }[case]
    assert "external data" in refused(external(inside, location, **fields))
    assert load(external(inside, "inside.bin", length="576")).nodes


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["conv", "gemm", "batch norm"])
def test_nan_and_infinity_in_weights(tmp_path, bad, where):
    b = Builder((1, 4) if where == "gemm" else (1, 4, 8, 8))
    if where == "batch norm":
        rows = [b.constant(np.array([1, 1, 1, v], np.float32)) for v in (1, 1, bad, 1)]
        y = b.op("BatchNormalization", b.conv("x", 4, 4), *rows)
    elif where == "gemm":
        y = b.op("Gemm", "x", b.constant(np.full((4, 3), bad, np.float32)))
    else:
        y = b.op("Conv", "x", b.constant(np.full((4, 4, 1, 1), bad, np.float32)))
    assert "NaN or infinity" in refused(b.save(tmp_path / "a.onnx", y))


def test_sizes_that_cannot_be_meant(tmp_path):
    b = Builder((1, 1 << 25))
    refused(b.save(tmp_path / "a.onnx", b.op("Relu", "x")))
    b = Builder((1 << 20, 1 << 20))
    refused(b.save(tmp_path / "b.onnx", b.op("Relu", "x")))
    b = Builder((1, 4))
    huge = b.op("ConstantOfShape", b.constant(np.array([1 << 20, 1 << 20])))
    refused(b.save(tmp_path / "c.onnx", b.op("Add", "x", b.op("ReduceSum", huge, b.constant(np.array([0, 1]))))))
    b = Builder((1, 1024, 1, 1))
    refused(b.save(tmp_path / "d.onnx", b.op("Expand", "x", b.constant(np.array([1, 1024, 9999, 9999])))))


def test_a_cycle_and_a_missing_tensor(tmp_path):
    b = Builder((1, 4))
    model = b.model(b.op("Add", "x", b.op("Relu", "x")))
    model.graph.node[0].input[0] = model.graph.node[1].output[0]
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    assert "cycle" in refused(tmp_path / "a.onnx")
    model.graph.node[0].input[0] = "nowhere"
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    assert "no node produces its input 'nowhere'" in refused(tmp_path / "b.onnx")
    model.graph.node[0].input[0] = "x"
    model.graph.output[0].name = "nowhere"
    (tmp_path / "c.onnx").write_bytes(model.SerializeToString())
    assert "nowhere" in refused(tmp_path / "c.onnx")


def test_bodies_in_bodies_are_unpacked(tmp_path):
    graph = product_body("a", "x")
    for n in range(20):
        condition = numpy_helper.from_array(np.array(True), f"c{n}")
        other = product_body("b", "x")
        node = helper.make_node("If", [f"c{n}"], [f"y{n}"], then_branch=graph, else_branch=other)
        graph = helper.make_graph([node], f"g{n}", [], [value(f"y{n}", (3, 4))], [condition])
    graph.input.append(value("x", (3, 4)))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "deep.onnx"
    path.write_bytes(model.SerializeToString())
    assert [n.op for n in load(path).nodes] == ["MatMul"]
