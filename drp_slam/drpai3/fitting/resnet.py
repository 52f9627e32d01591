# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 v1 as an ONNX graph, built from its published definition ("Deep Residual Learning", 2015).

Batch norms are folded and weights are constant fills: the graph has the right shapes and work, not results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drp_slam.drpai3.fitting.yolox import Writer

if TYPE_CHECKING:
    import onnx

BLOCKS = (3, 4, 6, 3)
"""Bottlenecks of the four stages."""


def resnet50(side: int = 224) -> onnx.ModelProto:
    """For (1, 3, side, side): 3.86 GMAC at 224, its stride in the first convolution of a bottleneck."""
    from onnx import TensorProto, helper

    w = Writer()
    x = w.op("Relu", w.plain("image", 3, 64, 7, 2))
    x, cin = w.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for stage, count in enumerate(BLOCKS):
        width = 64 << stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            y = w.op("Relu", w.plain(x, cin, width, 1, stride))
            y = w.plain(w.op("Relu", w.plain(y, width, width, 3)), width, 4 * width)
            x = w.op("Relu", w.op("Add", y, x if block else w.plain(x, cin, 4 * width, 1, stride)))
            cin = 4 * width
    weight = w.constant(np.full((1000, cin), 0.01, np.float32))
    bias = w.constant(np.zeros(1000, np.float32))
    y = w.op("Gemm", w.op("Flatten", w.op("GlobalAveragePool", x)), weight, bias, transB=1)
    graph = helper.make_graph(
        w.nodes,
        "resnet50",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 1000])],
        w.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
