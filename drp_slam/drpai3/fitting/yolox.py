# SPDX-License-Identifier: Apache-2.0
"""YOLOX-S and -nano as ONNX graphs, built from their published definition (Megvii YOLOX, Apache-2.0).

Focus, CSPDarknet (depth 0.33), PAFPN and the decoupled head of "YOLOX: Exceeding YOLO Series in
2021". Weights are constant fills: the graph has the right shapes and work, not results.
The three outputs are (1, 5 + classes, H/8, W/8), .../16 and .../32: box, objectness and classes of
each level before their sigmoids, where the vendor's translator ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.atomic import write_bytes
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

WIDTHS = (64, 128, 256, 512, 1024)
"""Channels after the stem and the four stages, at width 1."""
DEPTHS = (1, 3, 3, 1)
"""Bottlenecks of the four stages, at depth 0.33."""


class Writer:
    """Nodes and constants of a graph under construction; every method returns tensor names."""

    def __init__(self, depthwise: bool = False) -> None:
        self.depthwise = depthwise
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{op}_{len(self.nodes)}", **attributes))
        return name

    def plain(self, x: str, cin: int, cout: int, k: int = 1, stride: int = 1, group: int = 1) -> str:
        """A convolution with bias."""
        weight = self.constant(np.full((cout, cin // group, k, k), 0.01, np.float32))
        bias = self.constant(np.zeros(cout, np.float32))
        shape = {"kernel_shape": [k, k], "strides": [stride] * 2, "pads": [k // 2] * 4, "group": group}
        return self.op("Conv", x, weight, bias, **shape)

    def conv(self, x: str, cin: int, cout: int, k: int = 1, stride: int = 1, group: int = 1) -> str:
        """A convolution (its batch norm folded) and SiLU."""
        y = self.plain(x, cin, cout, k, stride, group)
        return self.op("Mul", y, self.op("Sigmoid", y))

    def wide(self, x: str, cin: int, cout: int, stride: int = 1) -> str:
        """A 3 x 3 convolution, in the small networks a depthwise one and a pointwise one."""
        if not self.depthwise:
            return self.conv(x, cin, cout, 3, stride)
        return self.conv(self.conv(x, cin, cin, 3, stride, cin), cin, cout)

    def csp(self, x: str, cin: int, cout: int, depth: int, shortcut: bool = True) -> str:
        """CSPLayer: bottlenecks on one half, both halves concatenated."""
        half = cout // 2
        y = self.conv(x, cin, half)
        for _ in range(depth):
            z = self.wide(self.conv(y, half, half), half, half)
            y = self.op("Add", z, y) if shortcut else z
        return self.conv(self.op("Concat", y, self.conv(x, cin, half), axis=1), cout, cout)

    def focus(self, x: str) -> str:
        """Space to depth in four strided slices."""
        slices = []
        for top, left in ((0, 0), (1, 0), (0, 1), (1, 1)):
            args = (np.array([top, left]), np.array([2**31 - 1] * 2), np.array([2, 3]), np.array([2, 2]))
            slices.append(self.op("Slice", x, *(self.constant(a.astype(np.int64)) for a in args)))
        return self.op("Concat", *slices, axis=1)

    def pooled(self, x: str, c: int) -> str:
        """SPPBottleneck."""
        y = self.conv(x, c, c // 2)
        pools = [self.op("MaxPool", y, kernel_shape=[k, k], strides=[1, 1], pads=[k // 2] * 4) for k in (5, 9, 13)]
        return self.conv(self.op("Concat", y, *pools, axis=1), 2 * c, c)

    def twice(self, x: str) -> str:
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.op(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def head(self, x: str, cin: int, width: int, classes: int) -> str:
        """One level of the decoupled head."""
        x = self.conv(x, cin, width)
        y = self.wide(self.wide(x, width, width), width, width)
        scores = self.plain(y, width, classes)
        y = self.wide(self.wide(x, width, width), width, width)
        box, objectness = self.plain(y, width, 4), self.plain(y, width, 1)
        return self.op("Concat", box, objectness, scores, axis=1)


def yolox(side: int = 640, classes: int = 20, width: float = 0.5, depthwise: bool = False) -> onnx.ModelProto:
    """YOLOX for (1, 3, side, side), a multiple of 32: by default S; nano has width 0.25, depthwise."""
    from onnx import TensorProto, helper

    w, c = Writer(depthwise), [round(width * channels) for channels in WIDTHS]
    x = w.conv(w.focus("images"), 12, c[0], 3)
    levels = []
    for stage, depth in enumerate(DEPTHS):
        x = w.wide(x, c[stage], c[stage + 1], 2)
        if stage == 3:
            x = w.pooled(x, c[4])
        x = w.csp(x, c[stage + 1], c[stage + 1], depth, shortcut=stage < 3)
        levels.append(x)
    c3, c4, c5 = levels[1:]
    lateral5 = w.conv(c5, c[4], c[3])
    p4 = w.csp(w.op("Concat", w.twice(lateral5), c4, axis=1), 2 * c[3], c[3], 1, False)
    lateral4 = w.conv(p4, c[3], c[2])
    out3 = w.csp(w.op("Concat", w.twice(lateral4), c3, axis=1), 2 * c[2], c[2], 1, False)
    down3 = w.wide(out3, c[2], c[2], 2)
    out4 = w.csp(w.op("Concat", down3, lateral4, axis=1), 2 * c[2], c[3], 1, False)
    down4 = w.wide(out4, c[3], c[3], 2)
    out5 = w.csp(w.op("Concat", down4, lateral5, axis=1), 2 * c[3], c[4], 1, False)
    outputs = [w.head(y, cin, c[2], classes) for y, cin in ((out3, c[2]), (out4, c[3]), (out5, c[4]))]
    graph = helper.make_graph(
        w.nodes,
        "yolox",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        w.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def save_yolox_s(path: Path) -> Path:
    """Writes the 640-pixel network with the 20 classes of Pascal VOC."""
    write_bytes(path, yolox().SerializeToString(), DrpAi3Error)
    return path
