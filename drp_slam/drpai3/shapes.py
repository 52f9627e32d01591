# SPDX-License-Identifier: Apache-2.0
"""Infers the shapes of all tensors of an ONNX network and computes constants once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.drpai3.onnx_model import OnnxModel, dims_of, is_static, label, reads, subgraphs_of
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

LARGEST_TENSOR = 1 << 31
"""Largest tensor in elements; a larger one is treated as an error of the model."""
LARGEST_CONSTANT = 1 << 27
"""Largest constant, in elements, that is computed from nodes."""
UNTYPED = "expected to have type but instead is null"
UNFOLDED = frozenset({"If", "Loop", "Scan", "DequantizeLinear", "QuantizeLinear"})


def infer(model: OnnxModel, cut: bool = True) -> None:
    """Finds shapes and types of all tensors; computes constant nodes until none remains.

    An If with a constant condition is replaced by its branch. Nodes whose shapes depend on data
    (NonMaxSuppression, NonZero and all after them) are cut off and their inputs become outputs
    (unless `cut` is False). Raises DrpAi3Error that names the node.
    """
    import onnx

    while True:
        light = model.light()
        try:
            onnx.checker.check_model(light)
        except Exception as error:  # ValidationError, and C++ exceptions on damaged models
            lines = str(error).strip().splitlines() or ["damaged"]
            raise DrpAi3Error(f"{model.path}: invalid model: {lines[0]}; export it again") from error
        light = _inferred(model, light)
        _note_shapes(model, light)
        if _fold_constants(model) or _take_branches(model):
            # infer again what was unknown before folding
            made = {out for node in model.nodes for out in node.output}
            model.hints = [
                v for v in light.graph.value_info if v.name in made and v.type.tensor_type.elem_type and _known(v)
            ]
            continue
        if not cut or not _cut_off(model):
            return


def _inferred(model: OnnxModel, light: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
    except Exception as error:  # InferenceError, and C++ exceptions on damaged models
        reason = (str(error).strip().splitlines() or ["damaged"])[-1]
        if UNTYPED in reason:
            # after an operator that onnx cannot infer; the lenient mode leaves such shapes open
            return onnx.shape_inference.infer_shapes(light, strict_mode=False, data_prop=True)
        raise DrpAi3Error(f"{model.path}: shape inference: {reason}; fix the node or give --input-shape") from error


def _known(value: onnx.ValueInfoProto) -> bool:
    return is_static(dims_of(value))


def _note_shapes(model: OnnxModel, light: onnx.ModelProto) -> None:
    """Sets shapes and types from the result of inference, and of constants."""
    model.shapes, model.types = {}, {}
    for value in (*light.graph.value_info, *light.graph.input):
        dims = dims_of(value)
        if dims is not None and is_static(dims):
            model.shapes[value.name] = dims
        if value.type.tensor_type.elem_type:
            model.types[value.name] = value.type.tensor_type.elem_type
    for name, stored in model.constants.items():
        model.shapes[name] = tuple(stored.shape if isinstance(stored, np.ndarray) else stored.dims)
        if not isinstance(stored, np.ndarray):
            model.types[name] = stored.data_type


def _fold_constants(model: OnnxModel) -> bool:
    """Folds constant nodes (and Shape of known shapes); True if more shapes can now be inferred."""
    from onnx import helper

    kept = []
    pinned = {o.name for o in model.outputs}
    used = {name for node in model.nodes for name in reads(node)} | pinned
    for node in model.nodes:
        values: Any = None
        if node.op_type == "Shape" and node.input[0] in model.shapes:
            start = next((a.i for a in node.attribute if a.name == "start"), 0)
            end = next((a.i for a in node.attribute if a.name == "end"), None)
            values = [np.array(model.shapes[node.input[0]][start:end], np.int64)]
        elif node.op_type == "Size" and node.input[0] in model.shapes:
            values = [np.array(math.prod(model.shapes[node.input[0]]), np.int64)]
        elif (
            node.op_type not in UNFOLDED
            and node.domain in ("", "ai.onnx")
            and not node.op_type.startswith("Random")
            and all(not i or i in model.constants for i in node.input)
        ):
            values = _computed(model, node, used)
        if values is None or any(not isinstance(v, np.ndarray | np.generic) for v in values):
            kept.append(node)
            continue
        for name, value in zip(node.output, values):
            model.constants[name] = array = np.asarray(value)
            model.shapes[name] = array.shape
            model.types[name] = helper.np_dtype_to_tensor_dtype(array.dtype)
    folded = len(kept) < len(model.nodes)
    model.nodes = kept
    return folded


def _computed(model: OnnxModel, node: onnx.NodeProto, used: set[str]) -> Any:
    """Outputs of a node whose inputs are constants. Raises DrpAi3Error."""
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
        try:
            return [numpy_helper.to_array(node.attribute[0].t)]
        except (ValueError, TypeError, KeyError) as error:
            raise DrpAi3Error(f"{model.path}: node {label(node)}: its data does not fill its shape") from error
    for out in node.output:
        if math.prod(model.shapes.get(out, ())) > LARGEST_CONSTANT:
            raise DrpAi3Error(
                f"{model.path}: node {label(node)}: a constant of shape {list(model.shapes[out])} has more than "
                f"{LARGEST_CONSTANT} elements; check the model"
            )
    while len(node.output) > 1 and node.output[-1] not in used:
        del node.output[-1]  # statistics of a batch norm, which few evaluators give
    try:
        feeds = {i: model.array(i) for i in node.input if i}
        with np.errstate(all="ignore"):
            return ReferenceEvaluator(node, opsets=model.opsets).run(None, feeds)
    except Exception as error:  # the reference raises errors of numpy
        reason = " ".join(str(error).split())[:200]
        raise DrpAi3Error(
            f"{model.path}: node {label(node)}: constant {node.op_type} cannot be "
            f"computed: {reason}; simplify the model"
        ) from error


def _take_branches(model: OnnxModel) -> bool:
    """Replaces each If with a constant condition by its branch."""
    out, found = [], False
    for n, node in enumerate(model.nodes):
        if node.op_type != "If" or node.input[0] not in model.constants:
            out.append(node)
            continue
        taken = "then_branch" if model.array(node.input[0]).all() else "else_branch"
        body = next((a.g for a in node.attribute if a.name == taken), None)
        if body is None or len(body.output) != len(node.output):
            raise DrpAi3Error(f"{model.path}: node {label(node)}: has no {taken} for its outputs; export it again")
        found = True
        out += _unpacked(model, body, f"{label(node)}/{n}/", list(node.output))
    if found:
        model.nodes = out
    return found


def _unpacked(model: OnnxModel, body: onnx.GraphProto, prefix: str, results: list[str]) -> list[onnx.NodeProto]:
    """Nodes of a body with their own tensors renamed, and its results under the given names."""
    from onnx import helper

    names = {t.name: prefix + t.name for t in body.initializer}
    names |= {o: prefix + o for node in body.node for o in node.output if o}
    for tensor in body.initializer:
        model.constants[names[tensor.name]] = twin = type(tensor)()
        twin.CopyFrom(tensor)
        twin.name = names[tensor.name]
    nodes = []
    for inner in body.node:
        node = type(inner)()
        node.CopyFrom(inner)
        rename_inputs(node, names)
        node.output[:] = [names.get(o, o) for o in inner.output]
        node.name = prefix + inner.name if inner.name else ""
        nodes.append(node)
    for value, name in zip(body.output, results):
        nodes.append(helper.make_node("Identity", [names.get(value.name, value.name)], [name]))
    return nodes


def rename_inputs(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Inputs of a node, and outside values that its bodies read, under their new names."""
    node.input[:] = [names.get(i, i) for i in node.input]
    for body in subgraphs_of(node):
        own = {v.name for v in body.input} | {t.name for t in body.initializer}
        own |= {o for inner in body.node for o in inner.output}
        outer = {k: v for k, v in names.items() if k not in own}
        for inner in body.node:
            rename_inputs(inner, outer)
        for value in body.output:
            value.name = outer.get(value.name, value.name)


def _cut_off(model: OnnxModel) -> bool:
    """Cuts off the nodes whose results have no static shape, and all nodes after them."""
    from onnx import helper

    late: dict[str, str] = {}
    kept, cut = [], []
    for node in model.nodes:
        behind = next((late[name] for name in reads(node) if name in late), "")
        open_ends = [o for o in node.output if o and o not in model.shapes]
        if behind or open_ends:
            late |= {o: behind or label(node) for o in node.output if o}
            cut.append(node)
        else:
            kept.append(node)
    if not cut:
        return False
    first = cut[0]
    if not kept:
        unknown = f"operator {first.op_type} of domain {first.domain!r} is unknown: " if first.domain else ""
        raise DrpAi3Error(
            f"{model.path}: node {label(first)}: {unknown}the shape of its output {first.output[0]!r} "
            "cannot be inferred; give --input-shape or export with standard operators of static shape"
        )
    made = {o for node in kept for o in node.output if o}
    borders = [o for o in model.outputs if o.name not in late]
    ends = {name for node in cut for name in reads(node) if name in made} - {o.name for o in borders}
    borders += [helper.make_tensor_value_info(n, model.types[n], model.shapes[n]) for n in sorted(ends)]
    model.nodes, model.outputs = kept, borders
    model.nodes = needed(model)
    if not model.nodes or not borders:
        raise DrpAi3Error(
            f"{model.path}: node {label(first)}: the shape of its output {first.output[0]!r} "
            "cannot be inferred, and it depends on constants only; give --input-shape"
        )
    model.cut += cut
    return True


def needed(model: OnnxModel) -> list[onnx.NodeProto]:
    """The nodes that an output depends on, in order."""
    wanted = {o.name for o in model.outputs}
    kept = []
    for node in reversed(model.nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(reads(node))
    return kept[::-1]


def check_sizes(model: OnnxModel) -> None:
    """Raises DrpAi3Error for an implausibly large tensor."""
    for node in model.nodes:
        for name in node.output:
            if name and math.prod(model.shapes[name]) > LARGEST_TENSOR:
                raise DrpAi3Error(
                    f"{model.path}: node {label(node)}: output of shape {list(model.shapes[name])} "
                    f"has more than {LARGEST_TENSOR} elements; check --input-shape"
                )
