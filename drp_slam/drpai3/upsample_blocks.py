# SPDX-License-Identifier: Apache-2.0
"""XFeat's upsampling without large Resizes, for a chip whose DRP reads the results in place.

Nearest upsampling and a fixed depthwise filter make one pixel of each 2x2 block from its own mixture of
coarse pixels: a convolution at the coarse resolution with four times the channels. The following layers (stride 1)
run on blocks as well, and the DRP, which samples the results by address, reads them in that order. The
MAC array skips the zeros that this adds to the weights. Sums of products are the same integers, so
results are equal bit for bit; upsampling by 4 keeps a Resize by 2 at a quarter of the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drp_slam.drpai3.pixel_blocks import TAPS, Kernel, QdqConv, QdqGraph, blocks_in, blocks_out

NOTE = (
    "upsampling runs on 2x2 blocks of pixels, and the DRP reads the results in that order; "
    "GMAC counts the zeros that this adds to the weights"
)
POINTWISE = frozenset({"QuantizeLinear", "DequantizeLinear", "Relu", "Clip"})
SUFFIX = "/blocks"


def in_blocks(model: Any) -> Any | None:
    """The INT8 network (QDQ `onnx.ModelProto`) with results in 2x2 blocks; None if it does not apply.

    A result of C channels has 4 C, ordered (row, column within the block; channel), at half the height and
    width, which must be even; `from_blocks` undoes it. It applies if every result comes from nearest
    upsampling by an even factor and depthwise filters, through convolutions of stride 1, sums and Concat.
    """
    twin = type(model)()
    twin.CopyFrom(model)
    net = QdqGraph(twin)
    ups = [found for node in twin.graph.node if (found := _upsampling(net, node)) is not None]
    region, blocked = _downstream(net, {conv.node.output[0] for _, _, conv, _ in ups})
    if not ups or region is None or not blocked.issuperset(o.name for o in twin.graph.output):
        return None
    for node in region:
        for place, name in enumerate(node.input):
            if name in blocked or (place and node.op_type not in ("Add", "Concat")):  # a weight, a scale, a bound
                continue
            again = _again_in_blocks(net, name)
            if again is None:
                return None
            node.input[place] = again
        conv = net.conv(node)
        if conv is not None:
            conv.set(blocks_in(blocks_out(conv.kernel())), repeat=4)
    for resize, factor, conv, kernel in ups:
        conv.set(kernel, repeat=4)
        _halve(net, resize, factor)
    _finish(twin.graph)
    return twin


def from_blocks(planes: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    """(1, 4 C, h, w) results of `in_blocks` as (1, C, 2h, 2w); `channels` of the parts that a last Concat joined."""
    height, width = planes.shape[2:]
    parts, first = [], 0
    for count in channels:
        part = planes[0, first : first + 4 * count].reshape(2, 2, count, height, width)
        parts.append(part.transpose(2, 3, 0, 4, 1).reshape(1, count, 2 * height, 2 * width))
        first += 4 * count
    return np.concatenate(parts, axis=1)


def _upsampling(net: QdqGraph, node: Any) -> tuple[Any, int, QdqConv, Kernel] | None:
    """A nearest Resize, its factor, the depthwise filter that reads it, and that filter in blocks."""
    from onnx import helper

    kinds = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    nearest = (kinds.get("mode"), kinds.get("coordinate_transformation_mode"), kinds.get("nearest_mode"))
    if node.op_type != "Resize" or nearest != (b"nearest", b"asymmetric", b"floor"):
        return None
    scales = net.value(node.input[2]) if len(node.input) == 3 and node.input[2] in net.constants else np.zeros(4)
    factor = int(scales[-1])
    stored = net.only(node.output[0], "QuantizeLinear")
    read = None if stored is None else net.only(stored.output[0], "DequantizeLinear")
    reader = None if read is None else net.only(read.output[0], "Conv")
    conv = None if reader is None else net.conv(reader)
    if factor < 2 or factor % 2 or conv is None or scales.tolist() != [1, 1, factor, factor]:
        return None
    channels, depth, side = conv.weight.shape[:3]
    if depth != 1 or conv.group != channels or conv.form(conv.group) != (side, 1, side // 2) or not side % 2:
        return None
    kernel = _in_phases(conv.weight)
    return None if kernel is None else (node, factor, conv, kernel)


def _in_phases(weight: np.ndarray) -> Kernel | None:
    """A depthwise filter (C, 1, k, k) after nearest upsampling by 2 as one convolution (4 C, C, ...) before it.

    None if a sum of weights exceeds int8.
    """
    channels, side = weight.shape[0], weight.shape[2]
    pad = side // 2
    first = -pad // 2
    last = (side - pad) // 2  # of the second pixel of a block
    taps = last - first + 1
    before = -first
    new = np.zeros((4, channels, channels, taps, taps), np.int16)
    each = np.arange(channels)
    for block, (dy, dx) in enumerate(TAPS):
        for ky in range(side):
            for kx in range(side):
                y, x = (dy + ky - pad) // 2 - first, (dx + kx - pad) // 2 - first
                new[block, each, each, y, x] += weight[:, 0, ky, kx]
    if np.abs(new).max() > 127:
        return None
    return Kernel(new.reshape(4 * channels, channels, taps, taps).astype(np.int8), 1, before, taps - 1 - before)


def _downstream(net: QdqGraph, blocked: set[str]) -> tuple[list[Any] | None, set[str]]:
    """The nodes that read tensors in blocks, in order, or None if one does not support it; and all such tensors."""
    from onnx import helper

    region = []
    for node in net.graph.node:
        if not blocked.intersection(node.input) or node.output[0] in blocked:
            continue
        conv = net.conv(node) if node.op_type == "Conv" else None
        if conv is not None:
            side, stride, pad = conv.form()
            fits = bool(side % 2) and stride == 1 and pad == side // 2
        elif node.op_type == "Concat":
            fits = any(a.name == "axis" and helper.get_attribute_value(a) == 1 for a in node.attribute)
        else:
            fits = node.op_type in POINTWISE or node.op_type == "Add"
        if not fits:
            return None, blocked
        region.append(node)
        blocked = blocked.union(node.output)
    return region, blocked


def _again_in_blocks(net: QdqGraph, name: str) -> str | None:
    """Adds the computation of `name`, a convolution's result through pointwise nodes, in blocks."""
    chain, node = [], net.maker.get(name)
    while node is not None and node.op_type in POINTWISE:
        chain.append(node)
        node = net.maker.get(node.input[0])
    conv = None if node is None else net.conv(node)
    if conv is None or conv.form() == (0, 0, 0):
        return None
    if name + SUFFIX in net.maker:
        return name + SUFFIX
    twin = conv.twin(SUFFIX)
    twin.set(blocks_out(twin.kernel()), repeat=4)
    for old in reversed(chain):
        new = net.add(old, net.place(old) + 1, SUFFIX)
        new.input[0] += SUFFIX
    return name + SUFFIX


def _halve(net: QdqGraph, resize: Any, factor: int) -> None:
    """Resize by half the factor; a factor of 1 removes it."""
    if factor > 2:
        resize.input[2] = f"{resize.output[0]}{SUFFIX}/scales"
        net.store(resize.input[2], np.array([1, 1, factor // 2, factor // 2], np.float32))
        return
    for node in net.consumers(resize.output[0]):
        node.input[:] = [resize.input[0] if name == resize.output[0] else name for name in node.input]
    net.graph.node.remove(resize)


def _finish(graph: Any) -> None:
    """Removes unused values, and shapes that are no longer valid."""
    while True:
        read = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
        idle = [node for node in graph.node if not read.intersection(node.output)]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)
    del graph.value_info[:]
    for output in graph.output:
        dims = output.type.tensor_type.shape.dim
        dims[1].dim_value *= 4
        for dim, name in zip(dims[2:], ("H/16", "W/16")):
            if dim.HasField("dim_value"):
                dim.dim_value //= 2
            else:
                dim.dim_param = name
