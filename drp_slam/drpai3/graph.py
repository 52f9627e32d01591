# SPDX-License-Identifier: Apache-2.0
"""A network as the model of the chip sees it: nodes in order, every shape known, INT8 folded in.

`load` is the way in. Quantize/dequantize pairs vanish: what they surround becomes an INT8 layer
whose weights are the stored integers, as the chip's own quantiser leaves it. Nodes whose inputs are
all constant are computed once and vanish too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.drpai3.reading import Shape, fixed_model, label, read_model
from drp_slam.drpai3.shapes import decode, infer, shapes_of
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx


WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"})
"""Operators whose constants are weights; infinities elsewhere are masks and bounds."""


@dataclass(frozen=True)
class Node:
    """One operator. `inputs` names activations and constants; absent optional inputs are ""."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """`nodes` in topological order; `shapes` of every tensor; `inputs` and `outputs` by name.

    `int8` is True where the file was quantised (QDQ). Constants are read by `constant`.
    """

    name: str
    path: Path
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    int8: bool
    _constants: Mapping[str, Any]
    _zero_points: Mapping[str, np.ndarray]

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is a weight or another constant of the file."""
        return name in self._constants

    def constant(self, name: str) -> np.ndarray:
        """A constant as stored; quantised weights with their zero point already subtracted.

        Raises DrpAi3Error for NaN or infinity, or data that does not fill the shape.
        """
        reader = next((n.name for n in self.nodes if name in n.inputs), "")
        weight = f"{self.path}: node {reader}: weight {name!r}"
        array = decode(weight, self._constants[name])
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DrpAi3Error(f"{weight} holds NaN or infinity; repair the training checkpoint and export again")
        zero = self._zero_points.get(name)
        if zero is not None and np.any(zero):
            array = array.astype(np.int16) - zero.astype(np.int16)
        return array


def load(path: str | Path, input_shapes: Mapping[str, Sequence[int]] | None = None) -> Graph:
    """Reads, fixes, infers and folds an ONNX network.

    Raises DrpAi3Error with one line: the file, the node, the remedy.
    """
    path = Path(path)
    model = read_model(path)
    light = fixed_model(path, model, input_shapes or {})
    constants: dict[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}
    light = infer(path, light, constants)
    nodes, alias, zero_points = _fold_qdq(light, constants)
    shapes = shapes_of(path, light, constants)
    name = path.name.removesuffix(".gz").removesuffix(".onnx")
    graph = Graph(
        name,
        path,
        tuple(nodes),
        shapes,
        tuple(v.name for v in light.graph.input if v.name not in constants),
        tuple(alias.get(v.name, v.name) for v in model.graph.output),
        bool(alias),
        constants,
        zero_points,
    )
    _check_weights(graph)
    return graph


def _check_weights(graph: Graph) -> None:
    """Reads every weight once, whether or not the report will need its values."""
    for node in graph.nodes:
        for name in node.inputs if node.op in WEIGHTED else ():
            if graph.is_constant(name):
                graph.constant(name)


def _fold_qdq(
    light: onnx.ModelProto, constants: dict[str, Any]
) -> tuple[list[Node], dict[str, str], dict[str, np.ndarray]]:
    """Nodes without quantize and dequantize, what their outputs are names for, and zero points."""
    from onnx import helper, numpy_helper

    alias: dict[str, str] = {}
    zero_points: dict[str, np.ndarray] = {}
    nodes = []
    small = {t.name: t for t in light.graph.initializer}
    for node in light.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            source = alias.get(node.input[0], node.input[0])
            alias[node.output[0]] = source
            if source in constants and len(node.input) > 2 and node.input[2] in small:
                zero = numpy_helper.to_array(small[node.input[2]])
                axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
                zero_points[source] = _along(zero, axis, constants[source])
            continue
        inputs = tuple(alias.get(i, i) for i in node.input)
        attributes = {
            a.name: helper.get_attribute_value(a) for a in node.attribute if not a.HasField("g") and not a.graphs
        }
        nodes.append(Node(label(node), node.op_type, inputs, tuple(node.output), attributes))
    return nodes, alias, zero_points


def _along(zero: np.ndarray, axis: int, stored: Any) -> np.ndarray:
    rank = stored.ndim if isinstance(stored, np.ndarray) else len(stored.dims)
    if zero.ndim == 0 or rank == 0:
        return zero
    shape = [1] * rank
    shape[axis] = zero.size
    return zero.reshape(shape)
