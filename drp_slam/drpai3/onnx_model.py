# SPDX-License-Identifier: Apache-2.0
"""An ONNX model as separate parts, which can be inferred, lifted and rewritten without copying its weights."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

SMALL = 4096
"""Largest constant, in elements, whose values are used in shape inference; larger ones only by shape."""
OLDEST_IR = 8
"""Earlier IR versions require every initialiser among the inputs, which this form does not keep."""

Shape = tuple[int, ...]


def label(node: Any) -> str:
    """Name of a node for messages: its own, else operator and first output."""
    return node.name or f"{node.op_type}({node.output[0] if node.output else ''})"


def subgraphs_of(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Bodies of an If, Loop or Scan."""
    return [g for a in node.attribute for g in ([a.g] if a.HasField("g") else [*a.graphs])]


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors that a node reads, including those that its bodies take from outside."""
    yield from (name for name in node.input if name)
    for body in subgraphs_of(node):
        own = {v.name for v in body.input} | {t.name for t in body.initializer}
        for inner in body.node:
            yield from (name for name in reads(inner) if name not in own)
            own.update(inner.output)
        yield from (o.name for o in body.output if o.name not in own)


def dims_of(value: onnx.ValueInfoProto) -> Shape | None:
    """The shape of a value, -1 where a dimension is not known; None without rank."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.WhichOneof("value") == "dim_value" else -1 for d in kind.shape.dim)


def is_static(shape: Shape | None) -> bool:
    """Whether every dimension is known."""
    return shape is not None and all(d >= 0 for d in shape)


@dataclass
class OnnxModel:
    """`nodes` in topological order; `constants` by name, as stored or as computed arrays.

    `inputs` have fixed shapes; `hints` are static shapes that the file states; `shapes` and `types`
    (ONNX element types) are known after `shapes.infer`. `notes` says what was changed;
    `cut` are nodes omitted because their results have no static shape.
    """

    path: Path
    name: str
    ir_version: int
    opsets: dict[str, int]
    nodes: list[onnx.NodeProto]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    constants: dict[str, Any]
    hints: list[onnx.ValueInfoProto] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    cut: list[onnx.NodeProto] = field(default_factory=list)

    @property
    def opset(self) -> int:
        return self.opsets.get("", 0)

    def array(self, name: str) -> np.ndarray:
        """A constant's values. Raises DrpAi3Error where the data does not fill the shape."""
        from onnx import numpy_helper

        stored = self.constants[name]
        if isinstance(stored, np.ndarray):
            return stored
        try:
            return numpy_helper.to_array(stored)
        except (ValueError, TypeError, KeyError) as error:
            reader = next((label(n) for n in self.nodes if name in n.input), "-")
            raise DrpAi3Error(
                f"{self.path}: node {reader}: weight {name!r} of shape {list(stored.dims)} has the wrong amount of "
                "data; export it again"
            ) from error

    def size(self, name: str) -> int:
        """Elements of a constant."""
        stored = self.constants[name]
        return stored.size if isinstance(stored, np.ndarray) else math.prod(stored.dims)

    def light(self) -> onnx.ModelProto:
        """A small model for shape inference: large constants are inputs, and there are no outputs."""
        from onnx import helper

        model, graph = self._frame()
        graph.input.extend(self.inputs)
        used = {name for node in self.nodes for name in reads(node)} | {o.name for o in self.outputs}
        for name in self.constants:
            if name not in used:
                continue
            if self.size(name) <= SMALL:
                graph.initializer.append(self._tensor(name))
            else:
                stored = self.constants[name]
                kind = (
                    helper.np_dtype_to_tensor_dtype(stored.dtype)
                    if isinstance(stored, np.ndarray)
                    else stored.data_type
                )
                dims = stored.shape if isinstance(stored, np.ndarray) else stored.dims
                graph.input.append(helper.make_tensor_value_info(name, kind, dims))
        graph.value_info.extend(self.hints)
        return model

    def whole(self) -> onnx.ModelProto:
        """A model that runs: all weights, the given outputs, the fixed input shapes."""
        from onnx import helper

        model, graph = self._frame()
        graph.input.extend(self.inputs)
        for value in self.outputs:
            kind, shape = self.types.get(value.name), self.shapes.get(value.name)
            known = value if kind is None or shape is None else helper.make_tensor_value_info(value.name, kind, shape)
            graph.output.append(known)
        used = {name for node in self.nodes for name in reads(node)} | {o.name for o in self.outputs}
        graph.initializer.extend(self._tensor(name) for name in self.constants if name in used)
        return model

    def _frame(self) -> tuple[onnx.ModelProto, onnx.GraphProto]:
        import onnx

        model = onnx.ModelProto()
        model.ir_version = max(self.ir_version, OLDEST_IR)
        for domain, version in self.opsets.items():
            model.opset_import.add(domain=domain, version=version)
        model.graph.name = self.name
        model.graph.node.extend(self.nodes)
        return model, model.graph

    def _tensor(self, name: str) -> onnx.TensorProto:
        from onnx import numpy_helper

        stored = self.constants[name]
        return numpy_helper.from_array(stored, name) if isinstance(stored, np.ndarray) else stored


def in_order(path: Path, nodes: Iterable[tuple[float, onnx.NodeProto]], known: Iterable[str]) -> list[onnx.NodeProto]:
    """Nodes in topological order, by their keys if the order is ambiguous.

    Tensors that no node produces must be `known`. Raises DrpAi3Error for a cycle or an undefined tensor.
    """
    listed = [(key, n, node) for n, (key, node) in enumerate(nodes)]
    makers = {out: n for _, n, node in listed for out in node.output if out}
    known, waits = set(known), {}
    listeners: dict[int, set[int]] = {}
    for _, n, node in listed:
        needed = {name for name in reads(node) if name not in known}
        for name in needed:
            if name not in makers:
                raise DrpAi3Error(f"{path}: node {label(node)}: no node produces its input {name!r}; export it again")
            listeners.setdefault(makers[name], set()).add(n)
        waits[n] = len({makers[name] for name in needed})
    ready = [(key, n) for key, n, _ in listed if not waits[n]]
    heapq.heapify(ready)
    out = []
    while ready:
        _, n = heapq.heappop(ready)
        out.append(listed[n][2])
        for reader in listeners.get(n, ()):
            waits[reader] -= 1
            if not waits[reader]:
                heapq.heappush(ready, (listed[reader][0], reader))
    if len(out) < len(listed):
        stuck = next(node for _, n, node in listed if waits[n])
        raise DrpAi3Error(f"{path}: node {label(stuck)} needs its own result; the graph has a cycle, export it again")
    return out
