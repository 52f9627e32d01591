# SPDX-License-Identifier: Apache-2.0
"""Strips quantize and dequantize nodes from a quantised network and marks its layers as INT8.

Weights stay the stored integers. The remaining graph has the float network's structure and is
normalised like one; it is for counting and placement and cannot run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from drp_slam.drpai3.activations import CLOSE
from drp_slam.drpai3.normalise import normalise
from drp_slam.drpai3.onnx_model import OnnxModel, Shape, subgraphs_of
from drp_slam.drpai3.rewriter import attribute
from drp_slam.drpai3.shapes import rename_inputs

if TYPE_CHECKING:
    import onnx

QUANTISE = ("QuantizeLinear", "DequantizeLinear")
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})
SMALLEST = {"int8": -128, "uint8": 0, "int16": -32768, "uint16": 0}


def without_qdq(model: OnnxModel) -> tuple[OnnxModel, dict[str, np.ndarray], bool]:
    """The model stripped and normalised, zero points of its integer weights, and whether it was quantised.

    A dynamic quantisation is stripped as a static one: the chip's ranges are fixed.
    """
    if not any(n.op_type in (*QUANTISE, "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger") for n in model.nodes):
        return model, {}, False
    stripped = replace(model, nodes=[], constants=dict(model.constants), shapes=dict(model.shapes))
    alias: dict[str, str] = {}
    zero_points: dict[str, np.ndarray] = {}
    weights = {name for node in model.nodes if node.op_type in WEIGHTED for name in node.input[1:]}
    dynamic = _dynamic(model)
    for node in model.nodes:
        source = alias.get(node.input[0], node.input[0]) if node.input else ""
        if id(node) in dynamic:
            alias[node.output[0]] = source
        elif node.op_type in QUANTISE:
            value = _number(stripped, node, source) if node.output[0] not in weights else None
            if value is not None:
                stripped.constants[node.output[0]] = value
                stripped.shapes[node.output[0]] = value.shape
                continue
            alias[node.output[0]] = source
            if source in stripped.constants and len(node.input) > 2 and node.input[2] in model.constants:
                axis, block = attribute(node, "axis", 1), attribute(node, "block_size", 0)
                zero_points[source] = along(model.array(node.input[2]), axis, block, model.shapes[source])
            elif node.op_type == "QuantizeLinear":
                _clip_that_saturation_does(stripped, node, alias)
        else:
            if node.op_type in ("ConvInteger", "MatMulInteger") and node.input[1] in model.constants:
                axis = 0 if node.op_type == "ConvInteger" else -1
                zero = model.array(node.input[3]) if len(node.input) > 3 and node.input[3] in model.constants else None
                if zero is not None:
                    zero_points[node.input[1]] = along(zero, axis, 0, model.shapes[node.input[1]])
            stripped.nodes.append(_renamed(node, alias))
    stripped.outputs = _outputs(model, alias)
    normalise(stripped)
    quantised = any(node.op_type == "QuantizeLinear" for node in model.nodes) or bool(dynamic)
    return stripped, zero_points, quantised


def _dynamic(model: OnnxModel) -> set[int]:
    """DynamicQuantizeLinear nodes that only dequantisation reads."""
    others = {name for n in model.nodes if n.op_type != "DequantizeLinear" for name in n.input}
    others |= {o.name for o in model.outputs}
    return {id(n) for n in model.nodes if n.op_type == "DynamicQuantizeLinear" and not others.intersection(n.output)}


def _number(model: OnnxModel, node: onnx.NodeProto, source: str) -> np.ndarray | None:
    """Value of a dequantised constant other than a weight: a bound, a factor, an offset."""
    if source not in model.constants or node.op_type != "DequantizeLinear" or source != node.input[0]:
        return None
    parts = [model.array(i) for i in node.input if i in model.constants]
    if len(parts) != len(node.input) or parts[1].size != 1:
        return None
    zero = float(parts[2].ravel()[0]) if len(parts) > 2 else 0.0
    return np.asarray((parts[0].astype(np.float32) - zero) * float(parts[1].ravel()[0]), np.float32)


def _clip_that_saturation_does(model: OnnxModel, node: onnx.NodeProto, alias: dict[str, str]) -> None:
    """Restores Clip(x + 3, 0, 6), which quantisers drop where the int8 range has these bounds, for hard-swish."""
    from onnx import helper

    made = model.nodes[-1] if model.nodes else None
    if made is None or made.op_type != "Add" or made.output[0] != node.input[0] or len(node.input) < 3:
        return
    scale, zero = (model.array(i) if i in model.constants else None for i in node.input[1:3])
    if scale is None or zero is None or scale.size != 1 or int(zero.ravel()[0]) != SMALLEST.get(zero.dtype.name):
        return
    high = float(scale.ravel()[0]) * (2 ** (8 * zero.dtype.itemsize) - 1)
    if abs(high - 6) > 6 * CLOSE:
        return
    name = f"{node.output[0]}/clip"
    bounds = [f"{name}/low", f"{name}/high"]
    for bound, value in zip(bounds, (0.0, 6.0)):
        model.constants[bound] = np.array(value, np.float32)
    model.nodes.append(helper.make_node("Clip", [made.output[0], *bounds], [name], name=name))
    model.shapes[name] = model.shapes[made.output[0]]
    model.types[name] = model.types.get(made.output[0], 1)
    alias[node.output[0]] = name


def _renamed(node: onnx.NodeProto, alias: dict[str, str]) -> onnx.NodeProto:
    if not any(i in alias for i in node.input) and not subgraphs_of(node):
        return node
    twin = type(node)()
    twin.CopyFrom(node)
    rename_inputs(twin, alias)
    return twin


def _outputs(model: OnnxModel, alias: dict[str, str]) -> list[onnx.ValueInfoProto]:
    found = {}
    for value in model.outputs:
        twin = type(value)()
        twin.CopyFrom(value)
        twin.name = alias.get(value.name, value.name)
        found[twin.name] = twin
    return list(found.values())


def along(zero: np.ndarray, axis: int, block: int, shape: Shape) -> np.ndarray:
    """Zero points so that they broadcast to a stored tensor: one for all, one per slice, or one per block."""
    zero = zero.astype(np.int16)
    if zero.ndim == 0 or not shape:
        return zero
    axis %= len(shape)
    if block:
        wide = np.repeat(zero, block, axis)
        return wide[tuple(slice(size) for size in shape)]
    return zero.reshape([zero.size if n == axis else 1 for n in range(len(shape))])
