# SPDX-License-Identifier: Apache-2.0
"""Rewrites networks to one canonical form, so that the estimate does not depend on the exporter.

Every rewrite preserves the network's outputs up to rounding. The result uses the forms that placement
knows: folded matrix layers, Relu and Clip, x * HardSigmoid(x), x * Sigmoid(x), Add and Split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drp_slam.drpai3 import affine
from drp_slam.drpai3.activations import hard_sigmoid, one_clip
from drp_slam.drpai3.onnx_model import OnnxModel
from drp_slam.drpai3.rewriter import Rewriter, Rule, attribute
from drp_slam.drpai3.shapes import needed

if TYPE_CHECKING:
    import onnx

VIEWS = ("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Cast", "Transpose", "Slice")


def normalise(model: OnnxModel) -> bool:
    """Rewrites an inferred model in place; True if the caller has to infer it again."""
    rewriter, before = Rewriter(model), len(model.nodes)
    changed = rewriter.apply(FORMS)
    changed |= rewriter.apply(affine.RULES)
    model.nodes = needed(model)
    return changed or len(model.nodes) < before


def _drop(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Drops a node that returns its input unchanged."""
    source, out = (node.input[0] if node.input else ""), node.output[0]
    if not source or any(node.output[1:]) or source in r.model.constants:
        return False
    same = r.shape(source) == r.shape(out) and out in r.model.shapes
    match node.op_type:
        case "Identity":
            idle = True
        case "Dropout":
            training = node.input[2] if len(node.input) > 2 else ""
            value = r.array(training) if training else None
            idle = not training or (value is not None and not value.any())
        case "Cast":
            idle = r.model.types.get(source) == attribute(node, "to")
        case "Transpose":
            rank = len(r.shape(source))
            idle = same and list(attribute(node, "perm", range(rank)[::-1])) == list(range(rank))
        case "Slice":
            steps = r.array(node.input[4]) if len(node.input) > 4 and node.input[4] else np.ones(1)
            idle = same and steps is not None and bool((steps > 0).all())
        case _:
            idle = same
    return idle and r.alias(node, source)


def _single(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Drops Concat, Sum, Max, Min or Mean of one tensor, and a Split into one part."""
    inputs = [i for i in node.input if i]
    one = len(node.output) == 1 if node.op_type == "Split" else len(inputs) == 1
    return one and node.input[0] not in r.model.constants and r.alias(node, node.input[0])


def _sum(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Replaces a Sum of two or more tensors by a chain of additions."""
    if len(node.input) < 2:
        return False
    value, news = node.input[0], []
    for n, other in enumerate(node.input[1:]):
        out = node.output[0] if n == len(node.input) - 2 else r.fresh(f"{node.output[0]}/sum{n}")
        r.model.shapes.setdefault(out, np.broadcast_shapes(r.shape(value), r.shape(other)))
        news.append(r.node("Add", [value, other], out, node))
        value = out
    return r.replace([node], news)


def _dequantised_product(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Replaces ConvInteger or MatMulInteger of a dynamically quantised tensor, times both scales, by the
    product of the dequantised tensors, which is the same number."""
    for side in (0, 1):
        cast = r.only(node.input[side], node, "Cast")
        product = r.only(cast.input[0], cast, "ConvInteger", "MatMulInteger") if cast is not None else None
        scales = r.only(node.input[1 - side], node, "Mul")
        if cast is None or product is None or scales is None or len(product.input) < 3:
            continue
        source = r.maker.get(product.input[0])
        if source is None or source.op_type != "DynamicQuantizeLinear" or product.input[2] != source.output[2]:
            continue
        weight_scale = [i for i in scales.input if i in r.model.constants]
        if len(weight_scale) != 1 or source.output[1] not in scales.input or product.input[1] not in r.model.constants:
            continue
        axis = 0 if product.op_type == "ConvInteger" else -1
        scale = r.model.array(weight_scale[0])
        flat = r.constant(node.output[0], scale.reshape(-1 if scale.size > 1 else ()))
        x, w = r.fresh(f"{product.output[0]}/x"), r.fresh(f"{product.output[0]}/w")
        for name, like in ((x, product.input[0]), (w, product.input[1])):
            r.model.shapes[name], r.model.types[name] = r.shape(like), 1
        rest = [product.input[3]] if len(product.input) > 3 else []
        op = product.op_type.removesuffix("Integer")
        names = {a.name: attribute(product, a.name) for a in product.attribute}
        return r.replace(
            [product, cast, scales, node],
            [
                r.node("DequantizeLinear", [product.input[0], source.output[1], source.output[2]], x, cast),
                r.node("DequantizeLinear", [product.input[1], flat, *rest], w, scales, axis=axis),
                r.node(op, [x, w], node.output[0], product, **names),
            ],
        )
    return False


def _slices(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Replaces Slices that together cover a tensor by one Split."""
    source = node.input[0]
    if source in r.model.constants or r.model.opset < 13:
        return False
    found = [(cut, n) for n in r.readers[source] if n.op_type == "Slice" and (cut := _cut(r, n)) is not None]
    found.sort(key=lambda pair: pair[0])
    axes = {cut[0] for cut, _ in found}
    if len(found) < 2 or len(axes) != 1:
        return False
    (axis,) = axes
    edges = [0, *(cut[2] for cut, _ in found)]
    if edges[-1] != r.shape(source)[axis] or any(cut[1] != edge for (cut, _), edge in zip(found, edges)):
        return False
    sizes = r.constant(node.output[0], [cut[2] - cut[1] for cut, _ in found], np.int64)
    cuts = [n for _, n in found]
    new = r.node("Split", [source, sizes], cuts[0].output[0], cuts[0], axis=axis)
    new.output[:] = [n.output[0] for n in cuts]
    return r.replace(cuts, [new])


def _cut(r: Rewriter, node: onnx.NodeProto) -> tuple[int, int, int] | None:
    """Axis, start and end of a Slice along one axis with step 1."""
    parts = [r.array(i) if i else None for i in node.input[1:5]]
    if len(parts) < 2 or any(p is None or p.size != 1 for p in parts[:2]):
        return None
    shape = r.shape(node.input[0])
    axes = parts[2] if len(parts) > 2 else np.zeros(1, np.int64)
    steps = parts[3] if len(parts) > 3 else np.ones(1, np.int64)
    if not shape or axes is None or axes.size != 1 or steps is None or int(steps.ravel()[0]) != 1:
        return None
    axis = int(axes.ravel()[0]) % len(shape)
    size = shape[axis]
    start, end = (int(p.ravel()[0]) for p in parts[:2] if p is not None)
    start, end = (max(0, v + size) if v < 0 else min(v, size) for v in (start, end))
    return (axis, start, end) if start < end else None


def _transposes(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Merges two consecutive transpositions."""
    before = r.only(node.input[0], node, "Transpose")
    if before is None:
        return False
    rank = len(r.shape(node.output[0]))
    first, second = (list(attribute(n, "perm", range(rank)[::-1])) for n in (before, node))
    perm = [first[axis] for axis in second]
    return r.replace([before, node], [r.node("Transpose", [before.input[0]], node.output[0], node, perm=perm)])


def _image_pool(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Replaces a mean or maximum over the whole image, as a reduction or as one window, by global pooling."""
    shape, out = r.shape(node.input[0]), node.output[0]
    if len(shape) != 4 or len(node.output) > 1:
        return False
    if node.op_type in ("ReduceMean", "ReduceMax"):
        axes = r.array(node.input[1]) if len(node.input) > 1 and node.input[1] else attribute(node, "axes")
        if axes is None or {int(axis) % 4 for axis in np.ravel(axes)} != {2, 3}:
            return False
    else:
        pads, dilations = (attribute(node, name, [default]) for name, default in (("pads", 0), ("dilations", 1)))
        plain = attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        if tuple(attribute(node, "kernel_shape")) != shape[2:] or any(pads) or set(dilations) != {1} or not plain:
            return False
    op = "GlobalAveragePool" if node.op_type in ("ReduceMean", "AveragePool") else "GlobalMaxPool"
    if len(r.shape(out)) == 4:
        return r.replace([node], [r.node(op, [node.input[0]], out, node)])
    pooled = r.fresh(f"{out}/pooled")
    r.model.shapes[pooled] = (*shape[:2], 1, 1)
    first = r.node(op, [node.input[0]], pooled, node)
    return r.replace([node], [first, r.node("Flatten", [pooled], out, node, axis=1)])


FORMS: dict[str, tuple[Rule, ...]] = {
    **dict.fromkeys(VIEWS, (_drop,)),
    **dict.fromkeys(("Concat", "Split", "Mean"), (_single,)),
    "Sum": (_single, _sum),
    "Max": (_single, one_clip),
    "Min": (_single, one_clip),
    "Clip": (one_clip,),
    "Relu": (one_clip,),
    "Mul": (_dequantised_product, hard_sigmoid),
    "Div": (hard_sigmoid,),
    "Slice": (_drop, _slices),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "AveragePool", "MaxPool"), (_image_pool,)),
    "Transpose": (_drop, _transposes),
}
