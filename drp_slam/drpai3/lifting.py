# SPDX-License-Identifier: Apache-2.0
"""Lifts a model to the opset that the rest of the package supports and expands foreign operators.

Covers what onnxruntime writes: fused operators of an optimised file (FusedConv, FusedGemm, FusedMatMul,
Gelu and similar, SkipLayerNormalization) and the QOperator form (QLinearConv ...), which becomes QDQ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from drp_slam.drpai3.fused_operators import FUSED, SPELLED_OUT
from drp_slam.drpai3.node_writer import Writer
from drp_slam.drpai3.onnx_model import OnnxModel, in_order, label
from drp_slam.drpai3.quantised_operators import QUANTISED, QUANTISED_STANDARD
from drp_slam.drpai3.shapes import infer
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

OPSET = 13
"""Older models are converted to it; since this opset, axes are inputs and weights can be quantised per channel."""
FOREIGN = "com.microsoft"
OTHER_LAYOUTS = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Domains of files that onnxruntime optimised for the layout of one processor."""


def lift(model: OnnxModel) -> None:
    """Converts the model in place to at least opset 13 and expands foreign operators into standard ones.

    Raises DrpAi3Error if onnx cannot convert an operator.
    """
    turned = next((node for node in model.nodes if node.domain in OTHER_LAYOUTS), None)
    if turned is not None:
        raise DrpAi3Error(
            f"{model.path}: node {label(turned)}: optimised by onnxruntime for the layout of one processor "
            f"({turned.domain}); give the model before optimisation, or save it with ORT_ENABLE_EXTENDED"
        )
    if 0 < model.opset < OPSET:
        _convert(model)
    table = FUSED | QUANTISED
    while any(node.domain == FOREIGN for node in model.nodes):
        infer(model, cut=False)  # some need the rank of their inputs, or computed scales
        if not _written(model, lambda node: table.get(node.op_type) if node.domain == FOREIGN else None):
            return


def spell_out(model: OnnxModel) -> bool:
    """Expands operators of newer opsets into older ones; True if there were any."""
    table = SPELLED_OUT | QUANTISED_STANDARD
    return _written(model, lambda node: table.get(node.op_type) if node.domain in ("", "ai.onnx") else None)


def _written(model: OnnxModel, writer_of: Callable[[Any], Any]) -> bool:
    out: list[onnx.NodeProto] = []
    changed = False
    for node in model.nodes:
        writer = writer_of(node)
        try:
            written = writer(Writer(model, node)) if writer else None
        except KeyError:  # a scale or a size that is no constant
            written = None
        changed |= written is not None
        out += [node] if written is None else written
    model.nodes = out
    return changed


def _convert(model: OnnxModel) -> None:
    from onnx import version_converter

    light = model.light()
    try:
        lifted = version_converter.convert_version(light, OPSET)
    except Exception as error:  # C++ exceptions for operators that cannot be converted
        lines = [line for line in str(error).strip().splitlines() if line.strip()] or ["damaged"]
        raise DrpAi3Error(
            f"{model.path}: opset {model.opset} cannot be lifted to {OPSET}: {lines[-1][:200]}; export for {OPSET}"
        ) from error
    model.opsets[""] = OPSET
    inputs = {v.name for v in lifted.graph.input}
    for tensor in lifted.graph.initializer:
        model.constants.setdefault(tensor.name, tensor)
    model.nodes = in_order(model.path, enumerate(lifted.graph.node), inputs | set(model.constants))
    made = {o for node in model.nodes for o in node.output}
    lost = [o.name for o in model.outputs if o.name not in made | inputs | set(model.constants)]
    if lost:
        raise DrpAi3Error(f"{model.path}: output {lost[0]!r} is produced by no node; export it again")
