# SPDX-License-Identifier: Apache-2.0
"""The bodies of If, Loop and Scan: their graphs, and how often each runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drp_slam.drpai3.onnx_model import OnnxModel, Shape, in_order, reads, subgraphs_of
from drp_slam.drpai3.shapes import infer
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx


AsGraph = Callable[[OnnxModel, str], Any]


@dataclass(frozen=True)
class Body:
    """Branches of an If (`times` 1), or the body of a Loop or Scan and how often it runs.

    `graphs` are `graph.Graph`. `unknown` is why the number of passes, or a shape inside, is unknown.
    """

    graphs: tuple[Any, ...]
    times: int = 1
    unknown: str = ""


def resolve(model: OnnxModel) -> None:
    """Infers a model; if onnx finds no shape for an If's result, it gets the shape of the larger branch.

    Raises DrpAi3Error as `shapes.infer` does.
    """
    while any(node.op_type == "If" for node in model.nodes):
        infer(model, cut=False)
        if not _settle(model):
            break
    infer(model)


def _settle(model: OnnxModel) -> bool:
    """Sets unknown shapes of results of Ifs; True if any was found."""
    from onnx import helper

    found = False
    for node in model.nodes:
        if node.op_type != "If" or all(o in model.shapes for o in node.output):
            continue
        inside = []
        for body in subgraphs_of(node):
            with suppress(DrpAi3Error):  # a branch for inputs of another shape, or whose shapes depend on data
                inside.append((_inner(model, body, []), body))
        for n, name in enumerate(node.output):
            ends = [(inner, body.output[n].name) for inner, body in inside if n < len(body.output)]
            known = [(inner.shapes[end], inner.types.get(end, 1)) for inner, end in ends if end in inner.shapes]
            if known and name not in model.shapes:
                shape, kind = max(known, key=lambda pair: math.prod(pair[0]))
                model.hints.append(helper.make_tensor_value_info(name, kind, shape))
                found = True
    return found


def bodies(model: OnnxModel, as_graph: AsGraph) -> dict[str, Body]:
    """The bodies of a model's control flow, by the first output of their node."""
    return {node.output[0]: _body(model, node, as_graph) for node in model.nodes if subgraphs_of(node)}


def _body(model: OnnxModel, node: onnx.NodeProto, as_graph: AsGraph) -> Body:
    def inside(body: onnx.GraphProto, shapes: Sequence[Shape]) -> Any:
        inner = _inner(model, body, shapes)
        return as_graph(inner, inner.name)

    try:
        match node.op_type:
            case "If":
                return Body(tuple(inside(body, []) for body in subgraphs_of(node)))
            case "Loop":
                return _loop(model, node, inside)
            case "Scan":
                return _scan(model, node, inside)
    except DrpAi3Error as error:  # a shape inside that depends on data
        return Body((), unknown=str(error).removeprefix(f"{model.path}: "))
    return Body((), unknown=f"the body of {node.op_type} is not known")


def _loop(model: OnnxModel, node: onnx.NodeProto, inside: Callable[..., Any]) -> Body:
    """A Loop of a constant number of passes without early exit."""
    (body,) = subgraphs_of(node)
    inner = inside(body, [(), (), *(model.shapes[name] for name in node.input[2:])])
    if not node.input[0] or node.input[0] not in model.constants:
        return Body((inner,), unknown="the number of passes of its Loop depends on data")
    makers = {o: n for n in body.node for o in n.output}
    going = body.output[0].name
    while going in makers and makers[going].op_type == "Identity":
        going = makers[going].input[0]
    kept = going == body.input[1].name or makers.get(going, node).op_type == "Constant"
    kept |= going in {t.name for t in body.initializer} | set(model.constants)
    times = max(int(model.array(node.input[0]).ravel()[0]), 0)
    return Body((inner,), times, "" if kept else f"its Loop may end before {times} passes")


def _scan(model: OnnxModel, node: onnx.NodeProto, inside: Callable[..., Any]) -> Body:
    """A Scan over the first axis (or the stated ones) of its scan inputs."""
    (body,) = subgraphs_of(node)
    count = next(a.i for a in node.attribute if a.name == "num_scan_inputs")
    axes = next((list(a.ints) for a in node.attribute if a.name == "scan_input_axes"), [0] * count)
    shapes, times = [model.shapes[name] for name in node.input], 1
    for n, axis in enumerate(axes, len(shapes) - count):
        shape = list(shapes[n])
        times = shape.pop(axis)
        shapes[n] = tuple(shape)
    return Body((inside(body, shapes),), times)


def _inner(model: OnnxModel, body: onnx.GraphProto, shapes: Sequence[Shape]) -> OnnxModel:
    """A body as an inferred model; values from outside become inputs or constants."""
    from onnx import helper

    inputs = [
        helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type or 1, shape)
        for value, shape in zip(body.input, shapes)
    ]
    constants = {**model.constants, **{t.name: t for t in body.initializer}}
    known = {v.name for v in inputs}
    made = {o for node in body.node for o in node.output}
    outer = {name for node in body.node for name in reads(node)} | {o.name for o in body.output}
    for name in sorted(outer - made - known - set(constants)):
        if name not in model.shapes:
            raise DrpAi3Error(f"{model.path}: body {body.name}: the shape of {name!r} is not known")
        inputs.append(helper.make_tensor_value_info(name, model.types.get(name, 1), model.shapes[name]))
    nodes = in_order(model.path, enumerate(body.node), {v.name for v in inputs} | set(constants))
    outputs = [o for o in body.output if o.name in made]
    inner = OnnxModel(
        model.path, body.name or "body", model.ir_version, model.opsets, nodes, inputs, outputs, constants
    )
    if nodes:
        resolve(inner)
    return inner
