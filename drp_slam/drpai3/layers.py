# SPDX-License-Identifier: Apache-2.0
"""What each node of a network takes, independent of any chip: MACs, elements, weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drp_slam.drpai3.graph import Graph, Node
from drp_slam.drpai3.onnx_model import Shape
from drp_slam.errors import DrpAi3Error

FREE = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "Expand"})
"""Operators that move no data on the chip: another view of the same buffer."""
MATRIX_KINDS = ("conv", "depthwise", "grouped", "deconv", "fc")
"""Kinds whose weights are a constant matrix."""


@dataclass(frozen=True)
class Layer:
    """One node with its work.

    `kind`: `conv`, `depthwise`, `grouped`, `deconv`, `fc`, `matmul` or the operator in lower case.
    `positions` x `k` x `c` are the output positions, inputs of one output channel and output
    channels of a matrix product; `macs` its multiply-accumulates (dense). `in_elements` are the
    activations read, constants not counted; `weight` names the constant matrix, if there is one.
    """

    node: Node
    kind: str
    in_shape: Shape
    out_shape: Shape
    in_elements: int
    out_elements: int
    macs: int = 0
    positions: int = 0
    k: int = 0
    c: int = 0
    weight: str | None = None
    weight_elements: int = 0
    bias_elements: int = 0

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def op(self) -> str:
        return self.node.op


def layers(graph: Graph) -> tuple[Layer, ...]:
    """The layers of a network in execution order, views of the same buffer left out."""
    return tuple(_layer(graph, node) for node in graph.nodes if node.op not in FREE)


def _layer(graph: Graph, node: Node) -> Layer:
    activations = [i for i in node.inputs if i and not graph.is_constant(i)]
    in_shape = graph.shapes[activations[0]] if activations else ()
    out_shape = graph.shapes[node.outputs[0]]
    read = sum(math.prod(graph.shapes[i]) for i in dict.fromkeys(activations))
    written = sum(math.prod(graph.shapes[o]) for o in node.outputs if o)
    kind, positions, k, c = _product(graph, node, in_shape, out_shape)
    constants = [i for i in node.inputs[1:] if i and graph.is_constant(i)]
    if node.op == "MatMul":
        constants = [i for i in node.inputs if graph.is_constant(i)]
    weight = constants[0] if kind in MATRIX_KINDS and constants else None
    elements = math.prod(graph.shapes[weight]) if weight else 0
    bias = sum(math.prod(graph.shapes[i]) for i in constants if i != weight) if weight else 0
    return Layer(
        node, kind, in_shape, out_shape, read, written, positions * k * c, positions, k, c, weight, elements, bias
    )


def _product(graph: Graph, node: Node, in_shape: Shape, out_shape: Shape) -> tuple[str, int, int, int]:
    """Kind, positions, inputs of one output channel and output channels of a node."""
    if node.op in ("Conv", "ConvTranspose"):
        w, group = graph.shapes[node.inputs[1]], int(node.attributes.get("group", 1))
        taps, constant = math.prod(w[2:]), graph.is_constant(node.inputs[1])
        channels = w[0] if node.op == "ConvTranspose" else w[1] * group
        if len(in_shape) != len(w) or in_shape[1] != channels or group < 1:
            raise DrpAi3Error(
                f"{graph.path}: node {node.name}: weight {list(w)} in {group} groups does not fit "
                f"input {list(in_shape)}; repair the export"
            )
        if node.op == "ConvTranspose":
            positions, c = out_shape[0] * math.prod(in_shape[2:]), w[1] * group * taps
            return "deconv" if constant else "matmul", positions, w[0] // group, c
        kind = "conv" if group == 1 else "depthwise" if w[1] == 1 else "grouped"
        positions = out_shape[0] * math.prod(out_shape[2:])
        return kind if constant else "matmul", positions, w[1] * taps, w[0]
    if node.op == "Gemm":
        k = in_shape[0] if node.attributes.get("transA") else in_shape[-1]
        kind = "fc" if graph.is_constant(node.inputs[1]) else "matmul"
        return kind, out_shape[0], k, out_shape[-1]
    if node.op == "MatMul":
        left = graph.shapes[node.inputs[0]]
        kind = "fc" if any(graph.is_constant(i) for i in node.inputs) else "matmul"
        c = out_shape[-1] if len(graph.shapes[node.inputs[1]]) > 1 else 1
        return kind, math.prod(out_shape) // max(c, 1), left[-1], c
    return node.op.lower(), 0, 0, 0


def weight_of(graph: Graph, layer: Layer) -> np.ndarray:
    """The layer's weight as (Cout, Cin/groups, ...), whatever way round the operator stores it.

    Raises DrpAi3Error for NaN, infinity, or data that does not fill the shape.
    """
    assert layer.weight is not None
    w = graph.constant(layer.weight)
    if layer.op == "ConvTranspose":
        return np.moveaxis(w, 1, 0)
    if layer.op == "MatMul" or (layer.op == "Gemm" and not layer.node.attributes.get("transB")):
        return np.swapaxes(w, -1, -2) if w.ndim > 1 else w[None]
    return w
