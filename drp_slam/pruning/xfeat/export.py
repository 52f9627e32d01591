# SPDX-License-Identifier: Apache-2.0
"""XFeat in chip form to ONNX, node by node: the graph has exactly the operators that the chip maps.

H and W are dynamic; weights are named `<layer>.weight` and `<layer>.bias`, activations after
their layer. Written without torch's exporters, so that the file does not change with their
versions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from drp_slam.atomic import write_bytes
from drp_slam.errors import PruningError
from drp_slam.pruning.xfeat.network import LAYERS, SPECS, XFeatChip
from drp_slam.pruning.xfeat.upsampling import smoothing

OPSET, IR_VERSION = 17, 8
"""Old enough for onnxruntime 1.14 (ROS 2 Humble's Python 3.10)."""
WIDTH = 64
"""Channels of the tensors that are upsampled."""


class _Graph:
    def __init__(self, net: XFeatChip) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._net = net

    def _parameter(self, name: str) -> np.ndarray:
        return self._net.get_parameter(name).detach().cpu().float().numpy()

    def constant(self, name: str, value: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(self, name: str, x: str) -> str:
        s = SPECS[name]
        w, b = (self.constant(f"{name}.{kind}", self._parameter(f"convs.{name}.{kind}")) for kind in ("weight", "bias"))
        out = f"{name}_conv" if s.relu else name
        self.add("Conv", [x, w, b], out, kernel_shape=[s.kernel] * 2, strides=[s.stride] * 2, pads=[s.padding] * 4)
        return self.add("Relu", [out], name) if s.relu else name

    def block(self, name: str, x: str) -> str:
        for s in LAYERS:
            if s.name.startswith(f"{name}_"):
                x = self.conv(s.name, x)
        return x

    def resize(self, x: str, factor: int, name: str) -> str:
        scales = self.constant(f"{name}.scales", np.array([1, 1, factor, factor], np.float32))
        if not self._net.mapped:
            return self.add("Resize", [x, "", scales], name, mode="linear", coordinate_transformation_mode="half_pixel")
        x = self.add(
            "Resize",
            [x, "", scales],
            f"{name}_nearest",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        kernel, side = smoothing(factor), factor + 1
        weight = self.constant(f"{name}.weight", np.tile(kernel, (WIDTH, 1, 1, 1)))
        bias = self.constant(f"{name}.bias", np.zeros(WIDTH, np.float32))
        return self.add(
            "Conv",
            [x, weight, bias],
            name,
            group=WIDTH,
            kernel_shape=[side] * 2,
            strides=[1, 1],
            pads=[factor // 2] * 4,
        )


def to_onnx(net: XFeatChip, name: str) -> onnx.ModelProto:
    """The network as ONNX: `tensor` (1, 1, H, W) float32 -> `heads` (1, 130, H/8, W/8) float32."""
    g = _Graph(net)
    x1 = g.add("Add", [g.block("block1", "tensor"), g.conv("skip1", "tensor")], "add_1")
    x3 = g.block("block3", g.block("block2", x1))
    x4 = g.block("block4", x3)
    x5 = g.block("block5", x4)
    fused = g.add("Add", [x3, g.resize(x4, 2, "resize_4")], "add_2")
    fused = g.add("Add", [fused, g.resize(x5, 4, "resize_5")], "add_3")
    descriptors = g.block("fusion", fused)
    keypoints, reliability = g.block("keypoints", "tensor"), g.block("reliability", descriptors)
    g.add("Concat", [descriptors, keypoints, reliability], "heads", axis=1)
    graph = helper.make_graph(
        g.nodes,
        name,
        [helper.make_tensor_value_info("tensor", TensorProto.FLOAT, [1, 1, "H", "W"])],
        [helper.make_tensor_value_info("heads", TensorProto.FLOAT, [1, 130, "H/8", "W/8"])],
        g.weights,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="drp_slam"
    )
    onnx.checker.check_model(model)
    return model


def export(net: XFeatChip, path: str | Path, name: str = "xfeat") -> Path:
    """Writes the network to `path` (to a temporary name first)."""
    path = Path(path)
    write_bytes(path, to_onnx(net, name).SerializeToString(), PruningError)
    return path
