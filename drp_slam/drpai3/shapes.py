# SPDX-License-Identifier: Apache-2.0
"""Shapes of all tensors of an ONNX network, with everything constant computed once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.drpai3.reading import SMALL, Shape, label
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

LARGEST_TENSOR = 1 << 31
"""Elements; beyond it a shape is taken for an error of the model."""


def decode(weight: str, stored: Any) -> np.ndarray:
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
    return array


def infer(path: Path, light: onnx.ModelProto, constants: dict[str, Any]) -> onnx.ModelProto:
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
            raise DrpAi3Error(f"{path}: shape inference: {reason}; fix the node or give --input-shape") from error
        if not _fold_constants(path, light, constants):
            return light
        # what was not known before folding is inferred anew
        known = [v for v in light.graph.value_info if _known(_dims(v)) and v.name not in constants]
        del light.graph.value_info[:]
        light.graph.value_info.extend(known)


def _fold_constants(path: Path, light: onnx.ModelProto, constants: dict[str, Any]) -> bool:
    """Removes nodes that are constant (and Shape of known shapes); True if shapes may follow."""
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    shapes = {v.name: _dims(v) or (-1,) for v in (*light.graph.value_info, *light.graph.input)}
    small = {t.name: decode(f"{path}: weight {t.name!r}", t) for t in light.graph.initializer}
    opsets = {o.domain: o.version for o in light.opset_import}
    used = {i for node in light.graph.node for i in node.input} | {o.name for o in light.graph.output}
    kept, folded = [], False
    for node in light.graph.node:
        values: Any = None
        if node.op_type == "Shape" and _known(shapes.get(node.input[0])):
            start = next((a.i for a in node.attribute if a.name == "start"), 0)
            end = next((a.i for a in node.attribute if a.name == "end"), None)
            values = [np.array(shapes[node.input[0]][start:end], np.int64)]
        elif node.op_type in ("If", "Loop", "Scan", "DequantizeLinear", "QuantizeLinear") or (
            node.op_type.startswith("Random") or not all(not i or i in small or i in constants for i in node.input)
        ):
            pass
        else:
            try:
                feeds = {
                    i: small[i] if i in small else decode(f"{path}: weight {i!r}", constants[i])
                    for i in node.input
                    if i
                }
                while len(node.output) > 1 and node.output[-1] not in used:
                    del node.output[-1]  # statistics of a batch norm, which few evaluators give
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
            folded = True
            if array.size <= SMALL:
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
    return tuple(d.dim_value if d.WhichOneof("value") == "dim_value" else -1 for d in kind.shape.dim)


def _known(shape: Shape | None) -> bool:
    return shape is not None and all(d >= 0 for d in shape)


def shapes_of(path: Path, light: onnx.ModelProto, constants: Mapping[str, Any]) -> dict[str, Shape]:
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
