# SPDX-License-Identifier: Apache-2.0
"""Small ONNX networks for the tests of drpai3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Writes a network node by node; every method returns the name of its output."""

    def __init__(self, shape: Sequence[Any] = (1, 16, 32, 32), opset: int = 13, seed: int = 0) -> None:
        self.shape, self.opset = shape, opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(seed)

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [f"t{len(self.nodes)}_{n}" for n in range(outputs)]
        node = helper.make_node(op, list(inputs), names, name=f"{op.lower()}{len(self.nodes)}", **attributes)
        self.nodes.append(node)
        return names[0]

    def conv(
        self,
        x: str,
        cin: int,
        cout: int,
        k: int | tuple[int, int] = 3,
        group: int = 1,
        density: float = 1.0,
        stride: int = 1,
    ) -> str:
        kh, kw = (k, k) if isinstance(k, int) else k
        w = self.random.normal(size=(cout, cin // group, kh, kw)).astype(np.float32)
        w[self.random.random(w.shape) >= density] = 0
        return self.op(
            "Conv",
            x,
            self.constant(w),
            group=group,
            strides=[stride, stride],
            pads=[kh // 2, kw // 2, kh // 2, kw // 2],
        )

    def model(self, *outputs: str, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info("x", kind, list(self.shape))],
            [helper.make_tensor_value_info(o, kind, None) for o in outputs],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def save(self, path: Path, *outputs: str) -> Path:
        path.write_bytes(self.model(*outputs).SerializeToString())
        return path


def residual(path: Path, density: float = 1.0, cin: int = 16) -> Path:
    """Two convolutions with an addition, wholly mapped."""
    b = Builder((1, cin, 32, 32))
    first = b.op("Relu", b.conv("x", cin, 64, density=density))
    second = b.conv(first, 64, 64, density=density)
    return b.save(path, b.op("Relu", b.op("Add", second, first)))
