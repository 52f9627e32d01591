# SPDX-License-Identifier: Apache-2.0
"""Rewrites one ONNX node as other operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.drpai3.onnx_model import OnnxModel, label

if TYPE_CHECKING:
    import onnx


class Writer:
    """Builds the operators that replace one node."""

    def __init__(self, model: OnnxModel, node: onnx.NodeProto) -> None:
        self.model, self.node = model, node
        self.nodes: list[onnx.NodeProto] = []
        from onnx import helper

        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def without(self, *names: str) -> dict[str, Any]:
        """The node's attributes without those named and those of a fused activation."""
        return {k: v for k, v in self.attributes.items() if k not in names and not k.startswith("activation")}

    def input(self, n: int) -> str:
        return self.node.input[n] if n < len(self.node.input) else ""

    def constant(self, array: Any, what: str) -> str:
        name = f"{self.node.output[0]}/{what}"
        self.model.constants[name] = np.asarray(array)
        return name

    def op(self, op: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        out = out or f"{self.node.output[0]}/{op.lower()}{len(self.nodes)}"
        name = label(self.node) if not self.nodes else out
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=name, **attributes))
        return out

    def done(self, result: str) -> list[onnx.NodeProto]:
        """The new nodes; the last one produces the node's own output."""
        last = next(n for n in self.nodes if n.output[0] == result)
        last.output[0] = self.node.output[0]
        return self.nodes

    def float_of(self, n: int) -> str:
        """Input n of a QLinear operator, dequantised; value, scale and zero point are consecutive inputs."""
        return self.op("DequantizeLinear", self.input(n), self.input(n + 1), self.input(n + 2))

    def bias_of(self, n: int) -> str:
        """Input n, an int32 bias, dequantised by the product of the scales of input and weight."""
        if not self.input(n):
            return ""
        scale = np.asarray(self.model.array(self.input(1)) * self.model.array(self.input(4)), np.float32)
        zero = np.zeros(scale.shape, np.int32)
        return self.op(
            "DequantizeLinear", self.input(n), self.constant(scale, "scale"), self.constant(zero, "zero"), axis=0
        )

    def quantised(self, value: str, n: int) -> list[onnx.NodeProto]:
        return self.done(self.op("QuantizeLinear", value, self.input(n), self.input(n + 1)))
