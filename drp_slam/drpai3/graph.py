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

from drp_slam.drpai3.reading import SMALL, Shape, fixed_model, label, read_model
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

LARGEST_TENSOR = 1 << 31
"""Elements; beyond it a shape is taken for an error of the model."""


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
        array = _decode(f"{self.path}: node {reader}: weight {name!r}", self._constants[name])
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
    light = _infer(path, light, constants)
    nodes, alias, zero_points = _fold_qdq(light, constants)
    shapes = _shapes(path, light, constants)
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
    """Reads every stored float once, whether or not the report will need its values."""
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    read = {name for node in graph.nodes for name in node.inputs if graph.is_constant(name)}
    for name in sorted(read):
        if getattr(graph._constants[name], "data_type", None) in floats:
            graph.constant(name)


def _decode(weight: str, stored: Any) -> np.ndarray:
    """The array of a stored tensor; `weight` names it in errors."""
    from onnx import numpy_helper

    if isinstance(stored, np.ndarray):
        return stored
    try:
        array = numpy_helper.to_array(stored)
    except (ValueError, TypeError, KeyError) as error:
        raise DrpAi3Error(
            f"{weight} of shape {list(stored.dims)} has the wrong amount of data; export it again"
        ) from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DrpAi3Error(
            f"{weight} holds NaN or infinity; repair the training checkpoint and export again"
        )
    return array


def _infer(path: Path, light: onnx.ModelProto, constants: dict[str, Any]) -> onnx.ModelProto:
    """Shapes of all tensors; folds constant nodes until nothing more can be folded."""
    import onnx

    try:
        onnx.checker.check_model(light)
    except Exception as error:  # ValidationError, and what C++ throws on damaged models
        lines = str(error).strip().splitlines() or ["damaged"]
        raise DrpAi3Error(f"{path}: invalid model: {lines[0]}; export it again") from error
    while True:
        try:
            light = onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
        except Exception as error:  # InferenceError, and what C++ throws on damaged models
            reason = str(error).strip().splitlines()[-1]
            raise DrpAi3Error(
                f"{path}: shape inference: {reason}; fix the node or give --input-shape"
            ) from error
        if not _fold_constants(path, light, constants):
            return light


def _fold_constants(path: Path, light: onnx.ModelProto, constants: dict[str, Any]) -> bool:
    """Removes nodes that are constant (and Shape of known shapes); True if a shape may follow."""
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    shapes = {v.name: _dims(v) or (-1,) for v in (*light.graph.value_info, *light.graph.input)}
    small = {t.name: _decode(f"{path}: weight {t.name!r}", t) for t in light.graph.initializer}
    opsets = {o.domain: o.version for o in light.opset_import}
    kept, folded = [], False
    for node in light.graph.node:
        values: Any = None
        if node.op_type == "Shape" and _known(shapes.get(node.input[0])):
            start = next((a.i for a in node.attribute if a.name == "start"), 0)
            end = next((a.i for a in node.attribute if a.name == "end"), None)
            values = [np.array(shapes[node.input[0]][start:end], np.int64)]
        elif node.op_type in ("If", "Loop", "Scan", "DequantizeLinear", "QuantizeLinear") or (
            node.op_type.startswith("Random") or not all(not i or i in small for i in node.input)
        ):
            pass
        else:
            try:
                feeds = {i: small[i] for i in node.input if i}
                values = ReferenceEvaluator(node, opsets=opsets).run(None, feeds)
            except Exception as error:  # the reference raises whatever numpy does
                raise DrpAi3Error(
                    f"{path}: node {label(node)}: constant {node.op_type} cannot be "
                    f"computed: {error}; simplify the model"
                ) from error
        if values is None or any(not isinstance(v, np.ndarray | np.generic) for v in values):
            kept.append(node)
            continue
        for name, value in zip(node.output, values):
            array = np.asarray(value)
            constants[name] = array
            if array.size <= SMALL:
                folded = True
                small[name] = array
                light.graph.initializer.append(numpy_helper.from_array(array, name))
            else:
                from onnx import helper

                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                light.graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
    if len(kept) < len(light.graph.node):
        del light.graph.node[:]
        light.graph.node.extend(kept)
    return folded


def _dims(value: onnx.ValueInfoProto) -> Shape | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.WhichOneof("value") == "dim_value" else -1 for d in kind.shape.dim
    )


def _known(shape: Shape | None) -> bool:
    return shape is not None and all(d >= 0 for d in shape)


def _fold_qdq(
    light: onnx.ModelProto,
    constants: dict[str, Any],
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
            a.name: helper.get_attribute_value(a)
            for a in node.attribute
            if not a.HasField("g") and not a.graphs
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


def _shapes(path: Path, light: onnx.ModelProto, constants: Mapping[str, Any]) -> dict[str, Shape]:
    """Every tensor's shape. Raises DrpAi3Error that names the node whose output is not resolved."""
    shapes: dict[str, Shape] = {}
    for value in (*light.graph.input, *light.graph.value_info):
        dims = _dims(value)
        if dims is not None and _known(dims):
            shapes[value.name] = dims
    for name, stored in constants.items():
        shapes[name] = tuple(stored.shape if isinstance(stored, np.ndarray) else stored.dims)
    for node in light.graph.node:
        for name in node.output:
            if name and name not in shapes:
                raise DrpAi3Error(
                    f"{path}: node {label(node)}: the shape of its output {name!r} "
                    "cannot be inferred; give --input-shape or simplify the model"
                )
            if name and int(np.prod(shapes[name], dtype=np.float64)) > LARGEST_TENSOR:
                raise DrpAi3Error(
                    f"{path}: node {label(node)}: output of shape {list(shapes[name])} "
                    f"has more than {LARGEST_TENSOR} elements; check --input-shape"
                )
    return shapes
