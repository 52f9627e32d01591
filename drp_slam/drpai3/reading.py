# SPDX-License-Identifier: Apache-2.0
"""Reads an ONNX file and fixes every input dimension; errors are one line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drp_slam.drpai3.onnx_model import OnnxModel, dims_of, in_order, is_static, label, subgraphs_of
from drp_slam.errors import DrpAi3Error
from drp_slam.resources import read_gzip, read_regular

if TYPE_CHECKING:
    import onnx

LARGEST_DIMENSION = 1 << 24
LARGEST_FILE = (1 << 31) - 1
"""Bytes that protobuf can read; larger weights are in files beside the model."""
LARGEST_UNPACKED = 1 << 29
"""Bytes that a packed model may have: a small file may expand to any size."""
CONTROL = re.compile("[\x00-\x1f]")
MOST_NODES = 1_000_000
"""Largest number of nodes after inlining; functions that call functions can grow without bound."""


def read_model(path: Path) -> onnx.ModelProto:
    """The model in `path` (`.onnx` or `.onnx.gz`), functions inlined and external weights loaded.

    Raises DrpAi3Error for a file that is missing, no ONNX, truncated, newer than the installed
    onnx, or whose external data is missing, too short or outside the model's folder.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(_bytes(path))
    except (DecodeError, ValueError) as error:
        raise DrpAi3Error(f"{path}: not an ONNX file, or truncated; export it again") from error
    if not model.graph.node or not model.graph.output:
        raise DrpAi3Error(
            f"{path}: not an ONNX network: it has {len(model.graph.node)} nodes and "
            f"{len(model.graph.output)} outputs; export it again"
        )
    _check_text(path, model)
    if model.functions:
        model = _inlined(path, model)
    _check_operators(path, model)
    _load_external(path, model)
    return model


def _bytes(path: Path) -> bytes:
    """The file, unpacked."""
    remedy = "give an .onnx or .onnx.gz file"
    if path.suffix == ".gz":
        return read_gzip(path, LARGEST_UNPACKED, DrpAi3Error, remedy)
    return read_regular(path, LARGEST_FILE, DrpAi3Error, remedy)


def _check_text(path: Path, model: onnx.ModelProto) -> None:
    """Reads all names: in a damaged file they may not be UTF-8, which protobuf reports only on access."""
    try:
        graphs = [model.graph]
        texts = [o.domain for o in model.opset_import]
        for function in model.functions:
            texts += [function.name, function.domain, *function.input, *function.output]
        while graphs:
            graph = graphs.pop()
            texts.append(graph.name)
            for node in graph.node:
                texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
                texts += [attribute.name for attribute in node.attribute]
                graphs += subgraphs_of(node)
            for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
                texts.append(named.name)
        broken = any(not isinstance(text, str) or CONTROL.search(text) for text in texts)
    except UnicodeDecodeError:
        broken = True
    if broken:
        raise DrpAi3Error(f"{path}: damaged: a name in it is not text; export it again")


def _inlined(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own; their expanded size is counted first."""
    from onnx import inliner

    bodies = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Sequence[onnx.NodeProto], inside: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            total += 1 + sum(size(body.node, inside) for body in subgraphs_of(node))
            if key not in bodies:
                continue
            if key in inside:
                raise DrpAi3Error(f"{path}: function {node.op_type} calls itself; export without model functions")
            if key not in sizes:
                sizes[key] = size(bodies[key].node, (*inside, key))
            total += sizes[key]
        return total

    nodes = size(model.graph.node, ())
    if nodes > MOST_NODES:
        raise DrpAi3Error(
            f"{path}: its functions expand to {nodes:.3g} nodes, the limit is {MOST_NODES}; export without functions"
        )
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # C++ exceptions on damaged models
        reason = (str(error).strip().splitlines() or ["damaged"])[-1]
        raise DrpAi3Error(f"{path}: its functions cannot be inlined: {reason}; export it again") from error


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    import onnx

    versions = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    version, newest = versions.get("", 0), onnx.defs.onnx_opset_version()
    standard = [n for n in model.graph.node if n.domain in ("", "ai.onnx")]
    if version > newest or (standard and version < 1):
        raise DrpAi3Error(
            f"{path}: opset {version}, expected 1 to {newest}; install a newer onnx or export for an older opset"
        )
    for node in standard:
        if not onnx.defs.has(node.op_type, version):
            raise DrpAi3Error(
                f"{path}: node {label(node)}: unknown operator {node.op_type} in opset "
                f"{version}; export with standard operators only"
            )


def _load_external(path: Path, model: onnx.ModelProto) -> None:
    from onnx import external_data_helper as external

    for tensor in model.graph.initializer:
        if external.uses_external_data(tensor):
            where = ""
            try:
                info = external.ExternalDataInfo(tensor)
                where = info.location
                if (info.offset or 0) < 0 or (info.length or 0) < 0:
                    raise ValueError("negative offset or length")
                external.load_external_data_for_tensor(tensor, str(path.parent))
            except Exception as error:  # onnx raises several undocumented types
                readers = [label(n) for n in model.graph.node if tensor.name in n.input]
                raise DrpAi3Error(
                    f"{path}: node {', '.join(readers[:1]) or '-'}: weight {tensor.name!r}: external data {where!r} "
                    "is missing, too short or outside the model's folder; put it beside the model as a plain file"
                ) from error
            # as onnx does for a whole model: its checker refuses data that is both inline and external
            tensor.data_location = tensor.DEFAULT
            del tensor.external_data[:]
    if model.graph.sparse_initializer:
        name = model.graph.sparse_initializer[0].values.name
        raise DrpAi3Error(f"{path}: weight {name!r} is a sparse_initializer; store zeros densely")


def fixed_model(
    path: Path,
    model: onnx.ModelProto,
    input_shapes: Mapping[str, Sequence[int]],
    dims: Mapping[str, int],
    batch_of_one: bool = False,
) -> OnnxModel:
    """The model taken apart, all input dimensions fixed, nodes in order.

    `input_shapes` is by input name; the name "" serves the only input. `dims` has sizes of named
    dynamic dimensions, the name "" to all others; without it, the first dimension of an input of
    rank 2 or more is the batch and becomes 1; with `batch_of_one` a fixed one does, too. Raises DrpAi3Error.
    """
    from onnx import helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    entries = [v for v in model.graph.input if v.name not in stored]
    known = {v.name for v in entries}
    unknown = set(input_shapes) - known - {""}
    if unknown or ("" in input_shapes and len(known) != 1):
        raise DrpAi3Error(
            f"{path}: --input-shape for {sorted(unknown) or 'one of several inputs'}; "
            f"its inputs are: {', '.join(sorted(known))}"
        )
    inputs, dynamic = [], False
    for value in entries:
        if batch_of_one and len(value.type.tensor_type.shape.dim) > 1:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        shape, changed = _input_shape(path, value, input_shapes.get(value.name, input_shapes.get("")), dims)
        dynamic |= changed
        inputs.append(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))
    stated = () if dynamic else (*model.graph.value_info, *model.graph.output)
    hints = {v.name: v for v in stated if v.name not in known | set(stored) and _static(v)}
    nodes = in_order(path, enumerate(model.graph.node), known | set(stored))
    made = {o for node in nodes for o in node.output} | known | set(stored)
    for value in model.graph.output:
        if value.name not in made:
            raise DrpAi3Error(f"{path}: output {value.name!r} is produced by no node; export it again")
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    return OnnxModel(
        path,
        model.graph.name or "graph",
        model.ir_version,
        opsets,
        nodes,
        inputs,
        list(model.graph.output),
        dict(stored),
        list(hints.values()),
    )


def _static(value: onnx.ValueInfoProto) -> bool:
    dims = dims_of(value)
    return dims is not None and is_static(dims) and 0 not in dims


def _input_shape(
    path: Path, value: onnx.ValueInfoProto, asked: Sequence[int] | None, sizes: Mapping[str, int]
) -> tuple[list[int], bool]:
    """The fixed shape of an input, and whether it was dynamic."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise DrpAi3Error(f"{path}: input {value.name!r} is not a tensor; only tensors can be placed")
    usual = (1, 3, 224, 224)
    known = [d.dim_value or usual[min(k, 3)] for k, d in enumerate(kind.shape.dim)] or usual
    remedy = f"give --input-shape {value.name}={','.join(map(str, known))} (its own numbers), or --dim"
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
            elif names[axis] in sizes:
                dims[axis] = sizes[names[axis]]
            elif axis == 0 and len(dims) > 1:
                dims[axis] = 1
            elif "" in sizes:
                dims[axis] = sizes[""]
            else:
                raise DrpAi3Error(
                    f"{path}: input {value.name!r}: dimension {axis} ({names[axis]!r}) is not fixed; {remedy}"
                )
    if any(not 0 < d <= LARGEST_DIMENSION for d in dims) or np.prod(dims, dtype=float) > 2**31:
        raise DrpAi3Error(
            f"{path}: input {value.name!r} is {dims}; every dimension must be 1 to {LARGEST_DIMENSION}, "
            "and all of it at most 2^31 elements"
        )
    return dims, dynamic
