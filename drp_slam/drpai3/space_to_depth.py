# SPDX-License-Identifier: Apache-2.0
"""Runs XFeat's first layers faster on this host, with the same integers, on 2x2 blocks of pixels.

onnxruntime's INT8 convolution is optimised for many channels; on a grey image and the eight channels
after it, it takes most of the time of XFeat. Treating 2x2 blocks of pixels as channels ("space to
depth") gives a convolution with four times the channels at a quarter of the positions and the same
products and sums (plus products with zero): outputs are equal bit for bit. Only the computation on
this host changes; what the chip runs is in `upsample_blocks.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drp_slam.drpai3.pixel_blocks import TAPS, QdqGraph, blocks_in, blocks_out


def space_to_depth(tensor: np.ndarray) -> np.ndarray:
    """(H, W) of int8 -> (1, 4, H/2, W/2) of uint8, offset by 128, in the order of `TAPS`."""
    height, width = tensor.shape
    blocks = np.empty((1, 4, height // 2, width // 2), np.uint8)
    for channel, (row, column) in enumerate(TAPS):
        np.bitwise_xor(tensor.view(np.uint8)[row::2, column::2], np.uint8(0x80), out=blocks[0, channel])
    return blocks


def rewritten(path: Path) -> bytes | None:
    """The INT8 network at `path` taking `space_to_depth(tensor)`; None if it does not apply.

    It applies if one int8 channel feeds convolutions of even stride without padding, and one
    of 3x3, stride 1, whose output feeds one of 3x3, stride 2: XFeat's first layers. If two more
    of this kind follow, they run on blocks too.
    """
    import onnx

    model = onnx.load(path)
    net = QdqGraph(model)
    tensor = model.graph.input[0]
    entry = net.entry(tensor.name)
    if entry is None:
        return None
    readers = [net.conv(node) for node in net.consumers(entry)]
    first = [c for c in readers if c is not None and c.form() == (3, 1, 1)]
    folded = [c for c in readers if c is not None and not c.form()[0] % 2 and c.form() == (c.form()[0], c.form()[0], 0)]
    if len(first) != 1 or len(folded) + 1 != len(readers) or any(c.cin != 1 for c in first):
        return None
    second = net.after(first[0], (3, 2, 1))
    if second is None:
        return None
    third = net.after(second, (3, 1, 1))
    fourth = None if third is None else net.after(third, (3, 2, 1))

    first[0].set(blocks_in(blocks_out(first[0].kernel())), repeat=4)
    kernel = blocks_in(second.kernel())
    if third is None or fourth is None:
        second.set(kernel)
    else:
        second.set(blocks_out(kernel), repeat=4)
        third.set(blocks_in(blocks_out(third.kernel())), repeat=4)
        fourth.set(blocks_in(fourth.kernel()))
    for conv in folded:
        conv.set(blocks_in(conv.kernel()))
    net.feed(entry, 4)
    return model.SerializeToString()
