# SPDX-License-Identifier: Apache-2.0
"""The work of each node of a network, independent of any chip: MACs, elements, weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drp_slam.drpai3.bodies import Body
from drp_slam.drpai3.graph import Graph, Node
from drp_slam.drpai3.macs import Product, product
from drp_slam.drpai3.onnx_model import Shape

FREE = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "Expand"})
"""Operators that move no data on the chip: their output is a view of their input's buffer."""
INTEGER = ("ConvInteger", "MatMulInteger")
MATRIX_KINDS = ("conv", "depthwise", "grouped", "deconv", "fc")
"""Kinds whose weights are a constant matrix."""


@dataclass(frozen=True)
class Layer:
    """One node with its work.

    `kind`, `positions`, `k` and `c` are those of `macs.Product`; `macs` its multiply-accumulates
    (dense). `in_elements` are the activations read, constants not counted; `weight` names the
    constant matrix, if there is one. `unknown` is why the work is not counted, if it is not.
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
    unknown: str = ""

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def op(self) -> str:
        return self.node.op


def layers(graph: Graph) -> tuple[Layer, ...]:
    """The layers of a network in execution order, without operators that are only views."""
    return tuple(_layer(graph, node) for node in graph.nodes if node.op not in FREE)


def _layer(graph: Graph, node: Node) -> Layer:
    activations = [i for i in node.inputs if i and not graph.is_constant(i)]
    in_shape = graph.shapes[activations[0]] if activations else ()
    out_shape = graph.shapes[node.outputs[0]]
    read = sum(math.prod(graph.shapes[i]) for i in dict.fromkeys(activations))
    written = sum(math.prod(graph.shapes[o]) for o in node.outputs if o)
    inside = graph.bodies.get(node.outputs[0])
    found = _inside(inside) if inside else product(graph, node, in_shape, out_shape)
    constants = [i for i in node.inputs[1:] if i and graph.is_constant(i)]
    if node.op == "MatMul":
        constants = [i for i in node.inputs if graph.is_constant(i)]
    weight = constants[0] if found.kind in MATRIX_KINDS and constants else None
    elements = math.prod(graph.shapes[weight]) if weight else 0
    bias = sum(math.prod(graph.shapes[i]) for i in constants if i != weight) if weight else 0
    if node.op in INTEGER:  # its other constants are zero points
        bias = 0
    if found.kind == "recurrent":
        elements = sum(math.prod(graph.shapes[i]) for i in constants)
    shape = (found.positions, found.k, found.c)
    unknown = f"{node.name} ({node.op}): {found.unknown}" if found.unknown else ""
    return Layer(
        node, found.kind, in_shape, out_shape, read, written, found.macs, *shape, weight, elements, bias, unknown
    )


def _inside(body: Body) -> Product:
    """The larger branch of an If; every pass through the body of a Loop or Scan."""
    work = [layers(graph) for graph in body.graphs]
    macs = max((sum(layer.macs for layer in inner) for inner in work), default=0)
    reasons = [layer.unknown for inner in work for layer in inner if layer.unknown]
    reasons += [reason for graph in body.graphs for reason in graph.incomplete]
    return Product("body", extra=macs * body.times, unknown=body.unknown or next(iter(reasons), ""))


def weight_of(graph: Graph, layer: Layer) -> np.ndarray:
    """The layer's weight as (Cout, Cin/groups, ...), however the operator stores it.

    Raises DrpAi3Error for NaN, infinity, or data that does not fill the shape.
    """
    assert layer.weight is not None
    w = graph.constant(layer.weight)
    if layer.op == "ConvTranspose":
        return np.moveaxis(w, 1, 0)
    if layer.op in ("MatMul", "MatMulInteger") or (layer.op == "Gemm" and not layer.node.attributes.get("transB")):
        return np.swapaxes(w, -1, -2) if w.ndim > 1 else w[None]
    return w
