# SPDX-License-Identifier: Apache-2.0
"""Files as people have them: every form of a layer is found, pruned where it stands, and the rest is named."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cv2  # noqa: E402
import onnx  # noqa: E402
from exact import exact_rows  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from drp_slam.cli import main  # noqa: E402
from drp_slam.errors import PruningError  # noqa: E402
from drp_slam.pruning import cutting, layout, probe  # noqa: E402
from drp_slam.pruning.cutting import Options  # noqa: E402
from drp_slam.pruning.inputs import Feeds  # noqa: E402
from drp_slam.pruning.onnxfile import read  # noqa: E402
from drp_slam.pruning.onnxgraph import Graph  # noqa: E402
from drp_slam.pruning.onnxnet import OnnxNet  # noqa: E402

RNG = np.random.default_rng(0)


def tensor(name: str, *shape: int, dtype=np.float32) -> onnx.TensorProto:
    scale = 1.0 / np.sqrt(max(1, np.prod(shape[1:])))
    return numpy_helper.from_array((RNG.standard_normal(shape) * scale).astype(dtype), name)


def node(op: str, inputs: str, output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def model(nodes, weights, shape=(1, 3, 12, 12), kind=TensorProto.FLOAT, inputs=None) -> onnx.ModelProto:
    given = inputs or [helper.make_tensor_value_info("x", kind, shape)]
    result = [helper.make_empty_tensor_value_info(nodes[-1].output[0])]
    result[0].type.tensor_type.elem_type = kind
    graph = helper.make_graph(nodes, "g", given, result, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tokens() -> onnx.ModelProto:
    """Convolution to tokens, MatMul with a bias as Add, a Gemm, a transposed weight, weights in Constant nodes."""
    nodes = [
        node("Conv", "x c.weight c.bias", "c", kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", "c tokens", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 1]),
        helper.make_node("Constant", [], ["w1"], value=tensor("v", 32, 32)),
        node("MatMul", "t w1", "m"),
        node("Add", "b1 m", "a"),
        node("Softplus", "a", "s"),
        node("Transpose", "m2", "m2t", perm=[1, 0]),
        node("MatMul", "s m2t", "n"),
        node("MatMul", "n q", "k"),
        node("Transpose", "n", "nt", perm=[0, 2, 1]),
        node("MatMul", "k nt", "attention"),
        node("ReduceMean", "attention", "f", axes=[1], keepdims=0),
        node("Gemm", "f d.weight d.bias", "y", transB=0),
    ]
    weights = [
        tensor("c.weight", 32, 3, 2, 2),
        tensor("c.bias", 32),
        numpy_helper.from_array(np.array([1, 32, 36]), "tokens"),
        tensor("b1", 32),
        tensor("m2", 48, 32),
        tensor("q", 48, 48),
        tensor("d.weight", 36, 16),
        tensor("d.bias", 16),
    ]
    return model(nodes, weights)


def images(shape=(1, 3, 12, 12), count=4, dtype=np.float32) -> Feeds:
    rng = np.random.default_rng(5)
    return Feeds({"x": shape}, given=tuple({"x": rng.standard_normal(shape).astype(dtype)} for _ in range(count)))


def pruned(graph: Graph, rate=0.5, saliency="obs", feeds=None) -> dict:
    return cutting.prune(graph, Options(rate, saliency=saliency), images() if feeds is None else feeds)


def nonzero(proto: onnx.ModelProto) -> dict[str, float]:
    return {w.name: float((numpy_helper.to_array(w) != 0).mean()) for w in proto.graph.initializer}


def test_matmul_gemm_and_weights_in_constants_are_pruned_where_they_stand():
    proto = tokens()
    graph = Graph(proto)
    assert len(graph.layers) == 5 and not graph.dense[1:]
    assert graph.dense == [("attention", "MatMul", 0, "both operands are computed")]
    masks = pruned(graph)
    assert layout.density(masks) == pytest.approx(0.5, abs=0.03)
    assert all(exact_rows(mask) for mask in masks.values())
    result = graph.updated()
    kept = nonzero(result)
    assert all(kept[name] < 1.0 for name in ("c.weight", "w1", "m2", "d.weight"))
    assert [n.op_type for n in result.graph.node] == [n.op_type for n in proto.graph.node if n.op_type != "Constant"]
    assert probe.network_error(proto, result, images()) < 0.3


def test_the_statistics_are_the_products_that_onnxruntime_computes():
    """E[x x^T] of each layer from its own rows; the bias of a MatMul is its Add's."""
    graph = Graph(tokens())
    feeds = images()
    statistics = probe.collect(graph, graph.layers, feeds)
    session = probe.Session(graph.model, ["t", "a"])
    rows = np.concatenate([session.run(feed)["t"][0] for feed in feeds])
    ones = np.concatenate([rows, np.ones((len(rows), 1))], 1)
    assert np.allclose(statistics["m"].inputs.numpy(), ones.T @ ones / len(rows), atol=1e-4)
    assert graph.layers["m"].bias is not None and graph.layers["n"].bias is None
    wanted = np.concatenate([session.run(feed)["a"][0] for feed in feeds])
    own = layout.matrix(graph.layers["m"].weight.detach()).numpy()
    assert np.allclose(rows @ own + graph.layers["m"].bias.detach().numpy(), wanted, atol=1e-4)


def forms() -> dict[str, onnx.ModelProto]:
    w, b, pads = tensor("w", 32, 3, 3, 3), tensor("b", 32), [1] * 4
    same = {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
    lower = {"auto_pad": "SAME_LOWER", "strides": [2, 2]}
    twice = [node("Conv", "x v", "a", pads=pads), node("Conv", "a v", "c", pads=pads), node("Add", "a c", "y")]
    gemm = [node("Flatten", "x", "f"), node("Gemm", "f v c", "y", transB=1)]
    return {
        "same_upper": model([node("Conv", "x w b", "y", **same)], [w, b]),
        "same_lower": model([node("Conv", "x v", "y", **lower)], [tensor("v", 32, 3, 2, 2)]),
        "uneven": model([node("Conv", "x w", "y", pads=[0, 1, 2, 0], dilations=[2, 1])], [w]),
        "line": model([node("Conv", "x v b", "y", pads=[1, 1], strides=[2])], [tensor("v", 32, 8, 3), b], (1, 8, 20)),
        "trans_b": model(gemm, [tensor("v", 32, 432), tensor("c", 1, 32)]),
        "twice": model(twice, [tensor("v", 3, 3, 3, 3)]),
    }


@pytest.mark.parametrize("name", list(forms()))
def test_every_form_of_a_layer(name):
    """The torch form equals onnxruntime's, statistics and refit see the same rows, and the file is written back."""
    proto = forms()[name]
    graph, feeds = Graph(proto), images((1, 8, 20) if name == "line" else (1, 3, 12, 12))
    (x,) = feeds[0].values()
    with torch.no_grad():
        found = OnnxNet(graph).eval()(torch.from_numpy(x)).numpy()
    session = probe.Session(proto, graph.outputs)
    assert np.allclose(found, session.run(feeds[0])["y"], atol=1e-5)
    assert probe.network_error(proto, graph.updated(), feeds) == 0.0
    masks = pruned(graph, 0.5, feeds=feeds)
    assert layout.density(masks) == pytest.approx(0.5, abs=0.1)
    assert probe.network_error(proto, graph.updated(), feeds) < 0.6
    assert min(nonzero(graph.updated()).values()) < 0.6


def test_half_precision_stays_half():
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "y")]
    weights = [tensor("w", 32, 3, 3, 3, dtype=np.float16), tensor("b", 32, dtype=np.float16)]
    graph = Graph(model(nodes, weights, kind=TensorProto.FLOAT16))
    pruned(graph, feeds=images(dtype=np.float16))
    stored = {w.name: numpy_helper.to_array(w) for w in graph.updated().graph.initializer}
    assert stored["w"].dtype == np.float16 and 0.4 < (stored["w"] == 0).mean() < 0.7


def test_a_fixed_batch_is_filled(tmp_path, capsys):
    nodes = [node("Conv", "x w", "c"), node("Reshape", "c s", "y")]
    weights = [tensor("w", 32, 3, 3, 3), numpy_helper.from_array(np.array([4, 32, 100]), "s")]
    onnx.save_model(model(nodes, weights, (4, 3, 12, 12)), tmp_path / "four.onnx")
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"{index}.png"), RNG.integers(0, 255, (20, 20, 3), np.uint8))
    args = [
        "prune",
        str(tmp_path / "four.onnx"),
        "--rate",
        "0.5",
        "--calibration",
        str(tmp_path),
        "--no-int8",
        "--json",
    ]
    assert main([*args, "--out", str(tmp_path / "o"), "--retrain", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["shape"] == [4, 3, 12, 12] and result["layers"][0]["rate"] == pytest.approx(0.5, abs=0.05)


def test_several_inputs_come_as_arrays(tmp_path, capsys):
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 24]) for n in ("left", "right")]
    nodes = [node("MatMul", "left w", "a"), node("MatMul", "right v", "b"), node("Add", "a b", "y")]
    onnx.save_model(model(nodes, [tensor("w", 24, 32), tensor("v", 24, 32)], inputs=given), tmp_path / "two.onnx")
    args = ["prune", str(tmp_path / "two.onnx"), "--rate", "0.5", "--out", str(tmp_path / "o"), "--json"]
    assert main(args) == 1 and "has 2 inputs (left, right): give .npz files" in capsys.readouterr().err
    assert main([*args, "--saliency", "magnitude", "--no-int8"]) == 0  # needs no input
    result = json.loads(capsys.readouterr().out)
    assert result["output_error"] is None and result["images"].startswith("no images: ")
    for index in range(4):
        np.savez(
            tmp_path / f"{index}.npz", **{n: RNG.standard_normal((1, 24)).astype(np.float32) for n in ("left", "right")}
        )
    assert main([*args, "--calibration", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["output_error"] < 0.5 and len(result["layers"]) == 2
    whole = onnx.load(result["int8"]).graph
    assert {i.name: i.type.tensor_type.elem_type for i in whole.input} == dict.fromkeys(
        ("left", "right"), TensorProto.INT8
    )
    np.savez(tmp_path / "0.npz", left=np.zeros((1, 24), np.float32))
    assert main([*args, "--calibration", str(tmp_path)]) == 1 and "no array 'right'" in capsys.readouterr().err


def test_what_stays_dense_is_listed_with_its_reason(tmp_path, capsys):
    z, z2 = (helper.make_empty_tensor_value_info(name) for name in ("z", "z2"))
    inner = tensor("inner", 32, 32, 3, 3)
    branch = helper.make_graph([node("Conv", "r inner", "z", pads=[1] * 4)], "then", [], [z], [inner])
    other = helper.make_graph([node("Identity", "r", "z2")], "else", [], [z2])
    nodes = [
        node("Conv", "x w", "c", pads=[1] * 4),
        node("Conv", "c g", "r", pads=[1] * 4, group=32),
        helper.make_node("If", ["yes"], ["i"], name="i", then_branch=branch, else_branch=other),
        node("ConvTranspose", "i t", "u", strides=[2, 2]),
        node("Mul", "t two", "computed"),
        node("ConvTranspose", "u computed", "y"),
    ]
    weights = [tensor("w", 32, 3, 3, 3), tensor("g", 32, 1, 3, 3), tensor("t", 32, 32, 2, 2)]
    weights += [
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.array(2.0, np.float32), "two"),
    ]
    onnx.save_model(model(nodes, weights), tmp_path / "mixed.onnx")
    assert (
        main(["prune", str(tmp_path / "mixed.onnx"), "--rate", "0.5", "--no-int8", "--out", str(tmp_path / "o")]) == 0
    )
    out = capsys.readouterr().out
    assert "no images given: " in out and "photographs of installed packages" in out
    assert "calibration images" not in out
    assert "left dense: 1 Conv, 288 weights: a grouped convolution does not pack" in out
    assert "left dense: 1 If, 9,216 weights: 1 Conv inside a branch or loop" in out
    assert "2 ConvTranspose, 4,096 weights: a transposed convolution does not pack" in out
    assert "of the network's weights are left dense" in out
    with pytest.raises(PruningError, match="layer 'i' cannot be pruned: If: 1 Conv inside a branch or loop"):
        cutting.prune(read(str(tmp_path / "mixed.onnx")), Options(0.5, layers=("i",)), images())
    alone = model(nodes[3:4], [tensor("t", 3, 32, 2, 2)])
    alone.graph.node[0].input[0] = "x"
    with pytest.raises(PruningError, match="no layer that can be pruned: ConvTranspose: a transposed convolution"):
        pruned(Graph(alone))


def test_a_quantised_file_is_refused():
    proto = model(
        [node("DequantizeLinear", "w s", "v"), node("Conv", "x v", "y")], [tensor("w", 32, 3, 3, 3), tensor("s")]
    )
    with pytest.raises(PruningError, match="quantised already"):
        Graph(proto)


@pytest.mark.parametrize(
    "name", ["fastestdet/FastestDet.onnx", "r072_tv_mobilenet_v2.onnx.gz", "r088_convnext_atto.onnx.gz"]
)
def test_real_files(name, tmp_path):
    root = Path(os.environ.get("DRP_SLAM_DATA", ""))
    path = root / "networks" / name if name.endswith(".onnx") else root.parent / "calibration" / "graphs" / name
    if not path.is_file():
        pytest.skip(f"set DRP_SLAM_DATA to a folder beside which {path.name} lies")
    proto = onnx.load_from_string(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else onnx.load(path)
    graph = Graph(proto)
    masks = pruned(graph, 0.7, "magnitude")
    assert layout.density(masks) == pytest.approx(0.3, abs=0.01) and len(masks) == len(graph.layers) >= 29
    share = sum(w for _, _, w, _ in graph.dense) / sum(np.prod(w.dims) for w in proto.graph.initializer)
    assert share < 0.2
    onnx.checker.check_model(graph.updated())
