# SPDX-License-Identifier: Apache-2.0
"""Converts an INT8 network to the equivalent float one, for toolchains that quantise themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


def float_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """A QDQ network without quantisation: weights are the stored integers times their scales, zeros stay zeros.

    A Relu replaces a range from zero, which clips negative values; ranges are not limited above.
    """
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    twin = ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    alias: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    positive: set[str] = set()
    for node in model.graph.node:
        source = alias.get(node.input[0], node.input[0]) if node.input else ""
        target = node.output[0]
        if node.op_type == "DequantizeLinear" and source in values:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            graph.initializer.append(numpy_helper.from_array(_real([values[n] for n in node.input if n], axis), target))
        elif node.op_type == "QuantizeLinear" and _cuts_negative(node, values) and source not in positive:
            kept.append(helper.make_node("Relu", [source], [target], name=f"{target}/relu"))
            positive.add(target)
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            alias[target] = source
        else:
            again = type(node)()
            again.CopyFrom(node)
            again.input[:] = [alias.get(name, name) for name in node.input]
            kept.append(again)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
    for value in (*graph.input, *graph.output):
        value.name = alias.get(value.name, value.name)
        if value.type.tensor_type.elem_type == TensorProto.INT8:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    read = {name for node in kept for name in node.input}
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)
    return twin


def _real(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Integers, scale and optional zero point as float32."""
    stored, scale = parts[0], parts[1]
    zero = parts[2] if len(parts) > 2 else np.zeros_like(scale, stored.dtype)
    if scale.ndim and stored.ndim:
        shape = [-1 if n == axis % stored.ndim else 1 for n in range(stored.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return ((stored.astype(np.int64) - zero.astype(np.int64)) * scale).astype(np.float32)


def _cuts_negative(node: onnx.NodeProto, values: dict[str, np.ndarray]) -> bool:
    zero = values.get(node.input[2]) if len(node.input) > 2 else None
    return zero is not None and zero.size == 1 and int(zero.ravel()[0]) == np.iinfo(zero.dtype).min
