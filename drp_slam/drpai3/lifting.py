# SPDX-License-Identifier: Apache-2.0
"""Lifts a model to the opset that the rest of the package speaks, foreign operators written in standard ones.

Covers what onnxruntime writes: fused operators of an optimised file (FusedConv, FusedGemm, FusedMatMul,
Gelu and its kin, SkipLayerNormalization) and the QOperator form (QLinearConv ...), which becomes QDQ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.drpai3.onnx_model import OnnxModel, in_order, label
from drp_slam.drpai3.shapes import infer
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

OPSET = 13
"""Older models are converted to it: axes are inputs since then, and weights quantised per channel."""
FOREIGN = "com.microsoft"
OTHER_LAYOUTS = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Domains of files that onnxruntime optimised for the layout of one processor."""


def lift(model: OnnxModel) -> None:
    """Converts to opset 13 at least and writes foreign operators in standard ones, in place.

    Raises DrpAi3Error where onnx cannot convert an operator.
    """
    turned = next((node for node in model.nodes if node.domain in OTHER_LAYOUTS), None)
    if turned is not None:
        raise DrpAi3Error(
            f"{model.path}: node {label(turned)}: optimised by onnxruntime for the layout of one processor "
            f"({turned.domain}); give the model from before, or save it with ORT_ENABLE_EXTENDED"
        )
    if 0 < model.opset < OPSET:
        _convert(model)
    while any(node.domain == FOREIGN for node in model.nodes):
        infer(model, cut=False)  # some need the rank of their inputs, or scales that are computed
        if not _written(model, lambda node: WRITERS.get(node.op_type) if node.domain == FOREIGN else None):
            return


def spell_out(model: OnnxModel) -> bool:
    """Writes operators of newer opsets as older ones spell them; True if there were any."""
    return _written(model, lambda node: STANDARD.get(node.op_type) if node.domain in ("", "ai.onnx") else None)


def _written(model: OnnxModel, writer_of: Callable[[Any], Any]) -> bool:
    out: list[onnx.NodeProto] = []
    changed = False
    for node in model.nodes:
        writer = writer_of(node)
        written = writer(_Writer(model, node)) if writer else None
        changed |= written is not None
        out += [node] if written is None else written
    model.nodes = out
    return changed


def _convert(model: OnnxModel) -> None:
    from onnx import version_converter

    light = model.light()
    try:
        lifted = version_converter.convert_version(light, OPSET)
    except Exception as error:  # what C++ throws for operators that it cannot convert
        lines = [line for line in str(error).strip().splitlines() if line.strip()] or ["damaged"]
        raise DrpAi3Error(
            f"{model.path}: opset {model.opset} cannot be lifted to {OPSET}: {lines[-1][:200]}; export for {OPSET}"
        ) from error
    model.opsets[""] = OPSET
    inputs = {v.name for v in lifted.graph.input}
    for tensor in lifted.graph.initializer:
        model.constants.setdefault(tensor.name, tensor)
    model.nodes = in_order(model.path, enumerate(lifted.graph.node), inputs | set(model.constants))
    made = {o for node in model.nodes for o in node.output}
    lost = [o.name for o in model.outputs if o.name not in made | inputs | set(model.constants)]
    if lost:
        raise DrpAi3Error(f"{model.path}: output {lost[0]!r} is made by no node; export it again")


class _Writer:
    """What is needed to write one node in other operators."""

    def __init__(self, model: OnnxModel, node: onnx.NodeProto) -> None:
        self.model, self.node = model, node
        self.nodes: list[onnx.NodeProto] = []
        from onnx import helper

        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def input(self, n: int) -> str:
        return self.node.input[n] if n < len(self.node.input) else ""

    def constant(self, array: Any, what: str) -> str:
        name = f"{self.node.output[0]}/{what}"
        self.model.constants[name] = np.asarray(array)
        return name

    def op(self, op: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        out = out or f"{self.node.output[0]}/{op.lower()}{len(self.nodes)}"
        name = label(self.node) if not self.nodes else out
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=name, **attributes))
        return out

    def done(self, result: str) -> list[onnx.NodeProto]:
        """The nodes; the last one makes the node's own output."""
        last = next(n for n in self.nodes if n.output[0] == result)
        last.output[0] = self.node.output[0]
        return self.nodes

    def float_of(self, n: int) -> str:
        """Input n of a QLinear operator, dequantised: value, scale, zero point follow one another."""
        return self.op("DequantizeLinear", self.input(n), self.input(n + 1), self.input(n + 2))

    def bias_of(self, n: int) -> str:
        """Input n, an int32 bias, dequantised by the product of the scales of input and weight."""
        if not self.input(n):
            return ""
        scale = np.asarray(self.model.array(self.input(1)) * self.model.array(self.input(4)), np.float32)
        zero = np.zeros(scale.shape, np.int32)
        return self.op(
            "DequantizeLinear", self.input(n), self.constant(scale, "scale"), self.constant(zero, "zero"), axis=0
        )

    def quantised(self, value: str, n: int) -> list[onnx.NodeProto]:
        return self.done(self.op("QuantizeLinear", value, self.input(n), self.input(n + 1)))


def _activated(w: _Writer, value: str) -> str:
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


def _without(attributes: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in attributes.items() if k not in names and not k.startswith("activation")}


def _fused_conv(w: _Writer) -> list[onnx.NodeProto]:
    value = w.op("Conv", w.input(0), w.input(1), w.input(2), **_without(w.attributes))
    if w.input(3):
        value = w.op("Add", value, w.input(3))
    return w.done(_activated(w, value))


def _fused_gemm(w: _Writer) -> list[onnx.NodeProto]:
    return w.done(_activated(w, w.op("Gemm", *w.node.input, **_without(w.attributes))))


def _fused_matmul(w: _Writer) -> list[onnx.NodeProto] | None:
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


def _gelu(w: _Writer) -> list[onnx.NodeProto] | None:
    """As exporters spell it: x / sqrt(2), Erf, + 1, * x, * 0.5."""
    if w.attributes.get("approximate", b"none") not in (b"none", "none"):
        return None
    value = w.op("Add", w.input(0), w.input(1)) if w.node.op_type == "BiasGelu" else w.input(0)
    kind = _kind(w, value)
    curve = w.op("Erf", w.op("Div", value, w.constant(kind(2**0.5), "root")))
    product = w.op("Mul", value, w.op("Add", curve, w.constant(kind(1), "one")))
    return w.done(w.op("Mul", product, w.constant(kind(0.5), "half")))


def _kind(w: _Writer, name: str) -> Callable[[float], Any]:
    """Makes scalars of a tensor's element type; float32 where it is not known."""
    half = w.model.types.get(name) == 10
    return np.float16 if half else np.float32


def _quick_gelu(w: _Writer) -> list[onnx.NodeProto]:
    alpha = w.attributes.get("alpha", 1.702)
    scaled = w.input(0) if alpha == 1 else w.op("Mul", w.input(0), w.constant(np.float32(alpha), "alpha"))
    return w.done(w.op("Mul", w.input(0), w.op("Sigmoid", scaled)))


def _layer_norm(w: _Writer, value: str = "", scale: int = 1) -> list[onnx.NodeProto] | None:
    """As exporters of opset 13 spell it: mean, difference, square, mean, root, quotient, scale, shift."""
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


def _skip_layer_norm(w: _Writer) -> list[onnx.NodeProto] | None:
    if any(w.node.output[1:]):
        return None
    value = w.op("Add", w.input(0), w.input(1))
    if w.input(4):
        value = w.op("Add", value, w.input(4))
    w.model.shapes[value] = w.model.shapes.get(w.input(0), ())
    return _layer_norm(w, value, 2)


def _qlinear_conv(w: _Writer) -> list[onnx.NodeProto]:
    x = w.float_of(0)
    weight = w.op("DequantizeLinear", w.input(3), w.input(4), w.input(5), axis=0)
    bias = w.bias_of(8)
    return w.quantised(w.op("Conv", x, weight, bias, **w.attributes), 6)


def _qlinear_matmul(w: _Writer) -> list[onnx.NodeProto]:
    right = w.op("DequantizeLinear", w.input(3), w.input(4), w.input(5), axis=-1)
    return w.quantised(w.op("MatMul", w.float_of(0), right), 6)


def _qgemm(w: _Writer) -> list[onnx.NodeProto] | None:
    if not w.input(7):
        return None
    a = w.float_of(0)
    axis = 0 if w.attributes.get("transB") else 1
    b = w.op("DequantizeLinear", w.input(3), w.input(4), w.input(5), axis=axis)
    bias = w.bias_of(6)
    return w.quantised(w.op("Gemm", a, b, bias, **w.attributes), 7)


def _qlinear_pair(op: str) -> Callable[[_Writer], list[onnx.NodeProto]]:
    return lambda w: w.quantised(w.op(op, w.float_of(0), w.float_of(3)), 6)


def _qlinear_one(op: str) -> Callable[[_Writer], list[onnx.NodeProto] | None]:
    def write(w: _Writer) -> list[onnx.NodeProto] | None:
        if w.attributes.get("channels_last"):
            return None
        return w.quantised(w.op(op, w.float_of(0), **_without(w.attributes, "channels_last", "opset")), 3)

    return write


def _qlinear_concat(w: _Writer) -> list[onnx.NodeProto]:
    parts = [w.float_of(n) for n in range(2, len(w.node.input), 3)]
    return w.quantised(w.op("Concat", *parts, **w.attributes), 0)


def _dynamic_lstm(w: _Writer) -> list[onnx.NodeProto] | None:
    """Weights are stored input-first and dequantised; the dynamic range of the input is left out."""
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


def _standard(w: _Writer) -> list[onnx.NodeProto]:
    """An operator that only differs by its domain."""
    w.op(w.node.op_type, *w.node.input, **w.attributes)
    w.nodes[-1].output[:] = w.node.output
    return w.nodes


def _hard_swish(w: _Writer) -> list[onnx.NodeProto]:
    return w.done(w.op("Mul", w.input(0), w.op("HardSigmoid", w.input(0), alpha=1 / 6, beta=0.5)))


def _swish(w: _Writer) -> list[onnx.NodeProto] | None:
    if w.attributes.get("alpha", 1.0) != 1.0:
        return None
    return w.done(w.op("Mul", w.input(0), w.op("Sigmoid", w.input(0))))


def _mish(w: _Writer) -> list[onnx.NodeProto]:
    return w.done(w.op("Mul", w.input(0), w.op("Tanh", w.op("Softplus", w.input(0)))))


WRITERS: dict[str, Callable[[_Writer], list[onnx.NodeProto] | None]] = {
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": _gelu,
    "BiasGelu": _gelu,
    "QuickGelu": _quick_gelu,
    "LayerNormalization": _layer_norm,
    "SkipLayerNormalization": _skip_layer_norm,
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
"""Foreign operators, in standard ones."""

STANDARD: dict[str, Callable[[_Writer], list[onnx.NodeProto] | None]] = {
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "Gelu": _gelu,
    "HardSwish": _hard_swish,
    "Swish": _swish,
    "Mish": _mish,
    "LayerNormalization": _layer_norm,
}
"""Standard operators that newer opsets have for what older ones spell out: the timing model was
fitted to networks that spell them out, and equal graphs get equal answers."""
