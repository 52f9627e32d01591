# SPDX-License-Identifier: Apache-2.0
"""Replaces nodes of an ONNX model and keeps its wiring consistent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.drpai3.onnx_model import OnnxModel, Shape, in_order, label, reads, subgraphs_of

if TYPE_CHECKING:
    import onnx

Rule = Callable[["Rewriter", Any], bool]


class Rewriter:
    """The nodes of a model with producers and readers.

    Outputs, and tensors that the body of an If or Loop takes from outside, are `pinned`: they are
    neither renamed nor removed.
    """

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.maker: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self.pinned = {o.name for o in model.outputs}
        self._alive: dict[int, tuple[float, onnx.NodeProto]] = {}
        for n, node in enumerate(model.nodes):
            self._add(float(n), node)
            if subgraphs_of(node):
                self.pinned |= set(reads(node)) - set(node.input)

    def apply(self, rules: Mapping[str, Sequence[Rule]]) -> bool:
        """Tries each operator's rules on its nodes until nothing changes; True if anything did."""
        changed, again = False, True
        while again:
            again = False
            for _, node in sorted(self._alive.values(), key=lambda pair: pair[0]):
                for rule in rules.get(node.op_type, ()) if node.domain in ("", "ai.onnx") else ():
                    if id(node) in self._alive and rule(self, node):
                        again = changed = True
                        break
        if changed:
            known = {v.name for v in self.model.inputs} | set(self.model.constants)
            self.model.nodes = in_order(self.model.path, self._alive.values(), known)
        return changed

    def _add(self, key: float, node: onnx.NodeProto) -> None:
        self._alive[id(node)] = (key, node)
        for name in node.output:
            if name:
                self.maker[name] = node
        for name in node.input:
            if name:
                self.readers[name].append(node)

    def _remove(self, node: onnx.NodeProto) -> float:
        key, _ = self._alive.pop(id(node))
        for name in node.output:
            if self.maker.get(name) is node:
                del self.maker[name]
        for name in node.input:
            self.readers[name] = [n for n in self.readers[name] if n is not node]
        return key

    def replace(self, olds: Sequence[onnx.NodeProto], news: Sequence[onnx.NodeProto]) -> bool:
        """Replaces `olds` by `news`; returns True, so a rule can return the result."""
        key = max(self._remove(node) for node in olds)
        names = [node.name for node in news]
        for n, node in enumerate(news):
            if node.name in names[n + 1 :]:  # onnxruntime refuses two nodes of one name
                node.name = node.output[0]
        for n, node in enumerate(news):
            self._add(key + n * 1e-3, node)
        return True

    def alias(self, node: onnx.NodeProto, source: str) -> bool:
        """Removes a node whose first output equals `source`; False if neither name can be removed."""
        out = node.output[0]
        if out not in self.pinned:
            self._remove(node)
            for reader in list({id(n): n for n in self.readers[out]}.values()):
                self._rewire(reader, {out: source})
            return True
        made = self.maker.get(source)
        if made is None or source in self.pinned or self.model.shapes.get(source) != self.model.shapes.get(out):
            return False
        self._remove(node)
        for reader in list({id(n): n for n in self.readers[source]}.values()):
            self._rewire(reader, {source: out})
        key = self._remove(made)
        made.output[:] = [out if name == source else name for name in made.output]
        self._add(key, made)
        return True

    def _rewire(self, node: onnx.NodeProto, names: Mapping[str, str]) -> None:
        key = self._remove(node)
        node.input[:] = [names.get(i, i) for i in node.input]
        self._add(key, node)

    def shape(self, name: str) -> Shape:
        return self.model.shapes.get(name, ())

    def array(self, name: str) -> np.ndarray | None:
        """Values of a constant; None for an activation."""
        return self.model.array(name) if name in self.model.constants else None

    def scalar(self, name: str) -> float | None:
        """The value of a floating-point constant whose elements are all equal."""
        array = self.array(name)
        if array is None or not array.size or array.dtype.kind not in "f":
            return None
        flat = array.ravel()
        return float(flat[0]) if (flat == flat[0]).all() else None

    def constant(self, like: str, array: Any, dtype: Any = None) -> str:
        """A new constant, named after a tensor."""
        n = 0
        while (name := f"{like}/constant{n}") in self.model.constants:
            n += 1
        self.model.constants[name] = value = np.asarray(array, dtype)
        self.model.shapes[name] = value.shape
        return name

    def behind(self, node: onnx.NodeProto, *ops: str) -> onnx.NodeProto | None:
        """The producer of the node's only activation, if it is one of `ops` and has no other reader."""
        activations = [i for i in node.input if i and i not in self.model.constants]
        return self.only(activations[0], node, *ops) if len(activations) == 1 else None

    def only(self, name: str, reader: onnx.NodeProto, *ops: str) -> onnx.NodeProto | None:
        """The producer of a tensor, if it is one of `ops` and nothing but `reader` reads it."""
        made = self.maker.get(name)
        if made is None or made.op_type not in ops or name in self.pinned or made.domain not in ("", "ai.onnx"):
            return None
        return made if all(n is reader for n in self.readers[name]) else None

    def node(self, op: str, inputs: Sequence[str], out: str, like: onnx.NodeProto, **attributes: Any) -> onnx.NodeProto:
        """A node with a name derived from another; shape and type of `out` are that node's if unknown."""
        from onnx import helper

        kept = list(inputs)
        while kept and not kept[-1]:
            kept.pop()
        if like.output[0] in self.model.shapes:
            self.model.shapes.setdefault(out, self.model.shapes[like.output[0]])
        if like.output[0] in self.model.types:
            self.model.types.setdefault(out, self.model.types[like.output[0]])
        return helper.make_node(op, kept, [out], name=label(like), **attributes)

    def fresh(self, like: str) -> str:
        """A tensor name that is not in use."""
        n = 0
        while (name := f"{like}/{n}") in self.maker or name in self.model.shapes:
            n += 1
        return name


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Value of a node's attribute."""
    from onnx import helper

    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)
