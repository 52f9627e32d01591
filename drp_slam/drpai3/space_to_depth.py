# SPDX-License-Identifier: Apache-2.0
"""Runs XFeat's first layers faster on this host, with the same integers, on 2x2 blocks of pixels.

onnxruntime's INT8 convolution is optimised for many channels; on a grey image and the eight channels
after it, it takes most of the time of XFeat. Treating 2x2 blocks of pixels as channels ("space to
depth") gives a convolution with four times the channels at a quarter of the positions and the same
products and sums (plus products with zero): outputs are equal bit for bit. Only the computation on
this host changes; the chip is modelled from the network as shipped.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TAPS = tuple(product((0, 1), (0, 1)))
"""(row, column) within a 2x2 block, in the order of the channels it becomes."""


def space_to_depth(tensor: np.ndarray) -> np.ndarray:
    """(H, W) of int8 -> (1, 4, H/2, W/2) of uint8, offset by 128, in the order of `TAPS`."""
    height, width = tensor.shape
    blocks = np.empty((1, 4, height // 2, width // 2), np.uint8)
    for channel, (row, column) in enumerate(TAPS):
        np.bitwise_xor(tensor.view(np.uint8)[row::2, column::2], np.uint8(0x80), out=blocks[0, channel])
    return blocks


def rewritten(path: Path) -> bytes | None:
    """The INT8 network at `path` taking `space_to_depth(tensor)`; None where it does not apply.

    It applies where one int8 channel feeds convolutions of even stride without padding, and one
    of 3x3, stride 1, whose output feeds one of 3x3, stride 2: XFeat's first layers. Where two more
    of this kind follow, they work on blocks too.
    """
    import onnx

    model = onnx.load(path)
    net = _Net(model)
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

    first[0].set(_blocks_in(_blocks_out(first[0].kernel())), repeat=4)
    kernel = _blocks_in(second.kernel())
    if third is None or fourth is None:
        second.set(kernel)
    else:
        second.set(_blocks_out(kernel), repeat=4)
        third.set(_blocks_in(_blocks_out(third.kernel())), repeat=4)
        fourth.set(_blocks_in(fourth.kernel()))
    for conv in folded:
        conv.set(_blocks_in(conv.kernel()))
    net.feed(entry, 4)
    return model.SerializeToString()


class _Kernel(NamedTuple):
    """`weight` (O, I, k, k) at `stride`; `before` and `after` pixels of padding on either axis."""

    weight: np.ndarray
    stride: int
    before: int
    after: int


def _blocks_out(old: _Kernel) -> _Kernel:
    """The same outputs in 2x2 blocks: channels become (tap, channel), the stride doubles."""
    outputs, inputs, side = old.weight.shape[:3]
    new = np.zeros((4, outputs, inputs, side + old.stride, side + old.stride), old.weight.dtype)
    for tap, (dy, dx) in enumerate(TAPS):
        y, x = dy * old.stride, dx * old.stride
        new[tap, :, :, y : y + side, x : x + side] = old.weight
    after = max(0, side - old.stride - old.before)
    return _Kernel(new.reshape(4 * outputs, *new.shape[2:]), 2 * old.stride, old.before, after)


def _blocks_in(old: _Kernel) -> _Kernel:
    """The same convolution of inputs in 2x2 blocks; the stride, which is even, is halved."""
    outputs, inputs, side = old.weight.shape[:3]
    first, last = -old.before // 2, (side - 1 - old.before) // 2
    blocks, stride = last - first + 1, old.stride // 2
    new = np.zeros((outputs, 4, inputs, blocks, blocks), old.weight.dtype)
    for ky, kx in product(range(side), repeat=2):
        y, x = ky - old.before, kx - old.before
        tap = TAPS.index((y % 2, x % 2))
        new[:, tap, :, y // 2 - first, x // 2 - first] = old.weight[:, :, ky, kx]
    weight = new.reshape(outputs, 4 * inputs, blocks, blocks)
    return _Kernel(weight, stride, -first, max(0, last + 1 - stride))


class _Net:
    """Queries on an ONNX graph in QDQ form that the rewrite needs."""

    def __init__(self, model: Any) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.maker = {name: node for node in model.graph.node for name in node.output}

    def consumers(self, name: str) -> list[Any]:
        return [node for node in self.graph.node if name in node.input]

    def only(self, name: str, kind: str) -> Any | None:
        nodes = self.consumers(name)
        return nodes[0] if len(nodes) == 1 and nodes[0].op_type == kind else None

    def value(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        return numpy_helper.to_array(self.constants[name])

    def entry(self, name: str) -> str | None:
        """Tensor that the convolutions read, where int8 input is only offset to uint8 before."""
        real = self.only(name, "DequantizeLinear")
        stored = None if real is None else self.only(real.output[0], "QuantizeLinear")
        read = None if stored is None else self.only(stored.output[0], "DequantizeLinear")
        if real is None or stored is None or read is None:
            return None
        same_scale = self.value(real.input[1]) == self.value(stored.input[1])
        before, after = self.value(real.input[2]), self.value(stored.input[2])
        offset = int(after) - int(before) == 128 and after.dtype == np.uint8
        return read.output[0] if same_scale.all() and offset else None

    def conv(self, node: Any) -> _Conv | None:
        weight = self.maker.get(node.input[1]) if node.op_type == "Conv" else None
        return None if weight is None or len(node.input) != 3 else _Conv(self, node)

    def after(self, conv: _Conv, form: tuple[int, int, int]) -> _Conv | None:
        """The one convolution that reads `conv` through one quantisation, if it has that form."""
        stored = self.only(conv.node.output[0], "QuantizeLinear")
        read = self.only(stored.output[0], "DequantizeLinear") if stored is not None else None
        node = self.only(read.output[0], "Conv") if read is not None else None
        found = None if node is None else self.conv(node)
        return found if found is not None and found.form() == form else None

    def feed(self, entry: str, channels: int) -> None:
        """Makes the stored tensor before `entry` the graph's input."""
        from onnx import TensorProto, helper

        read = self.maker[entry]
        for name in (read.input[0], self.maker[read.input[0]].input[0]):
            self.graph.node.remove(self.maker[name])
        value = helper.make_tensor_value_info(read.input[0], TensorProto.UINT8, (1, channels, "H", "W"))
        del self.graph.input[:]
        self.graph.input.append(value)
        del self.graph.value_info[:]


class _Conv:
    """A quantised convolution whose weight and bias are dequantised per output channel."""

    def __init__(self, net: _Net, node: Any) -> None:
        self.net, self.node = net, node
        self._weight, self._bias = net.maker[node.input[1]], net.maker[node.input[2]]
        self.weight = net.value(self._weight.input[0])
        self.cin = self.weight.shape[1]

    def form(self) -> tuple[int, int, int]:
        """Side of the kernel, stride, padding; (0, 0, 0) where they differ between axes."""
        from onnx import helper

        attributes = {a.name: helper.get_attribute_value(a) for a in self.node.attribute}
        strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0] * 4)
        plain = attributes.get("group", 1) == 1 and set(attributes.get("dilations", [1])) == {1}
        side = self.weight.shape[2:]
        if not plain or len({*side}) != 1 or len({*strides}) != 1 or len({*pads}) != 1:
            return 0, 0, 0
        return side[0], strides[0], pads[0]

    def kernel(self) -> _Kernel:
        _, stride, padding = self.form()
        return _Kernel(self.weight, stride, padding, padding)

    def set(self, kernel: _Kernel, repeat: int = 1) -> None:
        """Sets another kernel; its channels' scales and biases are repeated `repeat` times."""
        from onnx import helper, numpy_helper

        names = [*self._weight.input, *self._bias.input]
        for name in names:
            stored = self.net.value(name)
            value = kernel.weight if name == self._weight.input[0] else np.tile(stored, repeat)
            self.net.constants[name].CopyFrom(numpy_helper.from_array(value, name))
        del self.node.attribute[:]
        sides = list(kernel.weight.shape[2:])
        for name, numbers in (
            ("kernel_shape", sides),
            ("strides", [kernel.stride] * 2),
            ("pads", [kernel.before] * 2 + [kernel.after] * 2),
        ):
            self.node.attribute.append(helper.make_attribute(name, numbers))
