# SPDX-License-Identifier: Apache-2.0
"""Normalises Relu, Clip, hard-sigmoid and hard-swish to one form each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drp_slam.drpai3.rewriter import Rewriter

if TYPE_CHECKING:
    import onnx

CLOSE = 1e-5
"""Relative tolerance when a constant such as 1/6 is compared with its exact value."""


def _bounds(r: Rewriter, node: onnx.NodeProto) -> tuple[str, float, float] | None:
    """Source and bounds of a Relu, Clip, or Max or Min with a number."""
    low, high = -np.inf, np.inf
    if node.op_type == "Relu":
        return node.input[0], 0.0, high
    if node.op_type == "Clip":
        ends = []
        for n, default in ((1, low), (2, high)):
            given = node.input[n] if len(node.input) > n else ""
            value = r.scalar(given) if given else default
            if value is None:
                return None
            ends.append(value)
        return node.input[0], ends[0], ends[1]
    if len(node.input) != 2:
        return None
    for source, bound in (tuple(node.input), tuple(node.input)[::-1]):
        value = r.scalar(bound)
        if value is not None and source not in r.model.constants and r.shape(source) == r.shape(node.output[0]):
            return (source, value, high) if node.op_type == "Max" else (source, low, value)
    return None


def one_clip(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Max, Min, Relu and Clip, alone or in a row: one Relu or one Clip."""
    found = _bounds(r, node)
    if found is None:
        return False
    source, low, high = found
    olds = [node]
    before = r.only(source, node, "Relu", "Clip", "Max", "Min")
    first = _bounds(r, before) if before is not None else None
    if before is not None and first is not None:
        source = first[0]
        low, high = min(max(low, first[1]), high), max(min(high, first[2]), low)
        olds = [before, node]
    out = node.output[0]
    if low == 0 and high >= np.finfo(np.float32).max:
        return (len(olds) > 1 or node.op_type != "Relu") and r.replace(olds, [r.node("Relu", [source], out, node)])
    if len(olds) == 1 and node.op_type in ("Relu", "Clip"):
        return False
    kind = np.float16 if r.model.types.get(source) == 10 else np.float32
    if r.model.types.get(source) not in (1, 10):
        return False
    ends = [r.constant(out, v, kind) if np.isfinite(v) else "" for v in (low, high)]
    return r.replace(olds, [r.node("Clip", [source, *ends], out, node)])


def _factor(r: Rewriter, node: onnx.NodeProto | None) -> tuple[str, float] | None:
    """(source, k) where the node is its source times, or divided by, one number."""
    if node is None or node.op_type not in ("Mul", "Div") or len(node.input) != 2:
        return None
    for source, other in (tuple(node.input), tuple(node.input)[::-1]):
        value = r.scalar(other)
        if value and source not in r.model.constants and r.shape(source) == r.shape(node.output[0]):
            if node.op_type == "Mul":
                return source, value
            return (source, 1.0 / value) if source == node.input[0] else None
    return None


def _ramp(r: Rewriter, name: str, reader: onnx.NodeProto) -> tuple[list[onnx.NodeProto], str, float, float] | None:
    """Clip(x + b, 0, high), only for `reader`: its nodes, x, b and high."""
    clip = r.only(name, reader, "Clip")
    found = _bounds(r, clip) if clip is not None else None
    if clip is None or found is None or found[1] != 0 or not 0 < found[2] < np.inf:
        return None
    add = r.only(found[0], clip, "Add")
    if add is None:
        return None
    for source, other in (tuple(add.input), tuple(add.input)[::-1]):
        value = r.scalar(other)
        if value is not None and source not in r.model.constants and r.shape(source) == r.shape(add.output[0]):
            return [add, clip], source, value, found[2]
    return None


def hard_sigmoid(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Clip(x + 3, 0, 6) / 6, and x * Clip(x + 3, 0, 6) / 6 in any order of its factors."""
    scaled = _factor(r, node)
    if scaled is None:
        return _scaled_gate(r, node)
    source, k = scaled
    ramp = _ramp(r, source, node)
    if ramp is not None:
        nodes, x, b, high = ramp
        if abs(high * k - 1) > CLOSE:
            return False
        new = r.node("HardSigmoid", [x], node.output[0], node, alpha=k, beta=b * k)
        return r.replace([*nodes, node], [new])
    product = r.only(source, node, "Mul")
    return product is not None and _gated(r, product, [product, node], k)


def _scaled_gate(r: Rewriter, node: onnx.NodeProto) -> bool:
    """(x / 6) * Clip(x + 3, 0, 6)."""
    if node.op_type != "Mul":
        return False
    for side in (0, 1):
        maker = r.only(node.input[side], node, "Mul", "Div")
        scaled = _factor(r, maker)
        if maker is not None and scaled is not None and _gated(r, node, [maker, node], scaled[1], side, scaled[0]):
            return True
    return False


def _gated(
    r: Rewriter, product: onnx.NodeProto, olds: list[onnx.NodeProto], k: float, side: int = -1, factor: str = ""
) -> bool:
    """A product with Clip(x + b, 0, high), times k: a product with HardSigmoid if high * k is 1."""
    for n in (0, 1):
        ramp = _ramp(r, product.input[n], product) if n != side else None
        if ramp is None:
            continue
        nodes, x, b, high = ramp
        if abs(high * k - 1) > CLOSE:
            continue
        out = olds[-1].output[0]
        gate = r.fresh(f"{out}/gate")
        r.model.shapes[gate] = r.shape(x)
        return r.replace(
            [*nodes, *olds],
            [
                r.node("HardSigmoid", [x], gate, nodes[-1], alpha=k, beta=b * k),
                r.node("Mul", [factor or product.input[1 - n], gate], out, olds[-1]),
            ],
        )
    return False
