# SPDX-License-Identifier: Apache-2.0
"""An ONNX file as a torch network, and back: the graph stays as it is, only weights change.

So that one set of methods serves PyTorch networks and ONNX files, gradients included.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from drp_slam.errors import PruningError
from drp_slam.pruning import onnxops

OPSET = 17


class OnnxNet(nn.Module):
    """Runs a graph of convolutions and the operators of `onnxops`; layers carry the weight's name.

    Raises PruningError for an operator that is not known (the name and the remedy are given).
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self.model = model
        self._layers: dict[str, str] = {}
        self._values: dict[str, Tensor] = {}
        self._nodes = list(model.graph.node)
        self._attributes = [_attributes(node) for node in self._nodes]
        constants = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        for index, node in enumerate(self._nodes):
            self._take(index, node, constants)
        for name, value in constants.items():
            self._values[name] = torch.from_numpy(np.array(value))
        self.inputs = [i.name for i in model.graph.input if i.name not in constants]
        self.outputs = [o.name for o in model.graph.output]
        self._spent = _last_uses(self._nodes, {*self.outputs, *self._values})
        if len(self.inputs) != 1:
            raise PruningError(f"the network has {len(self.inputs)} inputs; pruning takes one")

    def _take(self, index: int, node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> None:
        label = node.name or node.output[0]
        if node.op_type in ("Conv", "Gemm") and node.input[1] in constants:
            module = _layer(node, self._attributes[index], constants)
            if module is not None:
                name = node.input[1].removesuffix(".weight").replace(".", "_").replace("/", "_")
                while name in self._modules or hasattr(self, name):
                    name += "_"
                self.add_module(name, module)
                self._layers[str(index)] = name
                return
        if node.op_type not in onnxops.SIMPLE | onnxops.GENERAL and node.op_type != "Constant":
            known = ", ".join(sorted({*onnxops.SIMPLE, *onnxops.GENERAL, "Conv", "Gemm"}))
            raise PruningError(
                f"node {label!r} is a {node.op_type}, which cannot be traced here; known operators: {known}"
            )

    def forward(self, x: Tensor) -> Any:
        """One output as a tensor, several as a tuple."""
        values: dict[str, Any] = {**self._values, self.inputs[0]: x}
        for index, node in enumerate(self._nodes):
            given = [values[name] if name else None for name in node.input]
            found = self._run(index, node, given)
            for name, value in zip(node.output, found if isinstance(found, tuple) else (found,)):
                values[name] = value
            for name in self._spent[index]:
                values.pop(name, None)
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found

    def _run(self, index: int, node: onnx.NodeProto, given: list[Any]) -> Any:
        attributes = self._attributes[index]
        if (name := self._layers.get(str(index))) is not None:
            x = given[0]
            if pads := attributes.get("uneven_pads"):
                x = F.pad(x, pads)
            return self._modules[name](x)  # type: ignore[misc]
        if node.op_type == "Constant":
            return next(iter(attributes.values()))
        if node.op_type in onnxops.SIMPLE:
            return onnxops.SIMPLE[node.op_type](*given)
        return onnxops.GENERAL[node.op_type](given, attributes)

    def to_onnx(self) -> onnx.ModelProto:
        """The file's graph with the weights as they are now."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        stored = {w.name: w for w in model.graph.initializer}
        for index, name in self._layers.items():
            node, module = self._nodes[int(index)], self._modules[name]
            assert module is not None
            weight: Tensor = module.weight.detach()  # type: ignore[assignment, union-attr, operator]
            if node.op_type == "Gemm" and not self._attributes[int(index)].get("transB"):
                weight = weight.T
            _store(stored[node.input[1]], weight)
            if len(node.input) > 2 and node.input[2] in stored:
                _store(stored[node.input[2]], module.bias.detach())  # type: ignore[union-attr, operator]
        return model


def _last_uses(nodes: Sequence[onnx.NodeProto], kept: set[str]) -> list[list[str]]:
    """Values that no node after this one reads, by node: memory for many images at once."""
    seen, found = set(kept), []
    for node in reversed(nodes):
        last = [name for name in node.input if name and name not in seen]
        seen.update(last)
        found.append(last)
    return found[::-1]


def _store(target: onnx.TensorProto, value: Tensor) -> None:
    array = np.ascontiguousarray(value.cpu().numpy(), np.float32)
    target.CopyFrom(numpy_helper.from_array(array, target.name))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        if isinstance(value, onnx.TensorProto):
            value = torch.from_numpy(np.array(numpy_helper.to_array(value)))
        found[attribute.name] = value
    return found


def _layer(node: onnx.NodeProto, a: dict[str, Any], constants: dict[str, np.ndarray]) -> nn.Module | None:
    """The module of a Conv or Gemm with constant weights; None where it has another form."""
    weight = torch.from_numpy(np.array(constants[node.input[1]], np.float32))
    has_bias = len(node.input) > 2 and node.input[2] in constants
    if node.op_type == "Gemm":
        if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA"):
            return None
        weight = weight if a.get("transB") else weight.T.contiguous()
        module: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias)
    else:
        if weight.ndim != 4 or a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return None
        top, left, bottom, right = a.get("pads", [0] * 4)
        if (top, left) != (bottom, right):
            a["uneven_pads"] = (left, right, top, bottom)
            top = left = 0
        groups = a.get("group", 1)
        module = nn.Conv2d(
            weight.shape[1] * groups,
            weight.shape[0],
            tuple(weight.shape[2:]),  # type: ignore[arg-type]
            tuple(a.get("strides", [1, 1])),
            (top, left),
            tuple(a.get("dilations", [1, 1])),
            groups,
            has_bias,
        )
    with torch.no_grad():
        module.weight.copy_(weight)  # type: ignore[operator, union-attr]
        if has_bias:
            bias = torch.from_numpy(np.array(constants[node.input[2]], np.float32))
            module.bias.copy_(bias.reshape(-1))  # type: ignore[operator, union-attr]
    return module


def read(source: str, shape: Sequence[int] | None = None) -> OnnxNet:
    """From `file.onnx`, a shipped network's name, or `package.module:factory`.

    A factory returns a torch module; it is traced on `shape` (N, C, H, W). Raises PruningError for
    a file that cannot be read, a factory that is not there, or a model that cannot be traced.
    """
    if ":" in source and not Path(source).is_file():
        return OnnxNet(_traced(source, shape))
    from drp_slam import resources

    path = resources.network(source)
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own error types differ between versions
        raise PruningError(f"{path}: not an ONNX file: {str(error).splitlines()[0]}") from error
    if any(n.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for n in model.graph.node):
        raise PruningError(f"{path} is quantised already; prune the float network, quantise after")
    return OnnxNet(model)


def _traced(source: str, shape: Sequence[int] | None) -> onnx.ModelProto:
    import io

    module_name, _, name = source.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PruningError(f"{source}: {error}; expected package.module:factory") from error
    try:
        made = factory()
    except Exception as error:  # anything can happen inside foreign code
        raise PruningError(f"{source} cannot be called without arguments: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise PruningError(f"{source} returns {type(made).__name__}, expected a torch.nn.Module")
    if shape is None:
        raise PruningError(f"{source}: the input's shape is needed to trace it; give --shape 1,C,H,W")
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecation notices
            torch.onnx.export(
                made.eval(),
                (torch.zeros(*shape),),
                buffer,  # type: ignore[arg-type]
                opset_version=OPSET,
                dynamo=False,
                input_names=["input"],
            )
    except Exception as error:  # anything can happen inside foreign code that is traced
        logging.getLogger(__name__).info("tracing failed", exc_info=True)
        raise PruningError(
            f"{source} cannot be traced on {tuple(shape)}: {str(error).strip().splitlines()[0]}"
        ) from error
    return onnx.load_from_string(buffer.getvalue())
