# SPDX-License-Identifier: Apache-2.0
"""Channel shuffles as 1 x 1 convolutions, which the MAC array runs.

Exporters write a shuffle as Reshape, Transpose, Reshape, often with a Gather or Split behind it, through
tensors that have not four axes and therefore leave the chip. What such a chain does is found by sending
indices through it; where it only chooses channels, a convolution with one 1 in each row gives the same
numbers. Where a convolution alone reads the choice, its weights take it over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drp_slam.drpai3.onnx_model import OnnxModel
from drp_slam.drpai3.rewriter import Rewriter, attribute
from drp_slam.drpai3.shapes import needed

if TYPE_CHECKING:
    import onnx

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
MOVES = VIEWS | {"Transpose", "Gather", "Split"}
NOTE = "channel shuffles run as 1 x 1 convolutions of equal result; compile the form that board-kit writes"


def convolve(model: OnnxModel) -> bool:
    """Rewrites the shuffles of an inferred float model in place; True if there were any."""
    rewriter = Rewriter(model)
    changed = rewriter.apply(dict.fromkeys(sorted(MOVES), (_choice,)))
    if changed:
        rewriter.apply({"Conv": (_taken_over,)})
        model.nodes = needed(model)
    return changed


def _choice(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Replaces the last node of a chain that only chooses channels by a convolution for each output."""
    chain, source = [node], node.input[0]
    while (shape := r.shape(source)) and not _image(shape, r.shape(node.output[0])):
        made = r.maker.get(source)
        if made is None or made.op_type not in MOVES:
            return False
        chain.append(made)
        source = made.input[0]
    on_chip = all(len(r.shape(n.input[0])) == 4 for n in chain) or all(n.op_type in VIEWS for n in chain)
    if not shape or on_chip or r.model.types.get(source) != 1:
        return False
    index = {source: np.arange(int(np.prod(shape))).reshape(shape)}
    for step in reversed(chain):
        if not _send(r, step, index):
            return False
    chosen = [_channels(index[out], shape) for out in node.output]
    if any(c is None for c in chosen):
        return False
    news = [_one_by_one(r, node, source, out, c, shape[1]) for out, c in zip(node.output, chosen) if c is not None]
    return r.replace([node], news)


def _image(shape: tuple[int, ...], like: tuple[int, ...]) -> bool:
    """Whether both are one image of the same height and width."""
    return len(shape) == len(like) == 4 and shape[0] == like[0] == 1 and shape[2:] == like[2:]


def _send(r: Rewriter, node: onnx.NodeProto, index: dict[str, np.ndarray]) -> bool:
    """Sends indices through one node; False where that needs more than its shapes and constants."""
    value, out = index[node.input[0]], node.output[0]
    if node.op_type in VIEWS:
        index[out] = value.reshape(r.shape(out))
    elif node.op_type == "Transpose":
        index[out] = value.transpose(attribute(node, "perm", range(value.ndim)[::-1]))
    elif node.op_type == "Gather":
        places = r.array(node.input[1])
        if places is None:
            return False
        index[out] = np.take(value, places, axis=attribute(node, "axis", 0))
    else:
        axis = attribute(node, "axis", 0)
        ends = np.cumsum([r.shape(o)[axis] for o in node.output])
        index |= dict(zip(node.output, np.split(value, ends[:-1], axis)))
    return True


def _channels(index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """(C',) source channel of each channel; None where a position moves."""
    if not _image(index.shape, shape):
        return None
    area = shape[2] * shape[3]
    channels = index[0, :, 0, 0] // area
    return (
        channels
        if (index[0].reshape(len(channels), area) == channels[:, None] * area + np.arange(area)).all()
        else None
    )


def _one_by_one(
    r: Rewriter, like: onnx.NodeProto, source: str, out: str, channels: np.ndarray, count: int
) -> onnx.NodeProto:
    weight = r.constant(out, np.eye(count, dtype=np.float32)[channels][:, :, None, None])
    return r.node("Conv", [source, weight], out, like, kernel_shape=[1, 1])


def _taken_over(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Merges a choice of channels into the only convolution that reads it."""
    choice = r.only(node.input[0], node, "Conv")
    weight = r.array(node.input[1])
    if choice is None or len(choice.input) > 2 or weight is None or attribute(node, "group", 1) != 1:
        return False
    rows = r.array(choice.input[1])
    if rows is None or rows.shape[2:] != (1, 1) or set(np.unique(rows)) - {0.0, 1.0} or (rows.sum(axis=1) != 1).any():
        return False
    if any(a.name != "kernel_shape" for a in choice.attribute):
        return False
    wider = r.constant(node.output[0], np.einsum("oc...,ci->oi...", weight, rows[:, :, 0, 0]).astype(weight.dtype))
    kept = {a.name: attribute(node, a.name) for a in node.attribute}
    new = r.node("Conv", [choice.input[0], wider, *node.input[2:]], node.output[0], node, **kept)
    return r.replace([choice, node], [new])
