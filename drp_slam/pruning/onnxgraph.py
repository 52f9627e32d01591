# SPDX-License-Identifier: Apache-2.0
"""An ONNX file whose weights are pruned in place; the graph stays unchanged.

Convolutions, Gemm and MatMul with constant weights become torch modules that only hold weight and
bias. Images are run through onnxruntime (`probe`), so every operator is
allowed; only retraining and gradients need the torch form of the whole graph (`onnxnet`).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from drp_slam.errors import PruningError
from drp_slam.pruning import prunable as L
from drp_slam.pruning.onnxlift import attributes, lifted

TRANSPARENT = ("Identity", "Cast", "Transpose")
"""Operators that may lie between a stored weight and its layer."""
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger")
RECURRENT = ("LSTM", "GRU", "RNN")
LAYERS = ("Conv", "Gemm", "MatMul")
ENDS = ("Sigmoid", "Softmax", "LogSoftmax", "Transpose", "Reshape", "Flatten", "Identity")
"""Operators between logits and an output."""


@dataclass
class Site:
    """A layer in the file: indices of its nodes, names of values, and how its weight is stored.

    `source` feeds the layer, `result` is its output with the bias. `stored` names the weight's
    initialiser, which holds the module's weight transposed where `transposed`. `last` is the node
    that gives `result` (the Add of a MatMul's bias, else `node`).
    """

    node: int
    last: int
    source: str
    result: str
    stored: str
    bias: str | None
    transposed: bool
    attributes: dict[str, Any] = field(default_factory=dict)

    def padded(self, module: Any, x: Tensor) -> Tensor:
        """The input of the module, with the padding that torch has no option for."""
        kind, pads = self.attributes.get("auto_pad", "NOTSET"), self.attributes.get("uneven_pads")
        if kind in ("SAME_UPPER", "SAME_LOWER"):
            pads = []
            sizes: Any = zip(x.shape[2:], module.kernel_size, module.stride, module.dilation)  # type: ignore[arg-type]
            for size, kernel, stride, dilation in reversed(list(sizes)):
                total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
                few, many = total // 2, total - total // 2
                pads += [few, many] if kind == "SAME_UPPER" else [many, few]
        return F.pad(x, tuple(pads)) if pads else x


class Graph:
    """A file's graph, its layers that can be pruned, and the reasons why others stay dense.

    `bag` holds layers as modules by name, `layers` those that can be pruned (grouped convolutions
    are only trained); `sites` are their places in the graph; `dense` lists (node, operator, weights,
    reason) of all nodes whose weights stay dense.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        if any(n.op_type in QUANTISED for n in model.graph.node):
            raise PruningError("the network is quantised already; prune the float network, quantise after")
        self.model = lifted(model)
        self.nodes = list(self.model.graph.node)
        self.constants = {w.name: w for w in self.model.graph.initializer}
        self.inputs = [i for i in self.model.graph.input if i.name not in self.constants]
        self.outputs = [o.name for o in self.model.graph.output]
        self.bag = nn.Module()
        self.sites: dict[str, list[Site]] = {}
        self.dense: list[tuple[str, str, int, str]] = []
        self._makers = {name: node for node in self.nodes for name in node.output}
        self._readers: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in node.input:
                self._readers.setdefault(name, []).append(index)
        for index, node in enumerate(self.nodes):
            self._take(index, node)

    @property
    def layers(self) -> dict[str, Any]:
        """Name -> module of the layers that can be pruned, in the order of the graph."""
        return {name: module for name, module in self.bag.named_children() if L.can_prune(module)}

    def _take(self, index: int, node: onnx.NodeProto) -> None:
        label = node.name or node.output[0]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                size = sum(int(np.prod(w.dims)) for w in attribute.g.initializer)
                inner = Counter(
                    n.op_type for n in attribute.g.node if n.op_type in ("Conv", "Gemm", "MatMul", *RECURRENT)
                )
                if inner:
                    what = ", ".join(f"{count} {op}" for op, count in inner.items())
                    self.dense.append((label, node.op_type, size, f"{what} inside a branch or loop"))
        if node.op_type in RECURRENT:
            size = sum(int(np.prod(self.constants[n].dims)) for n in node.input[1:3] if n in self.constants)
            self.dense.append((label, node.op_type, size, "recurrent weights do not run on the accelerator's array"))
        if node.op_type not in (*LAYERS, "ConvTranspose"):
            return
        stored, transposed = self._stored(node.input[1])
        size = int(np.prod(self.constants[stored].dims)) if stored else 0
        reason = self._refused(node, stored) if stored is None or node.op_type == "ConvTranspose" else None
        reason = reason or self._add(index, node, label, str(stored), transposed)
        if reason:
            self.dense.append((label, node.op_type, size, reason))

    def _stored(self, name: str) -> tuple[str | None, bool]:
        """The initialiser that a value is, seen through `TRANSPARENT`; whether it is transposed."""
        transposed = False
        while name not in self.constants:
            maker = self._makers.get(name)
            if maker is None or maker.op_type not in TRANSPARENT or len(self._readers[name]) > 1:
                return None, False
            if maker.op_type == "Transpose":
                if list(attributes(maker).get("perm", [1, 0])) != [1, 0]:
                    return None, False
                transposed = not transposed
            name = maker.input[0]
        return name, transposed

    def _refused(self, node: onnx.NodeProto, stored: str | None) -> str:
        if node.op_type == "ConvTranspose":
            return "a transposed convolution does not pack"
        if node.op_type == "MatMul" and self._stored(node.input[0])[0]:
            return "the constant is on the left; only weights on the right pack"
        return "both operands are computed" if node.op_type == "MatMul" else "the weight is computed, not stored"

    def _add(self, index: int, node: onnx.NodeProto, label: str, stored: str, transposed: bool) -> str | None:
        """Adds the layer, or records why it stays dense."""
        value, a = (
            torch.from_numpy(np.array(numpy_helper.to_array(self.constants[stored]), np.float32)),
            attributes(node),
        )
        if node.op_type == "Gemm" and (a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA")):
            return "a Gemm with alpha, beta or transA"
        if node.op_type == "Conv" and value.ndim not in (3, 4):
            return f"a convolution of {value.ndim - 2} dimensions"
        if node.op_type != "Conv" and value.ndim != 2:
            return f"a constant of {value.ndim} axes"
        last, result, bias = index, node.output[0], node.input[2] if len(node.input) > 2 else None
        if node.op_type == "MatMul":
            last, result, bias = self._added_bias(index, value.shape[0 if transposed else 1])
        outputs = value.shape[0 if node.op_type == "Conv" or transposed or a.get("transB") else 1]
        if bias and (bias not in self.constants or np.prod(self.constants[bias].dims) != outputs):
            return "its bias is computed or has another form"
        bias = bias or None
        if node.op_type != "Conv":
            transposed ^= not a.get("transB", 0)
        site = Site(index, last, node.input[0], result, stored, bias, transposed, a)
        for other, sites in self.sites.items():
            if sites[0].stored == stored:
                if (sites[0].transposed, sites[0].bias) != (transposed, bias):
                    return f"it shares its weight with {other} in another form"
                sites.append(site)
                return None
        if any(self.nodes[i].op_type not in (*LAYERS, *TRANSPARENT) for i in self._readers[stored]):
            return "another operator reads the same weight"
        module = (
            _conv(value, a) if node.op_type == "Conv" else nn.Linear(*value.T.shape if not transposed else value.shape)
        )
        if bias is None:
            module.bias = None  # type: ignore[assignment]
        self._fill(module, site, value)
        name = self._name(node, stored)
        self.bag.add_module(name, module)
        self.sites[name] = [site]
        return None if L.can_prune(module) else "a grouped convolution does not pack"

    def _value(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(numpy_helper.to_array(self.constants[name]), np.float32))

    def _added_bias(self, index: int, outputs: int) -> tuple[int, str, str | None]:
        """A MatMul's bias: the constant of the Add that is the only reader of its result."""
        result = self.nodes[index].output[0]
        readers = self._readers.get(result, [])
        if len(readers) == 1 and self.nodes[readers[0]].op_type == "Add" and result not in self.outputs:
            add = self.nodes[readers[0]]
            for name in add.input:
                if name in self.constants and list(self.constants[name].dims) == [outputs]:
                    return readers[0], add.output[0], name
        return index, result, None

    @torch.no_grad()
    def _fill(self, module: Any, site: Site, value: Tensor) -> None:
        module.weight.copy_(value.T if site.transposed else value)
        if site.bias is not None:
            module.bias.copy_(self._value(site.bias).reshape(-1))

    def _name(self, node: onnx.NodeProto, stored: str) -> str:
        name = stored if stored.endswith(".weight") or not node.name else node.name
        name = identifier(name.removesuffix(".weight"))
        while hasattr(self.bag, name):
            name += "_"
        return name

    def parts(self) -> list[str]:
        """Values for a loss in place of the outputs: the inputs of a last Concat, before Sigmoid and Softmax.

        So objectness, boxes and classes of a detector have similar weight, as logits.
        """
        found: list[str] = []
        for name in self.outputs:
            joined = self._makers.get(name)
            found += joined.input if joined is not None and joined.op_type == "Concat" else [name]
        for index, name in enumerate(found):
            while (maker := self._makers.get(name)) is not None and maker.op_type in ENDS:
                name = maker.input[0]
            found[index] = name
        return [name for name in dict.fromkeys(found) if name in self._makers]

    def copied(self) -> Graph:
        """A copy with independent layers."""
        twin = copy.copy(self)
        twin.bag = copy.deepcopy(self.bag)
        return twin

    def updated(self) -> onnx.ModelProto:
        """The file's graph with the weights and biases of the modules, in their own dtype."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        stored = {w.name: w for w in model.graph.initializer}
        modules: Mapping[str, Any] = dict(self.bag.named_children())
        for name, module in modules.items():
            site, weight = self.sites[name][0], module.weight.detach()
            _store(stored[site.stored], weight.T if site.transposed else weight)
            if site.bias is not None:
                _store(stored[site.bias], module.bias.detach())
        return model


def identifier(name: str) -> str:
    """A layer's name for `--layers`: no dots, slashes or colons."""
    return name.strip("/").replace(".", "_").replace("/", "_").replace(":", "_")


def _store(target: onnx.TensorProto, value: Tensor) -> None:
    kind, shape = onnx.helper.tensor_dtype_to_np_dtype(target.data_type), tuple(target.dims)
    array = np.ascontiguousarray(value.cpu().numpy().reshape(shape), kind)
    target.CopyFrom(numpy_helper.from_array(array, target.name))


def _conv(weight: Tensor, a: dict[str, Any]) -> nn.Module:
    size = weight.ndim - 2
    begin, end = a.get("pads", [0] * 2 * size)[:size], a.get("pads", [0] * 2 * size)[size:]
    if a.get("auto_pad", "NOTSET") != "NOTSET":
        begin = end = [0] * size
    if list(begin) != list(end):
        a["uneven_pads"] = [p for pair in zip(reversed(begin), reversed(end)) for p in pair]
        begin = [0] * size
    kind: Any = nn.Conv2d if size == 2 else nn.Conv1d
    ones = [1] * size
    stride, dilation = tuple(a.get("strides", ones)), tuple(a.get("dilations", ones))
    groups = a.get("group", 1)
    return kind(
        weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]), stride, tuple(begin), dilation, groups
    )
