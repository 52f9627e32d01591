# SPDX-License-Identifier: Apache-2.0
"""Equal networks get equal answers, and no rewrite changes what onnxruntime computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from normal_forms import CHANNELS, DEVICE, FOLDED, conv, network, number, ops_of, row
from onnx_networks import Builder

from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import load


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("host", ["conv", "depthwise", "grouped", "deconv"])
def test_constant_scales_and_shifts_fold_into_the_layer_before(tmp_path, name, host):
    b = network()
    if host == "deconv":
        w = b.random.normal(size=(CHANNELS, CHANNELS // 2, 2, 2)).astype(np.float32)
        y = b.op("ConvTranspose", "x", b.constant(w), row(b, 1), group=2, strides=[2, 2])
    else:
        y = conv(b, "x", group={"conv": 1, "depthwise": CHANNELS, "grouped": 2}[host])
    y = FOLDED[name](b, y)
    assert ops_of(tmp_path / "a.onnx", b.model(y)) == ["ConvTranspose" if host == "deconv" else "Conv"]


@pytest.mark.parametrize("form", ["gemm", "gemm-t", "matmul", "tokens"])
def test_scales_and_shifts_fold_into_matrices(tmp_path, form):
    b = Builder((2, 3, 12) if form == "tokens" else (3, 12))
    w = b.random.normal(size=(CHANNELS, 12) if form == "gemm-t" else (12, CHANNELS)).astype(np.float32)
    if form.startswith("gemm"):
        y = b.op("Gemm", "x", b.constant(w), row(b, 1), transB=int(form == "gemm-t"), alpha=0.5, beta=2.0)
    else:
        y = b.op("MatMul", "x", b.constant(w))
    y = b.op("Add", b.op("Mul", y, row(b, 1)), row(b, 1))
    names = ops_of(tmp_path / "a.onnx", b.model(y))
    assert names == (["Reshape", "Gemm", "Reshape"] if form == "tokens" else ["Gemm"])


@pytest.mark.parametrize("pad, folds", [(0, True), (1, False)])
def test_a_shift_folds_forward_only_without_padding(tmp_path, pad, folds):
    b = network()
    x = b.op("Add", b.op("Mul", "x", row(b)), row(b))
    w = b.constant(b.random.normal(size=(CHANNELS, CHANNELS // 2, 3, 3)).astype(np.float32))
    y = b.op("Conv", x, w, group=2, pads=[pad] * 4)
    assert ops_of(tmp_path / "a.onnx", b.model(y)) == (["Conv"] if folds else ["BatchNormalization", "Conv"])


def test_a_scale_folds_forward_across_padding_and_into_gemm(tmp_path):
    b = network()
    y = conv(b, b.op("Mul", "x", row(b)))
    assert ops_of(tmp_path / "a.onnx", b.model(y)) == ["Conv"]
    b = Builder((3, CHANNELS))
    w = b.constant(b.random.normal(size=(5, CHANNELS)).astype(np.float32))
    y = b.op("Gemm", b.op("Add", b.op("Relu", "x"), row(b, 1)), w, transB=1, alpha=0.25)
    assert ops_of(tmp_path / "b.onnx", b.model(y)) == ["Relu", "Gemm"]


def test_what_others_read_is_not_folded(tmp_path):
    b = network()
    y = conv(b, "x")
    scaled = b.op("Mul", y, row(b))
    assert ops_of(tmp_path / "a.onnx", b.model(b.op("Add", y, b.op("Sigmoid", scaled)))) == [
        "Conv",
        "Mul",
        "Sigmoid",
        "Add",
    ]
    b = network()
    y = conv(b, "x")
    assert ops_of(tmp_path / "b.onnx", b.model(y, b.op("Mul", y, row(b)))) == ["Conv", "Mul"]


HARD_SWISH = {
    "operator": lambda b, x: b.op("HardSwish", x),
    "hard sigmoid": lambda b, x: b.op("Mul", b.op("HardSigmoid", x, alpha=1 / 6, beta=0.5), x),
    "product first": lambda b, x: b.op("Div", b.op("Mul", x, ramp(b, x)), number(b, 6)),
    "ramp first": lambda b, x: b.op("Mul", x, b.op("Mul", ramp(b, x), number(b, 1 / 6))),
    "scale first": lambda b, x: b.op("Mul", b.op("Div", x, number(b, 6)), ramp(b, x)),
    "max and min": lambda b, x: b.op(
        "Div",
        b.op("Mul", x, b.op("Min", b.op("Max", b.op("Add", number(b, 3), x), number(b, 0)), number(b, 6))),
        number(b, 6),
    ),
}


def ramp(b: Builder, x: str) -> str:
    return b.op("Clip", b.op("Add", x, number(b, 3)), number(b, 0), number(b, 6))


@pytest.mark.parametrize("name", HARD_SWISH)
def test_spellings_of_hard_swish(tmp_path, name):
    b = network(14)
    y = HARD_SWISH[name](b, conv(b, "x"))
    assert ops_of(tmp_path / "a.onnx", b.model(y)) == ["Conv", "HardSigmoid", "Mul"]


CURVES = {
    "relu": (["Relu"], lambda b, x: b.op("Relu", x), lambda b, x: b.op("Max", number(b, 0), x)),
    "relu as clip": (["Relu"], lambda b, x: b.op("Relu", x), lambda b, x: b.op("Clip", x, number(b, 0))),
    "relu6": (
        ["Clip"],
        lambda b, x: b.op("Clip", x, number(b, 0), number(b, 6)),
        lambda b, x: b.op("Min", b.op("Relu", x), number(b, 6)),
    ),
    "relu twice": (["Relu"], lambda b, x: b.op("Relu", b.op("Relu", x)), lambda b, x: b.op("Relu", x)),
    "silu": (["Sigmoid", "Mul"], lambda b, x: b.op("Swish", x), lambda b, x: b.op("Mul", x, b.op("Sigmoid", x))),
    "mish": (
        ["Softplus", "Tanh", "Mul"],
        lambda b, x: b.op("Mish", x),
        lambda b, x: b.op("Mul", x, b.op("Tanh", b.op("Softplus", x))),
    ),
    "gelu": (
        ["Div", "Erf", "Add", "Mul", "Mul"],
        lambda b, x: b.op("Gelu", x),
        lambda b, x: b.op(
            "Mul",
            b.op("Mul", x, b.op("Add", b.op("Erf", b.op("Div", x, number(b, 2**0.5))), number(b, 1))),
            number(b, 0.5),
        ),
    ),
    "hard sigmoid": (
        ["HardSigmoid"],
        lambda b, x: b.op("Div", ramp(b, x), number(b, 6)),
        lambda b, x: b.op("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    ),
    "halves": (
        ["Split", "Mul"],
        lambda b, x: b.op("Mul", cut(b, x, 0, 4), cut(b, x, 4, 99)),
        lambda b, x: (
            (s := b.op("Split", x, b.constant(np.array([4, 4])), axis=1, outputs=2))
            and b.op("Mul", s, s.replace("_0", "_1"))
        ),
    ),
    "layer norm": (
        ["ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"],
        lambda b, x: b.op("LayerNormalization", x, weight(b), weight(b)),
        lambda b, x: b.op("LayerNormalization", x, weight(b), weight(b), axis=3),
    ),
}


def cut(b: Builder, x: str, start: int, end: int) -> str:
    return b.op("Slice", x, *(b.constant(np.array([v])) for v in (start, end, 1)))


def weight(b: Builder) -> str:
    return b.constant(b.random.normal(size=6).astype(np.float32))


@pytest.mark.parametrize("name", CURVES)
def test_equal_networks_take_equal_time(tmp_path, name):
    expected, *forms = CURVES[name]
    if name == "silu" and onnx.defs.onnx_opset_version() < 24:
        pytest.skip("Swish is an operator since opset 24")
    times = []
    for n, form in enumerate(forms):
        b = network(24 if name == "silu" else 20)
        path = tmp_path / f"{n}.onnx"
        model = b.model(form(b, conv(b, "x")))
        if name == "silu" and n == 0:  # too new for onnxruntime
            path.write_bytes(model.SerializeToString())
            names = [node.op for node in load(path).nodes]
        else:
            names = ops_of(path, model)
        assert names[1:] == expected
        times.append(estimate(load(path), DEVICE).total_s)
    assert times == pytest.approx([times[0]] * len(times), rel=1e-12)


WHOLE = {"kernel_shape": [6, 6]}
IMAGE = {
    "GlobalAveragePool": (
        lambda b, x: b.op("GlobalAveragePool", x),
        lambda b, x: b.op("ReduceMean", x, b.constant(np.array([2, -1])), keepdims=1),
        lambda b, x: b.op("AveragePool", x, **WHOLE),
        lambda b, x: b.op("AveragePool", x, strides=[6, 6], count_include_pad=1, **WHOLE),
    ),
    "GlobalMaxPool": (
        lambda b, x: b.op("GlobalMaxPool", x),
        lambda b, x: b.op("ReduceMax", x, b.constant(np.array([2, 3])), keepdims=1),
        lambda b, x: b.op("MaxPool", x, **WHOLE),
    ),
}


@pytest.mark.parametrize("op", IMAGE)
def test_pooling_of_the_whole_image_is_one_in_every_spelling(tmp_path, op):
    times = []
    for form in IMAGE[op]:
        b, path = network(18), tmp_path / "a.onnx"
        y = b.conv(form(b, conv(b, "x")), CHANNELS, CHANNELS, 1)
        assert ops_of(path, b.model(y))[1:] == [op, "Conv"]
        times.append(estimate(load(path), DEVICE).total_s)
    assert len(set(times)) == 1


def test_a_mean_over_the_image_without_its_axes_is_flattened(tmp_path):
    times = []
    for reduced in (True, False):
        b = network()
        x, path = conv(b, "x"), tmp_path / f"{reduced}.onnx"
        flat = b.op("Flatten", b.op("GlobalAveragePool", x))
        y = b.op("ReduceMean", x, axes=[-2, 3], keepdims=0) if reduced else flat
        assert ops_of(path, b.model(y))[1:] == ["GlobalAveragePool", "Flatten"]
        times.append(estimate(load(path), DEVICE).total_s)
    assert times[0] == times[1]


def test_a_mean_with_another_window_stays(tmp_path):
    for form in ({"kernel_shape": [6, 6], "pads": [1, 1, 1, 1]}, {"kernel_shape": [3, 6]}):
        b = network()
        assert "AveragePool" in ops_of(tmp_path / "a.onnx", b.model(b.op("AveragePool", conv(b, "x"), **form)))
    b = network()
    mean = b.op("ReduceMean", conv(b, "x"), axes=[1, 2], keepdims=1)
    assert "ReduceMean" in ops_of(tmp_path / "a.onnx", b.model(mean))


def test_a_matrix_product_is_one_in_every_spelling(tmp_path):
    """Gemm, MatMul and a 1 x 1 convolution of one value a channel."""
    times = []
    for name in ("Gemm", "MatMul", "Conv"):
        b = network()
        x = b.op("GlobalAveragePool", conv(b, "x"))
        w = b.random.normal(size=(CHANNELS, 4)).astype(np.float32)
        if name == "Conv":
            y = b.op("Conv", x, b.constant(w.T[:, :, None, None].copy()), kernel_shape=[1, 1])
        else:
            y = b.op(name, b.op("Flatten", x), b.constant(w))
        path = tmp_path / "a.onnx"
        ops_of(path, b.model(y))
        times.append(estimate(load(path), DEVICE).total_s)
    assert times == pytest.approx([times[0]] * 3, rel=1e-12)


def test_sum_is_additions_and_transpositions_cancel(tmp_path):
    b = network()
    y, z = conv(b, "x"), conv(b, "x")
    assert ops_of(tmp_path / "a.onnx", b.model(b.op("Sum", y, z, "x"))) == ["Conv", "Conv", "Add", "Add"]
    b = network()
    y = b.op("Transpose", b.op("Transpose", conv(b, "x"), perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    assert ops_of(tmp_path / "b.onnx", b.model(y)) == ["Conv"]
    b = network()
    y = b.op("Reshape", conv(b, "x"), b.constant(np.array([1, CHANNELS, 6, 6])))
    assert ops_of(tmp_path / "c.onnx", b.model(y)) == ["Conv"]


def test_a_slice_that_turns_a_tensor_round_stays(tmp_path):
    b = network()
    y = b.op("Slice", conv(b, "x"), *(b.constant(np.array([v])) for v in (-1, -99, 2, -1)))
    assert ops_of(tmp_path / "a.onnx", b.model(y)) == ["Conv", "Slice"]


STEPS = {
    **FOLDED,
    **{f"hard swish, {k}": v for k, v in HARD_SWISH.items()},
    **{f"{k} {n}": form for k, (_, *forms) in CURVES.items() if k != "silu" for n, form in enumerate(forms)},
    "conv": conv,
    "depthwise": lambda b, x: conv(b, x, group=CHANNELS),
    "1x1": lambda b, x: conv(b, x, k=1),
    "ramp": ramp,
    "halves joined": lambda b, x: b.op("Concat", cut(b, x, 4, 8), cut(b, x, 0, 4), axis=1),
    "overlapping": lambda b, x: b.op("Concat", cut(b, x, 0, 4), cut(b, x, 4, 6), cut(b, x, 2, 4), axis=1),
    "turned": lambda b, x: b.op("Transpose", x, perm=[0, 1, 3, 2]),
    "minimum": lambda b, x: b.op("Min", x, number(b, 0.5)),
    "maximum": lambda b, x: b.op("Max", row(b), x),
}
del STEPS["halves 0"], STEPS["halves 1"]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.data())
def test_random_networks_keep_their_outputs(tmp_path, data):
    b = Builder((1, CHANNELS, 6, 6), 20, seed=data.draw(st.integers(0, 99)))
    tensors = ["x"]
    for _ in range(data.draw(st.integers(2, 9))):
        x = data.draw(st.sampled_from(tensors[-3:]))
        if data.draw(st.integers(0, 3)) == 0:
            y = b.op(data.draw(st.sampled_from(["Add", "Mul", "Sum", "Max"])), x, data.draw(st.sampled_from(tensors)))
        else:
            y = STEPS[data.draw(st.sampled_from(sorted(STEPS)))](b, x)
        # keep the numbers small, or products of products drown the comparison
        tensors.append(b.op("Tanh", y) if data.draw(st.integers(0, 4)) == 0 else y)
    outputs = (
        [tensors[-1], *data.draw(st.lists(st.sampled_from(tensors[1:-1]), max_size=1))]
        if len(tensors) > 2
        else tensors[-1:]
    )
    ops_of(tmp_path / "a.onnx", b.model(*dict.fromkeys(outputs)), 1e-3)
