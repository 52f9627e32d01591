# SPDX-License-Identifier: Apache-2.0
"""`estimate --run` on networks of all kinds: layouts, several inputs, old opsets, batches, constant activations."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_networks import Builder
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from drp_slam import cli
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.quantize import quantize
from drp_slam.drpai3.quantize_borders import input_scales, real_outputs
from drp_slam.drpai3.quantize_check import quantize_by, sqnr_db
from drp_slam.drpai3.samples import Preprocessing, read_samples
from drp_slam.errors import DrpAi3Error

SIDE = 24


@pytest.fixture
def images(tmp_path):
    """Photograph-like images, smooth with some texture."""
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(6):
        random = np.random.default_rng(n)
        small = random.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{n}.png"), cv2.resize(small, (40, 30), interpolation=cv2.INTER_CUBIC))
    return folder


def executed(capsys, path: Path, source: Path, *argv: str) -> dict:
    out = path.parent / "out"
    assert cli.main(["estimate", str(path), "--run", str(source), "--out", str(out), "--json", *argv]) == 0
    return json.loads(capsys.readouterr().out)["executed"]


def refused(capsys, path: Path, source: Path, *argv: str) -> str:
    out = path.parent / "out"
    assert cli.main(["estimate", str(path), "--run", str(source), "--out", str(out), *argv]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def body(b: Builder, x: str, channels: int = 3) -> str:
    return b.conv(b.op("Relu", b.conv(x, channels, 8)), 8, 8)


def nchw(b: Builder) -> str:
    return body(b, "x")


def nhwc(b: Builder) -> str:
    return b.op("Transpose", body(b, b.op("Transpose", "x", perm=[0, 3, 1, 2])), perm=[0, 2, 3, 1])


def sub_pixel(b: Builder) -> str:
    """As ESPCN: the last operator moves data only."""
    y = b.op("Tanh", b.conv("x", 1, 8, 5))
    return b.op("DepthToSpace", b.conv(y, 8, 4), blocksize=2)


def recogniser(b: Builder) -> str:
    """As text recognition: columns are steps, then a product and a softmax."""
    y = b.op("MaxPool", body(b, "x"), kernel_shape=[SIDE, 1], strides=[1, 1])
    y = b.op("Transpose", b.op("Squeeze", y, b.constant(np.array([2]))), perm=[0, 2, 1])
    w = b.constant(b.random.normal(size=(8, 11)).astype(np.float32))
    return b.op("Softmax", b.op("Add", b.op("MatMul", y, w), b.constant(np.ones(11, np.float32))), axis=2)


def mobile(b: Builder) -> str:
    """As small recognisers: hard-swish, depthwise convolutions, a gate from global pooling."""

    def swish(x: str) -> str:
        return b.op("Mul", x, b.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))

    y = swish(b.conv("x", 3, 16))
    for _ in range(2):
        y = swish(b.conv(swish(b.conv(y, 16, 16, group=16)), 16, 16, 1))
        gate = b.op("Relu", b.conv(b.op("GlobalAveragePool", y), 16, 4, 1))
        y = b.op("Mul", y, b.op("HardSigmoid", b.conv(gate, 4, 16, 1), alpha=0.2, beta=0.5))
    return b.conv(y, 16, 8)


def joined(b: Builder, axis: int = 1) -> str:
    """Parts of very different size, joined at the end."""
    y = b.op("Relu", b.conv("x", 3, 8))
    far = b.op("Mul", b.conv(y, 8, 4), b.constant(np.float32(100)))
    return b.op("Concat", far, b.conv(y, 8, 4), axis=axis)


FORMS = {
    "nchw": ((1, 3, SIDE, SIDE), nchw, 20),
    "nhwc": ((1, SIDE, SIDE, 3), nhwc, 20),
    "grey": ((1, 1, SIDE, SIDE), sub_pixel, 20),
    "recogniser": ((1, 3, SIDE, SIDE), recogniser, 15),
    "mobile": ((1, 3, SIDE, SIDE), mobile, 15),
    "joined": ((1, 3, SIDE, SIDE), joined, 20),
    "joined elsewhere": ((1, 3, SIDE, SIDE), lambda b: joined(b, 3), 20),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("opset", [11, 13, 17])
def test_networks_of_every_form_keep_their_signal(tmp_path, capsys, images, name, opset):
    shape, form, least_db = FORMS[name]
    if opset == 11 and name == "recogniser":
        pytest.skip("its Squeeze has its axes as an input")
    b = Builder(shape, opset)
    found = executed(capsys, b.save(tmp_path / "a.onnx", form(b)), images)
    assert found["images"] == 6 and found["sqnr_db"] > least_db
    model = onnx.load(found["network"])
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.INT8


def test_several_inputs_and_outputs_from_npz(tmp_path, capsys, images):
    b = Builder((1, 4, 8, 8))
    y = b.op("Add", b.conv("x", 4, 4), "gain")
    z = b.op("Gather", b.constant(b.random.normal(size=(9, 5)).astype(np.float32)), "token")
    model = b.model(b.op("Relu", y), b.op("MatMul", z, b.constant(np.ones((5, 3), np.float32))))
    model.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, (1, 4, 1, 1)))
    model.graph.input.append(helper.make_tensor_value_info("token", TensorProto.INT64, (1, 2)))
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    random = np.random.default_rng(0)
    many = {
        "x": random.normal(size=(5, 1, 4, 8, 8)),
        "gain": random.normal(size=(5, 1, 4, 1, 1)),
        "token": random.integers(0, 9, (5, 1, 2)),
    }
    np.savez(tmp_path / "samples.npz", **many)
    found = executed(capsys, path, tmp_path / "samples.npz")
    assert found["images"] == 5 and len(found["sqnr_db_by_output"]) == 2 and found["sqnr_db"] > 20
    assert "give --run an .npz file" in refused(capsys, path, images)
    np.savez(tmp_path / "samples.npz", x=many["x"])
    assert "has no array 'gain'" in refused(capsys, path, tmp_path / "samples.npz")
    np.savez(tmp_path / "samples.npz", **(many | {"x": many["x"][:3]}))
    assert "3, 5 samples" in refused(capsys, path, tmp_path / "samples.npz")
    (tmp_path / "samples.npz").write_bytes(b"no archive")
    assert "cannot read" in refused(capsys, path, tmp_path / "samples.npz")


@pytest.mark.parametrize("fixed_inside", [False, True])
def test_a_batch_becomes_one_where_it_can(tmp_path, capsys, images, fixed_inside):
    b = Builder((4, 3, SIDE, SIDE))
    y = body(b, "x")
    if fixed_inside:
        y = b.op("Reshape", y, b.constant(np.array([4, 8 * SIDE * SIDE])))
    found = executed(capsys, b.save(tmp_path / "a.onnx", y), images)
    assert ("was kept" if fixed_inside else "was made 1") in found["note"]
    assert found["images"] == (2 if fixed_inside else 6) and found["sqnr_db"] > 20
    shape = onnx.load(found["network"]).graph.input[0].type.tensor_type.shape.dim[0].dim_value
    assert shape == (4 if fixed_inside else 1)


@pytest.mark.parametrize("method", ["minmax", "percentile"])
@pytest.mark.parametrize("level", [0.0, 1e6])
def test_constant_activations(tmp_path, capsys, images, method, level):
    b = Builder((1, 3, SIDE, SIDE))
    y = b.op("Add", b.op("Mul", b.conv("x", 3, 8), b.constant(np.float32(0))), b.constant(np.float32(level)))
    path = b.save(tmp_path / "a.onnx", b.op("Relu", y), body(b, "x"))
    assert executed(capsys, path, images, "--method", method)["images"] == 6


def test_half_precision_is_quantised(tmp_path, capsys, images):
    b = Builder((1, 3, SIDE, SIDE))
    y = b.op("Cast", "x", to=TensorProto.FLOAT16)
    w = b.constant(b.random.normal(size=(8, 3, 3, 3)).astype(np.float16))
    path = b.save(tmp_path / "a.onnx", b.op("Cast", b.op("Conv", y, w), to=TensorProto.FLOAT))
    assert executed(capsys, path, images)["sqnr_db"] > 25


def test_preprocessing_options_reach_the_network(images):
    shape = {"x": (1, 3, 8, 9)}
    kinds = {"x": np.dtype(np.float32)}
    plain = read_samples(images, shape, kinds, Preprocessing())[0]["x"]
    assert plain.shape == (1, 3, 8, 9) and plain.min() >= 0 and plain.max() <= 1
    how = Preprocessing(1.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), bgr=True)
    turned = read_samples(images, shape, kinds, how)[0]["x"]
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (how.mean, how.std))
    np.testing.assert_allclose(turned * std + mean, plain[:, ::-1] * 255, atol=1e-3)
    last = read_samples(images, {"x": (1, 8, 9, 3)}, kinds, Preprocessing())[0]["x"]
    np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), plain)
    first, last = (
        read_samples(images, {"x": (3, 3, 3)}, kinds, Preprocessing(layout=layout))[0]["x"] for layout in (None, "nhwc")
    )
    np.testing.assert_array_equal(last.transpose(2, 0, 1), first)
    assert read_samples(images, {"x": (8, 9)}, kinds, Preprocessing())[0]["x"].shape == (8, 9)


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--mean", "1,2"], "one value or 3"),
        (["--std", "0"], "no std of 0"),
        (["--layout", "nhwc"], "no image of 1 or 3 channels"),
    ],
)
def test_bad_preprocessing_is_one_line(tmp_path, capsys, images, argv, says):
    b = Builder((1, 3, SIDE, SIDE))
    assert says in refused(capsys, b.save(tmp_path / "a.onnx", body(b, "x")), images, *argv)


def test_a_low_ratio_is_a_warning(tmp_path, capsys, images):
    """A network trained on large inputs, fed small ones: its constants drown them."""
    b = Builder((1, 3, SIDE, SIDE))
    offset = b.constant(b.random.uniform(299, 301, (1, 1, SIDE, SIDE)).astype(np.float32))
    y = b.op("Sub", b.op("Add", "x", offset), offset)
    path = b.save(tmp_path / "a.onnx", b.op("Relu", y))
    assert "--mean" in executed(capsys, path, images)["warning"]
    assert "warning" not in executed(capsys, path, images, "--input-scale", "1")


def test_nan_activations_are_named(tmp_path, capsys, images):
    b = Builder((1, 3, SIDE, SIDE))
    path = b.save(tmp_path / "a.onnx", b.op("Sqrt", b.op("Sub", b.op("Relu", "x"), b.constant(np.float32(5)))))
    assert "is NaN" in refused(capsys, path, images)


@pytest.mark.parametrize("form", ["nchw", "recogniser", "mobile", "joined"])
def test_never_worse_than_the_quantiser_of_onnxruntime(tmp_path, images, form):
    shape, make, _ = FORMS[form]
    b = Builder(shape)
    model = load(b.save(tmp_path / "a.onnx", make(b))).model()
    samples = [s["x"] for s in read_samples(images, {"x": shape}, {"x": np.dtype(np.float32)}, Preprocessing())]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._items = iter([{"x": s} for s in samples])

        def get_next(self) -> dict | None:
            return next(self._items, None)

    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    onnx.save(model, tmp_path / "a.onnx")
    quantize_static(
        tmp_path / "a.onnx", tmp_path / "ort.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **kinds
    )
    ours = quantize(model, samples)
    (scale, zero) = input_scales(ours)["x"]
    stored = [np.clip(np.rint(s / scale) + zero, -128, 127).astype(np.int8) for s in samples]

    def outputs(source: onnx.ModelProto, feeds: list[np.ndarray]) -> list[np.ndarray]:
        run = ort.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"]).run
        return [run(None, {"x": feed})[0] for feed in feeds]

    wanted = outputs(model, samples)
    mine = sqnr_db(wanted, outputs(real_outputs(ours), stored))
    theirs = sqnr_db(wanted, outputs(onnx.load(tmp_path / "ort.onnx"), samples))
    assert mine > theirs - 1.0


def test_what_the_quantiser_refuses_is_one_line():
    tensor = numpy_helper.from_array(np.ones((1, 2), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    value = helper.make_tensor_value_info
    graph = helper.make_graph([node], "g", [value("x", 1, (2, 1))], [value("y", 1, (2, 2))], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(DrpAi3Error, match="inputs are"):
        quantize(model, [{"z": np.ones((2, 1), np.float32)}])
    with pytest.raises(DrpAi3Error, match="NaN"):
        quantize(model, [np.full((2, 1), np.nan, np.float32)])


def test_overhead_says_which_sizes_it_takes(capsys):
    assert cli.main(["overhead", "xfeat", "--height", "240"]) == 1
    err = capsys.readouterr().err
    assert "multiple of 32" in err and err.count("\n") == 1


def spiked(b: Builder) -> str:
    """Rare pixels make values a thousand times larger, which Tanh takes back."""
    spike = b.op("Relu", b.op("Sub", "x", b.constant(np.float32(0.9))))
    y = b.op("Add", "x", b.op("Mul", spike, b.constant(np.float32(1e4))))
    return b.conv(b.op("Tanh", y), 3, 8)


@pytest.mark.parametrize("form, expected", [(nchw, "minmax"), (spiked, "percentile")])
def test_the_ranges_that_keep_more_signal_are_taken(form, expected):
    b = Builder((1, 3, SIDE, SIDE))
    model, rng = b.model(form(b)), np.random.default_rng(0)
    samples = [{"x": rng.uniform(0, 0.5, b.shape).astype(np.float32)} for _ in range(4)]
    for sample in samples:
        sample["x"][0, 0, 3, 5] = 1.0
    _, chosen, kept = quantize_by(model, samples, percentile=99.0)
    apart = {how: min(quantize_by(model, samples, how, 99.0)[2].values()) for how in ("minmax", "percentile")}
    assert chosen == expected == max(apart, key=apart.__getitem__)
    assert min(kept.values()) == apart[expected] > min(apart.values())
