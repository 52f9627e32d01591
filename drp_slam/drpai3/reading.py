# SPDX-License-Identifier: Apache-2.0
"""From a file to an ONNX model with every dimension fixed, or one line that says what is wrong."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 11
SMALL = 4096
"""Initializers of at most so many elements take part in shape inference; the rest only by shape."""
LARGEST_DIMENSION = 1 << 24

Shape = tuple[int, ...]


def read_model(path: Path) -> onnx.ModelProto:
    """The model in `path` (`.onnx` or `.onnx.gz`), external weights loaded.

    Raises DrpAi3Error for a file that is missing, no ONNX, truncated, older than opset 11, newer
    than the installed onnx, or lacks its external data.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        model = onnx.load_model_from_string(data)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DrpAi3Error(f"{path}: cannot read: {reason}; give an .onnx or .onnx.gz file") from error
    except (DecodeError, ValueError) as error:
        raise DrpAi3Error(f"{path}: not an ONNX file, or truncated; export it again") from error
    if not model.graph.node or not model.graph.output:
        raise DrpAi3Error(
            f"{path}: not an ONNX network: it has {len(model.graph.node)} nodes and "
            f"{len(model.graph.output)} outputs; export it again"
        )
    _check_text(path, model)
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    _check_opset(path, model)
    _load_external(path, model)
    return model


def _check_text(path: Path, model: onnx.ModelProto) -> None:
    """Names of a damaged file may be no UTF-8, which protobuf finds out only when they are read."""
    graph = model.graph
    try:
        texts = [graph.name, *(o.domain for o in model.opset_import)]
        for node in graph.node:
            texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
            texts += [attribute.name for attribute in node.attribute]
        for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
            texts.append(named.name)
        broken = any(not isinstance(text, str) for text in texts)
    except UnicodeDecodeError:
        broken = True
    if broken:
        raise DrpAi3Error(f"{path}: damaged: a name in it is no text; export it again")


def _check_opset(path: Path, model: onnx.ModelProto) -> None:
    import onnx

    versions = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    version, newest = versions.get("ai.onnx", 0), onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= version <= newest:
        raise DrpAi3Error(
            f"{path}: opset {version}, expected {OLDEST_OPSET} to {newest}; convert it with onnx.version_converter"
        )
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise DrpAi3Error(
                f"{path}: node {label(node)}: operator {node.op_type} of domain "
                f"{node.domain!r} is unknown; export with standard operators only"
            )
        if not onnx.defs.has(node.op_type, version):
            raise DrpAi3Error(
                f"{path}: node {label(node)}: unknown operator {node.op_type} in opset "
                f"{version}; export with standard operators only"
            )


def _load_external(path: Path, model: onnx.ModelProto) -> None:
    from onnx import external_data_helper as external

    for tensor in model.graph.initializer:
        if external.uses_external_data(tensor):
            info = external.ExternalDataInfo(tensor)
            try:
                external.load_external_data_for_tensor(tensor, str(path.parent))
            except Exception as error:  # onnx raises several kinds, none documented
                readers = [label(n) for n in model.graph.node if tensor.name in n.input]
                raise DrpAi3Error(
                    f"{path}: node {', '.join(readers[:1]) or '-'}: weight {tensor.name!r}: "
                    f"external data {info.location!r} "
                    "is missing or too short; put it beside the model"
                ) from error
            # as onnx does for a whole model: its checker refuses what is both here and elsewhere
            tensor.data_location = tensor.DEFAULT
            del tensor.external_data[:]
    if model.graph.sparse_initializer:
        name = model.graph.sparse_initializer[0].values.name
        raise DrpAi3Error(f"{path}: weight {name!r} is a sparse_initializer; store zeros densely")


def label(node: Any) -> str:
    """Name of a node for people: its own, else operator and first output."""
    return node.name or f"{node.op_type}({node.output[0] if node.output else ''})"


def fixed_model(path: Path, model: onnx.ModelProto, input_shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """A light copy with all input dimensions fixed and large weights replaced by their shape.

    It declares no outputs: shape inference then gives every tensor its shape alike.
    A dynamic first dimension of an input of rank 2 or more is the batch and becomes 1.
    `input_shapes` is by input name; the name "" serves the only input. Raises DrpAi3Error.
    """
    import onnx
    from onnx import helper

    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    dynamic = False
    known = {v.name for v in model.graph.input if v.name not in stored}
    unknown = set(input_shapes) - known - {""}
    if unknown or ("" in input_shapes and len(known) != 1):
        raise DrpAi3Error(
            f"{path}: --input-shape for {sorted(unknown) or 'one of several inputs'}; "
            f"its inputs are: {', '.join(sorted(known))}"
        )
    for value in model.graph.input:
        if value.name in stored:
            continue
        asked = input_shapes.get(value.name, input_shapes.get(""))
        shape, changed = _input_shape(path, value, asked)
        dynamic |= changed
        kind = value.type.tensor_type.elem_type
        graph.input.append(helper.make_tensor_value_info(value.name, kind, shape))
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims, dtype=np.float64)) <= SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    if not dynamic:
        graph.value_info.extend(v for v in model.graph.value_info if _static(v))
    return light


def _static(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(
        d.WhichOneof("value") == "dim_value" and d.dim_value > 0 for d in kind.shape.dim
    )


def _input_shape(path: Path, value: onnx.ValueInfoProto, asked: Sequence[int] | None) -> tuple[list[int], bool]:
    """The fixed shape of an input, and whether it was dynamic."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise DrpAi3Error(f"{path}: input {value.name!r} is no tensor; only tensors can be placed")
    remedy = f"give --input-shape {value.name}=1,3,224,224 (its own numbers)"
    if not kind.HasField("shape"):
        if asked is None:
            raise DrpAi3Error(f"{path}: input {value.name!r} has no shape; {remedy}")
        return list(asked), True
    dims = [d.dim_value if d.WhichOneof("value") == "dim_value" else 0 for d in kind.shape.dim]
    names = [d.dim_param or str(d.dim_value or "?") for d in kind.shape.dim]
    if asked is not None and len(asked) != len(dims):
        raise DrpAi3Error(
            f"{path}: input {value.name!r} is {names}; --input-shape has {len(asked)} dimensions, expected {len(dims)}"
        )
    dynamic = any(d <= 0 for d in dims)
    for axis, size in enumerate(dims):
        if asked is not None and size > 0 and asked[axis] != size:
            raise DrpAi3Error(
                f"{path}: input {value.name!r}: dimension {axis} is fixed to {size}, "
                f"--input-shape says {asked[axis]}; export it for that shape"
            )
        if size <= 0:
            if asked is not None:
                dims[axis] = asked[axis]
            elif axis == 0 and len(dims) > 1:
                dims[axis] = 1
            else:
                raise DrpAi3Error(
                    f"{path}: input {value.name!r}: dimension {axis} ({names[axis]!r}) is not fixed; {remedy}"
                )
    if any(not 0 < d <= LARGEST_DIMENSION for d in dims):
        raise DrpAi3Error(f"{path}: input {value.name!r} is {dims}; every dimension must be 1 to {LARGEST_DIMENSION}")
    return dims, dynamic
