# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs of a quantised network: int8 outside, and the meaning of these integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

MOVES = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "DepthToSpace", "SpaceToDepth"})
"""Operators that onnxruntime's quantiser leaves in float at the borders though they only move data."""
Scales = Mapping[str, tuple[float, int]]


def int8_borders(
    model: onnx.ModelProto, scales: Scales, concat: onnx.NodeProto | None, whole: onnx.ValueInfoProto
) -> onnx.ModelProto:
    """Inputs and outputs int8 around a body that is uint8 in onnxruntime (the same numbers
    plus 128): its kernels for signed activations are eight times slower on x86.

    Inputs and outputs of operators that are not quantised stay float, unless they only move data.
    """
    import onnx

    graph, int8 = model.graph, onnx.TensorProto.INT8
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    makers = {out: node for node in graph.node for out in node.output}

    def border(op: str, source: str, target: str, like: onnx.NodeProto | str) -> onnx.NodeProto:
        if isinstance(like, str):
            scale, origin = f"{target}_scale", np.array(scales[like][1], np.int8)
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(scales[like][0], np.float32), scale))
        else:
            scale, origin = like.input[1], (values[like.input[2]].astype(np.int16) - 128).astype(np.int8)
        zero = onnx.numpy_helper.from_array(origin, f"{target}_zero_point")
        graph.initializer.append(zero)
        return onnx.helper.make_node(op, [source, scale, zero.name], [target], name=target)

    for source in graph.input:
        readers = [n for n in graph.node if source.name in n.input]
        like: onnx.NodeProto | str | None = next((n for n in readers if n.op_type == "QuantizeLinear"), None)
        if like is None and readers and source.name in scales and all(n.op_type in MOVES for n in readers):
            like = source.name
        if like is None or source.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            continue
        real = f"{source.name}_real"
        for node in readers:
            node.input[:] = [real if name == source.name else name for name in node.input]
        graph.node.insert(0, border("DequantizeLinear", source.name, real, like))
        source.type.tensor_type.elem_type = int8
    parts = []
    for output in graph.output:
        maker = makers.get(output.name)
        if maker is None or output.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            continue
        moved = maker.op_type in MOVES and output.name in scales
        if maker.op_type != "DequantizeLinear" and not moved:
            continue
        parts.append(f"{output.name}_int8")
        graph.node.append(border("QuantizeLinear", output.name, parts[-1], output.name if moved else maker))
        output.name, output.type.tensor_type.elem_type = parts[-1], int8
    if concat is not None:
        axis = next(a.i for a in concat.attribute if a.name == "axis")
        graph.node.append(onnx.helper.make_node("Concat", parts, list(concat.output), name=concat.name, axis=axis))
        del graph.output[:]
        whole.type.tensor_type.elem_type = int8
        graph.output.append(whole)
    return model


def input_scales(model: onnx.ModelProto) -> dict[str, tuple[float, int]]:
    """(scale, zero point) of every int8 input that is dequantised, by name."""
    from onnx import TensorProto, numpy_helper

    values = {t.name: t for t in model.graph.initializer}
    int8 = {v.name for v in model.graph.input if v.type.tensor_type.elem_type == TensorProto.INT8}
    found = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in int8:
            scale, zero = (numpy_helper.to_array(values[name]) for name in node.input[1:3])
            found[node.input[0]] = (float(scale), int(zero))
    return found


def real_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that returns the real values of its int8 outputs, in the same order; parts of a Concat separately."""
    from onnx import ModelProto, TensorProto, helper

    twin = ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    makers = {out: node for node in graph.node for out in node.output}
    for output in graph.output:
        maker = makers.get(output.name)
        if maker is None or output.type.tensor_type.elem_type != TensorProto.INT8:
            continue
        parts = [makers.get(name) for name in maker.input] if maker.op_type == "Concat" else [maker]
        if any(part is None or part.op_type != "QuantizeLinear" for part in parts):
            continue
        real = [part.input[0] for part in parts if part is not None]
        name = f"{output.name}/real"
        if maker.op_type == "Concat":
            graph.node.append(helper.make_node("Concat", real, [name], axis=maker.attribute[0].i))
        else:
            graph.node.append(helper.make_node("Identity", real, [name]))
        output.name, output.type.tensor_type.elem_type = name, TensorProto.FLOAT
    return twin


def border_scales(model: onnx.ModelProto) -> tuple[tuple[float, int], list[tuple[float, int]]]:
    """(scale, zero point) of the int8 input, and of each output or each part of the last Concat."""
    from onnx import numpy_helper

    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {out: node for node in model.graph.node for out in node.output}

    def of(node: onnx.NodeProto) -> tuple[float, int]:
        return float(values[node.input[1]]), int(values[node.input[2]])

    source = model.graph.input[0].name
    first = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == source)
    last = makers[model.graph.output[0].name]
    names = list(last.input) if last.op_type == "Concat" else [o.name for o in model.graph.output]
    return of(first), [of(makers[name]) for name in names]
