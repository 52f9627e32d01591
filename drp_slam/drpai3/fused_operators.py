# SPDX-License-Identifier: Apache-2.0
"""Expands operators fused by onnxruntime, and newer standard ones, into operators of older opsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.drpai3.node_writer import Writer

if TYPE_CHECKING:
    import onnx


def _activated(w: Writer, value: str) -> str:
    """The activation that a fused operator names."""
    kind = w.attributes.get("activation", b"").decode()
    parameters = list(w.attributes.get("activation_params", ()))
    if not kind:
        return value
    if kind == "Clip":
        low, high = (w.constant(np.float32(p), what) for p, what in zip(parameters, ("low", "high")))
        return w.op("Clip", value, low, high)
    names: Sequence[str] = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta")}.get(kind, ())
    names = ("alpha",) if "activation_alpha" in w.attributes else names
    parameters = parameters or [w.attributes[k] for k in ("activation_alpha", "activation_beta") if k in w.attributes]
    named: dict[str, Any] = {k: float(p) for k, p in zip(names, parameters)}
    return w.op(kind, value, **named)


def _fused_conv(w: Writer) -> list[onnx.NodeProto]:
    value = w.op("Conv", w.input(0), w.input(1), w.input(2), **w.without())
    if w.input(3):
        value = w.op("Add", value, w.input(3))
    return w.done(_activated(w, value))


def _fused_gemm(w: Writer) -> list[onnx.NodeProto]:
    return w.done(_activated(w, w.op("Gemm", *w.node.input, **w.without())))


def _fused_matmul(w: Writer) -> list[onnx.NodeProto] | None:
    if w.attributes.get("transBatchA") or w.attributes.get("transBatchB"):
        return None
    sides = []
    for n, key in enumerate(("transA", "transB")):
        rank = len(w.model.shapes.get(w.input(n), ()))
        turn = w.attributes.get(key, 0)
        if turn and rank < 2:
            return None
        axes = [*range(rank - 2), rank - 1, rank - 2]
        sides.append(w.op("Transpose", w.input(n), perm=axes) if turn else w.input(n))
    value, alpha = w.op("MatMul", *sides), w.attributes.get("alpha", 1.0)
    return w.done(value if alpha == 1.0 else w.op("Mul", value, w.constant(np.float32(alpha), "alpha")))


def _gelu(w: Writer) -> list[onnx.NodeProto] | None:
    """In exporters' form: x / sqrt(2), Erf, + 1, * x, * 0.5."""
    if w.attributes.get("approximate", b"none") not in (b"none", "none"):
        return None
    value = w.op("Add", w.input(0), w.input(1)) if w.node.op_type == "BiasGelu" else w.input(0)
    kind = _kind(w, value)
    curve = w.op("Erf", w.op("Div", value, w.constant(kind(2**0.5), "root")))
    product = w.op("Mul", value, w.op("Add", curve, w.constant(kind(1), "one")))
    return w.done(w.op("Mul", product, w.constant(kind(0.5), "half")))


def _kind(w: Writer, name: str) -> Callable[[float], Any]:
    """Makes scalars of a tensor's element type; float32 if unknown."""
    half = w.model.types.get(name) == 10
    return np.float16 if half else np.float32


def _quick_gelu(w: Writer) -> list[onnx.NodeProto]:
    alpha = w.attributes.get("alpha", 1.702)
    scaled = w.input(0) if alpha == 1 else w.op("Mul", w.input(0), w.constant(np.float32(alpha), "alpha"))
    return w.done(w.op("Mul", w.input(0), w.op("Sigmoid", scaled)))


def _layer_norm(w: Writer, value: str = "", scale: int = 1) -> list[onnx.NodeProto] | None:
    """In the form of exporters of opset 13: mean, difference, square, mean, root, quotient, scale, shift."""
    rank = len(w.model.shapes.get(value or w.input(0), ()))
    axis = w.attributes.get("axis", -1)
    if axis not in (-1, rank - 1) or any(w.node.output[1:]):
        return None
    value = value or w.input(0)
    kind = _kind(w, value)
    axes: dict[str, Any] = {"axes": [-1]} if w.model.opset < 18 else {}
    extra = () if axes else (w.constant(np.array([-1]), "axes"),)
    away = w.op("Sub", value, w.op("ReduceMean", value, *extra, **axes))
    square = w.op("Pow", away, w.constant(kind(2), "two"))
    spread = w.op(
        "Add",
        w.op("ReduceMean", square, *extra, **axes),
        w.constant(kind(w.attributes.get("epsilon", 1e-5)), "epsilon"),
    )
    found = w.op("Mul", w.op("Div", away, w.op("Sqrt", spread)), w.input(scale))
    return w.done(w.op("Add", found, w.input(scale + 1)) if w.input(scale + 1) else found)


def _skip_layer_norm(w: Writer) -> list[onnx.NodeProto] | None:
    if any(w.node.output[1:]):
        return None
    value = w.op("Add", w.input(0), w.input(1))
    if w.input(4):
        value = w.op("Add", value, w.input(4))
    w.model.shapes[value] = w.model.shapes.get(w.input(0), ())
    return _layer_norm(w, value, 2)


def _hard_swish(w: Writer) -> list[onnx.NodeProto]:
    return w.done(w.op("Mul", w.input(0), w.op("HardSigmoid", w.input(0), alpha=1 / 6, beta=0.5)))


def _swish(w: Writer) -> list[onnx.NodeProto] | None:
    if w.attributes.get("alpha", 1.0) != 1.0:
        return None
    return w.done(w.op("Mul", w.input(0), w.op("Sigmoid", w.input(0))))


def _mish(w: Writer) -> list[onnx.NodeProto]:
    return w.done(w.op("Mul", w.input(0), w.op("Tanh", w.op("Softplus", w.input(0)))))


FUSED: dict[str, Callable[[Writer], list[onnx.NodeProto] | None]] = {
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": _gelu,
    "BiasGelu": _gelu,
    "QuickGelu": _quick_gelu,
    "LayerNormalization": _layer_norm,
    "SkipLayerNormalization": _skip_layer_norm,
}
"""Of onnxruntime's own domain."""

SPELLED_OUT: dict[str, Callable[[Writer], list[onnx.NodeProto] | None]] = {
    "Gelu": _gelu,
    "HardSwish": _hard_swish,
    "Swish": _swish,
    "Mish": _mish,
    "LayerNormalization": _layer_norm,
}
"""Standard operators; the timing model was fitted to networks with the expanded form."""
