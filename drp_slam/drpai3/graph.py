# SPDX-License-Identifier: Apache-2.0
"""A network in the form for the model of the chip: nodes in order, every shape known, INT8 folded in.

`load` is the entry point: it reads, lifts, infers and normalises. Constant nodes are computed once, and
quantize/dequantize pairs become INT8 layers whose weights are the stored integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from drp_slam.drpai3 import shuffles, upsample_blocks
from drp_slam.drpai3.bodies import Body, bodies, resolve
from drp_slam.drpai3.lifting import lift, spell_out
from drp_slam.drpai3.normalise import normalise
from drp_slam.drpai3.onnx_model import OnnxModel, Shape, label
from drp_slam.drpai3.operators import NO_PRODUCTS
from drp_slam.drpai3.qdq import without_qdq
from drp_slam.drpai3.reading import fixed_model, read_model
from drp_slam.drpai3.shapes import check_sizes
from drp_slam.errors import DrpAi3Error

T = TypeVar("T")
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

    `int8` is True where activations are quantised in the file. Constants are read by `constant`.
    `notes` lists what was omitted; `incomplete`, which of that would have added work. `bodies`
    has the bodies of each If, Loop or Scan, by its first output.
    """

    name: str
    path: Path
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    int8: bool
    notes: tuple[str, ...]
    incomplete: tuple[str, ...]
    bodies: Mapping[str, Body]
    _runs: OnnxModel
    _stripped: OnnxModel
    _zero_points: Mapping[str, np.ndarray]
    _known: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Any, compute: Callable[[], T]) -> T:
        """What `compute` says about the file alone, computed once for each `key`: chips are compared on one graph."""
        if key not in self._known:
            self._known[key] = compute()
        return cast(T, self._known[key])

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is a weight or another constant of the file."""
        return name in self._stripped.constants

    def constant(self, name: str) -> np.ndarray:
        """A constant as stored; quantised weights with their zero point already subtracted.

        Raises DrpAi3Error for NaN or infinity, or data that does not fill the shape.
        """
        array = self._stripped.array(name)
        if array.dtype.kind == "V":  # four-bit integers and eight-bit floats, which numpy does not support
            array = array.astype(np.int8 if "int" in array.dtype.name else np.float32)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            reader = next((n.name for n in self.nodes if name in n.inputs), "")
            raise DrpAi3Error(
                f"{self.path}: node {reader}: weight {name!r} holds NaN or infinity; "
                "repair the training checkpoint and export again"
            )
        zero = self._zero_points.get(name)
        if zero is not None and np.any(zero):
            array = array.astype(np.int16) - zero.astype(np.int16)
        return array

    def model(self) -> Any:
        """The normalised network as an ONNX model that runs: float or QDQ, input shapes fixed."""
        return self._runs.whole()


def load(
    path: str | Path,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    batch_of_one: bool = False,
    in_place: bool = False,
    convolve_shuffles: bool = False,
) -> Graph:
    """Reads, fixes, lifts, infers, normalises and folds an ONNX network.

    `input_shapes` is by input name ("" for the only input), `dims` by the name of a dynamic
    dimension ("" for all that are not named). `batch_of_one` changes a fixed batch to 1. `in_place`:
    the DRP reads the results in place, so upsampling may run in blocks (`upsample_blocks`).
    `convolve_shuffles` writes channel shuffles as convolutions (`shuffles`).

    Raises DrpAi3Error with file, node and remedy in one line.
    """
    path = Path(path)
    model, rewritten = _opened(path, in_place)
    model = _inferred(fixed_model(path, model, input_shapes or {}, dims or {}, batch_of_one))
    notes = [upsample_blocks.NOTE] if rewritten else []
    if convolve_shuffles and shuffles.convolve(model):
        resolve(model)
        notes.append(shuffles.NOTE)
    graph = as_graph(model, path.name.removesuffix(".gz").removesuffix(".onnx"))
    return replace(graph, notes=(*graph.notes, *notes))


def _opened(path: Path, in_place: bool) -> tuple[Any, bool]:
    """The file, and whether its results are in blocks."""
    model = read_model(path)
    other = upsample_blocks.in_blocks(model) if in_place else None
    return other or model, other is not None


def as_graph(model: OnnxModel, name: str) -> Graph:
    """An inferred model as a graph, quantisation folded. Raises DrpAi3Error for bad weights."""
    stripped, zero_points, int8 = without_qdq(model)
    graph = Graph(
        name,
        model.path,
        _nodes(stripped),
        stripped.shapes,
        tuple(v.name for v in model.inputs),
        tuple(v.name for v in stripped.outputs),
        int8,
        *_left_out(model),
        bodies(model, as_graph),
        model,
        stripped,
        zero_points,
    )
    _check_weights(graph)
    return graph


def _inferred(model: OnnxModel) -> OnnxModel:
    """Lifts and normalises a model of fixed shapes, in place, quantisation as the file has it."""
    lift(model)
    resolve(model)
    if spell_out(model):
        resolve(model)
    if normalise(model):
        resolve(model)
    check_sizes(model)
    return model


def _left_out(model: OnnxModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes on the nodes that were cut off, and on missing work."""
    if not model.cut:
        return (), ()
    first = model.cut[0]
    what = (
        f"{len(model.cut)} nodes from {label(first)} ({first.op_type}) on have no static shape and are omitted; "
        "they would run on the CPU"
    )
    working = [n for n in model.cut if n.op_type not in NO_PRODUCTS]
    missing = tuple(f"{label(n)} ({n.op_type}): behind {label(first)}, whose shape is not static" for n in working)
    return (what,), missing


def _check_weights(graph: Graph) -> None:
    """Reads every weight once, even if the report does not need its values."""
    for node in graph.nodes:
        for name in node.inputs if node.op in WEIGHTED else ():
            if graph.is_constant(name):
                graph.constant(name)


def _nodes(model: OnnxModel) -> tuple[Node, ...]:
    from onnx import helper

    nodes = []
    for node in model.nodes:
        attributes = {
            a.name: helper.get_attribute_value(a) for a in node.attribute if not a.HasField("g") and not a.graphs
        }
        foreign = "" if node.domain in ("", "ai.onnx") else f"{node.domain}::"
        nodes.append(Node(label(node), foreign + node.op_type, tuple(node.input), tuple(node.output), attributes))
    return tuple(nodes)
