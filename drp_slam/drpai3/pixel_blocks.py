# SPDX-License-Identifier: Apache-2.0
"""Convolutions of quantised networks on 2x2 blocks of pixels, which become channels: the same integers."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np

TAPS = tuple(product((0, 1), (0, 1)))
"""(row, column) within a 2x2 block, in the order of the channels it becomes."""


class Kernel(NamedTuple):
    """`weight` (O, I, k, k) at `stride`; `before` and `after` pixels of padding on either axis."""

    weight: np.ndarray
    stride: int
    before: int
    after: int


def blocks_out(old: Kernel) -> Kernel:
    """The same outputs in 2x2 blocks: channels become (tap, channel), the stride doubles."""
    outputs, inputs, side = old.weight.shape[:3]
    new = np.zeros((4, outputs, inputs, side + old.stride, side + old.stride), old.weight.dtype)
    for tap, (dy, dx) in enumerate(TAPS):
        y, x = dy * old.stride, dx * old.stride
        new[tap, :, :, y : y + side, x : x + side] = old.weight
    after = max(0, side - old.stride - old.before)
    return Kernel(new.reshape(4 * outputs, *new.shape[2:]), 2 * old.stride, old.before, after)


def blocks_in(old: Kernel) -> Kernel:
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
    return Kernel(weight, stride, -first, max(0, last + 1 - stride))


class QdqGraph:
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

    def store(self, name: str, array: np.ndarray) -> None:
        """A new constant."""
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(array, name))
        self.constants[name] = self.graph.initializer[-1]

    def place(self, node: Any) -> int:
        """Index of a node."""
        return next(i for i, other in enumerate(self.graph.node) if other.output[0] == node.output[0])

    def add(self, node: Any, place: int, suffix: str) -> Any:
        """A copy of a node at `place` whose name and outputs end in `suffix`."""
        twin = type(node)()
        twin.CopyFrom(node)
        twin.name += suffix
        twin.output[:] = [name + suffix for name in node.output]
        self.graph.node.insert(place, twin)
        twin = self.graph.node[place]
        self.maker |= dict.fromkeys(twin.output, twin)
        return twin

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

    def conv(self, node: Any) -> QdqConv | None:
        weight = self.maker.get(node.input[1]) if node.op_type == "Conv" else None
        return None if weight is None or len(node.input) != 3 else QdqConv(self, node)

    def after(self, conv: QdqConv, form: tuple[int, int, int]) -> QdqConv | None:
        """The only convolution that reads `conv` through one quantisation, if it has that form."""
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


class QdqConv:
    """A quantised convolution whose weight and bias are dequantised per output channel."""

    def __init__(self, net: QdqGraph, node: Any) -> None:
        self.net, self.node = net, node
        self._weight, self._bias = net.maker[node.input[1]], net.maker[node.input[2]]
        self.weight = net.value(self._weight.input[0])
        self.cin = self.weight.shape[1]

    def form(self, group: int = 1) -> tuple[int, int, int]:
        """Side of the kernel, stride, padding; (0, 0, 0) where they differ between axes, or for other groups."""
        from onnx import helper

        attributes = {a.name: helper.get_attribute_value(a) for a in self.node.attribute}
        strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0] * 4)
        plain = attributes.get("group", 1) == group and set(attributes.get("dilations", [1])) == {1}
        side = self.weight.shape[2:]
        if not plain or len({*side}) != 1 or len({*strides}) != 1 or len({*pads}) != 1:
            return 0, 0, 0
        return side[0], strides[0], pads[0]

    @property
    def group(self) -> int:
        """1, or the node's value."""
        return next((int(a.i) for a in self.node.attribute if a.name == "group"), 1)

    def twin(self, suffix: str) -> QdqConv:
        """A copy beside it, with weights of its own; `suffix` ends the new names."""
        for reader in (self._weight, self._bias):
            for name in dict.fromkeys(reader.input):
                self.net.store(name + suffix, self.net.value(name))
            new = self.net.add(reader, self.net.place(reader) + 1, suffix)
            new.input[:] = [name + suffix for name in reader.input]
        new = self.net.add(self.node, self.net.place(self.node) + 1, suffix)
        new.input[1:] = [name + suffix for name in self.node.input[1:]]
        return QdqConv(self.net, new)

    def kernel(self) -> Kernel:
        _, stride, padding = self.form()
        return Kernel(self.weight, stride, padding, padding)

    def set(self, kernel: Kernel, repeat: int = 1) -> None:
        """Sets another kernel; its channels' scales and biases are repeated `repeat` times."""
        from onnx import helper, numpy_helper

        names = [*self._weight.input, *self._bias.input]
        for name in names:
            stored = self.net.value(name)
            value = kernel.weight if name == self._weight.input[0] else np.tile(stored, repeat if stored.ndim else ())
            self.net.constants[name].CopyFrom(numpy_helper.from_array(value, name))
        del self.node.attribute[:]
        sides = list(kernel.weight.shape[2:])
        for name, numbers in (
            ("kernel_shape", sides),
            ("strides", [kernel.stride] * 2),
            ("pads", [kernel.before] * 2 + [kernel.after] * 2),
        ):
            self.node.attribute.append(helper.make_attribute(name, numbers))
