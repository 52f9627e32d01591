# SPDX-License-Identifier: Apache-2.0
"""Expands the QOperator form of quantised networks, and dynamically quantised LSTMs, into standard operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from drp_slam.drpai3.node_writer import Writer

if TYPE_CHECKING:
    import onnx


def _qlinear_conv(w: Writer) -> list[onnx.NodeProto]:
    x = w.float_of(0)
    weight = w.op("DequantizeLinear", w.input(3), w.input(4), w.input(5), axis=0)
    bias = w.bias_of(8)
    return w.quantised(w.op("Conv", x, weight, bias, **w.attributes), 6)


def _qlinear_matmul(w: Writer) -> list[onnx.NodeProto]:
    right = w.op("DequantizeLinear", w.input(3), w.input(4), w.input(5), axis=-1)
    return w.quantised(w.op("MatMul", w.float_of(0), right), 6)


def _qgemm(w: Writer) -> list[onnx.NodeProto] | None:
    if not w.input(7):
        return None
    a = w.float_of(0)
    axis = 0 if w.attributes.get("transB") else 1
    b = w.op("DequantizeLinear", w.input(3), w.input(4), w.input(5), axis=axis)
    bias = w.bias_of(6)
    return w.quantised(w.op("Gemm", a, b, bias, **w.attributes), 7)


def _qlinear_pair(op: str) -> Callable[[Writer], list[onnx.NodeProto]]:
    return lambda w: w.quantised(w.op(op, w.float_of(0), w.float_of(3)), 6)


def _qlinear_one(op: str) -> Callable[[Writer], list[onnx.NodeProto] | None]:
    def write(w: Writer) -> list[onnx.NodeProto] | None:
        if w.attributes.get("channels_last"):
            return None
        return w.quantised(w.op(op, w.float_of(0), **w.without("channels_last", "opset")), 3)

    return write


def _qlinear_concat(w: Writer) -> list[onnx.NodeProto]:
    parts = [w.float_of(n) for n in range(2, len(w.node.input), 3)]
    return w.quantised(w.op("Concat", *parts, **w.attributes), 0)


def _dynamic_lstm(w: Writer) -> list[onnx.NodeProto] | None:
    """Weights are stored input-first and dequantised; the dynamic range of the input is ignored."""
    turned = []
    for n, scale in ((1, 8), (2, 10)):
        if any(w.input(i) not in w.model.constants for i in (n, scale, scale + 1)):
            return None
        weight, factor, zero = (w.model.array(w.input(i)) for i in (n, scale, scale + 1))
        wide = [part.astype(np.float32).reshape(len(weight), 1, -1) for part in (factor, zero)]
        real = (weight.astype(np.float32) - wide[1]) * wide[0]
        turned.append(w.constant(real.transpose(0, 2, 1), f"weight{n}"))
    w.op("LSTM", w.input(0), *turned, *(w.input(n) for n in range(3, 8)), **w.attributes)
    w.nodes[-1].output[:] = w.node.output
    return w.nodes


def _standard(w: Writer) -> list[onnx.NodeProto]:
    """An operator that only differs by its domain."""
    w.op(w.node.op_type, *w.node.input, **w.attributes)
    w.nodes[-1].output[:] = w.node.output
    return w.nodes


QUANTISED: dict[str, Callable[[Writer], list[onnx.NodeProto] | None]] = {
    "DynamicQuantizeLSTM": _dynamic_lstm,
    "QGemm": _qgemm,
    "QLinearAdd": _qlinear_pair("Add"),
    "QLinearMul": _qlinear_pair("Mul"),
    "QLinearConcat": _qlinear_concat,
    "QLinearSigmoid": _qlinear_one("Sigmoid"),
    "QLinearLeakyRelu": _qlinear_one("LeakyRelu"),
    "QLinearSoftmax": _qlinear_one("Softmax"),
    "QLinearAveragePool": _qlinear_one("AveragePool"),
    "QLinearGlobalAveragePool": _qlinear_one("GlobalAveragePool"),
    "QuantizeLinear": _standard,
    "DequantizeLinear": _standard,
}
"""Of onnxruntime's own domain."""

QUANTISED_STANDARD: dict[str, Callable[[Writer], list[onnx.NodeProto] | None]] = {
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
}
