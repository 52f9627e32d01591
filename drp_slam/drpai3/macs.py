# SPDX-License-Identifier: Apache-2.0
"""Multiply-accumulates of a node as a matrix product; marks nodes whose work is unknown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drp_slam.drpai3.onnx_model import Shape
from drp_slam.drpai3.operators import NO_PRODUCTS
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    from drp_slam.drpai3.graph import Graph, Node

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""Matrices of each recurrent operator, one per gate."""
CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "ConvTranspose", "DeformConv"})


@dataclass(frozen=True)
class Product:
    """`positions` x `k` x `c`: output positions, inputs of one output, output channels; plus `extra` MACs.

    `kind`: `conv`, `depthwise`, `grouped`, `deconv`, `fc` with constant weights, else `matmul`,
    `recurrent`, or the operator in lower case. `unknown` says why the work is not known.
    """

    kind: str
    positions: int = 0
    k: int = 0
    c: int = 0
    extra: int = 0
    unknown: str = ""

    @property
    def macs(self) -> int:
        return self.positions * self.k * self.c + self.extra


def product(graph: Graph, node: Node, in_shape: Shape, out_shape: Shape) -> Product:
    """The work of one node. Raises DrpAi3Error if weights do not fit the input."""
    if node.op in CONVOLUTIONS:
        return _convolution(graph, node, in_shape, out_shape)
    if node.op == "Gemm":
        k = in_shape[0] if node.attributes.get("transA") else in_shape[-1]
        kind = "fc" if graph.is_constant(node.inputs[1]) else "matmul"
        return Product(kind, out_shape[0], k, out_shape[-1])
    if node.op in ("MatMul", "MatMulInteger"):
        left = graph.shapes[node.inputs[0]]
        kind = "fc" if any(graph.is_constant(i) for i in node.inputs[:2]) else "matmul"
        c = out_shape[-1] if len(graph.shapes[node.inputs[1]]) > 1 else 1
        return Product(kind, math.prod(out_shape) // max(c, 1), left[-1], c)
    if node.op in GATES:
        directions, rows, hidden = graph.shapes[node.inputs[2]]
        steps = in_shape[0] * in_shape[1] * directions
        return Product("recurrent", steps, in_shape[2] + hidden, rows)
    if node.op == "Einsum":
        return _einsum(graph, node)
    if node.op == "Attention":
        keys = graph.shapes[node.inputs[1]][-2]
        if len(node.inputs) > 4 and node.inputs[4]:
            keys += graph.shapes[node.inputs[4]][-2]
        return Product("matmul", extra=(math.prod(in_shape) + math.prod(out_shape)) * keys)
    unknown = "" if node.op in NO_PRODUCTS else f"the work of operator {node.op} is not known"
    return Product(node.op.lower(), unknown=unknown)


def _convolution(graph: Graph, node: Node, in_shape: Shape, out_shape: Shape) -> Product:
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
        return Product("deconv" if constant else "matmul", positions, w[0] // group, c)
    kind = "conv" if group == 1 else "depthwise" if w[1] == 1 else "grouped"
    positions = out_shape[0] * math.prod(out_shape[2:])
    if node.op == "DeformConv":  # its sampling positions are data
        kind = "deformable"
    return Product(kind if constant else "matmul", positions, w[1] * taps, w[0])


def _einsum(graph: Graph, node: Node) -> Product:
    """The product of two operands; sums and transpositions of one operand have none."""
    equation = node.attributes["equation"]
    text = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "")
    terms = text.partition("->")[0].split(",")
    shapes = [graph.shapes[i] for i in node.inputs]
    if len(terms) == 1:
        return Product("einsum")
    if len(terms) != 2:
        return Product("einsum", unknown=f"an Einsum of {len(terms)} tensors has no order of products")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes):
        free = len(shape) - len(term.replace("...", ""))
        letters = [*term]
        if "..." in term:
            at = term.index("...")
            letters = [*term[:at], *(f"...{n}" for n in range(-free, 0)), *term[at + 3 :]]
        for letter, size in zip(letters, shape):
            sizes[letter] = max(sizes.get(letter, 1), size)
    return Product("matmul", math.prod(sizes.values()), 1, 1)
