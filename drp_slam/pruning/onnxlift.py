# SPDX-License-Identifier: Apache-2.0
"""Normalises ONNX graphs before the search for layers: stored values become initialisers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

CONSTANTS = ("value", "value_float", "value_floats", "value_int", "value_ints")


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes: text as str, tensors as torch."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        if isinstance(value, onnx.TensorProto):
            value = torch.from_numpy(np.array(numpy_helper.to_array(value)))
        found[attribute.name] = value
    return found


def lifted(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose stored values are all initialisers, also those of Constant, and Identity of a constant.

    A bias that several layers share (exporters merge equal ones) is duplicated.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    stored = {w.name: w for w in graph.initializer}
    outputs = {o.name for o in graph.output}

    def store(value: onnx.TensorProto, name: str) -> None:
        tensor = graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = name
        stored[name] = tensor

    nodes = []
    for node in graph.node:
        value: Any = None
        if node.op_type == "Constant" and node.attribute[0].name in CONSTANTS:
            value = onnx.helper.get_attribute_value(node.attribute[0])
            if not isinstance(value, onnx.TensorProto):
                kind = np.float32 if "float" in node.attribute[0].name else np.int64
                value = numpy_helper.from_array(np.array(value, kind))
        elif node.op_type == "Identity":
            value = stored.get(node.input[0])
        if value is None or node.output[0] in outputs:
            nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
        else:
            store(value, node.output[0])
    readers = Counter(name for node in nodes for name in node.input)
    for index, node in enumerate(nodes):
        bias = node.input[2] if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 else ""
        if bias in stored and readers[bias] > 1:
            store(stored[bias], f"{bias}_of_{index}")
            node.input[2] = f"{bias}_of_{index}"
    del graph.node[:]
    graph.node.extend(nodes)
    return whole
