# SPDX-License-Identifier: Apache-2.0
"""Finds the patterns around a node that decide whether the compiler maps it.

`find` gives every layer one tag; `placement` assigns each tag to a unit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.layers import FREE, Layer

ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu"})
CURVES = frozenset({"Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Softplus", "Mish"})
POOLS = frozenset({"MaxPool", "AveragePool"})
MOVES = frozenset({"Slice", "Split", "Gather", "Transpose", "DepthToSpace", "SpaceToDepth"})
LARGEST_GATE = 65536
"""Largest tensor, in elements, of a gate's branch; a larger one is an image."""
LARGEST_EVEN, LARGEST_DEPTHWISE = 4, 3
"""Sides of even and of depthwise kernels that every chip generation maps."""
CONVOLUTIONS = frozenset({"conv", "depthwise", "grouped", "deconv", "fc"})


@dataclass(frozen=True)
class Wiring:
    """Producers and readers of each tensor by layer number; views of one buffer count as one tensor.

    `producer` is absent for network inputs. `results` are the tensors the network returns.
    """

    producer: Mapping[str, int]
    consumers: Mapping[str, tuple[int, ...]]
    buffer: Mapping[str, str]
    results: frozenset[str]

    def source(self, layer: Layer) -> list[str]:
        """Buffers that a layer reads, without constants."""
        return [self.buffer[i] for i in layer.node.inputs if i in self.buffer]


def wiring(graph: Graph, layers: tuple[Layer, ...]) -> Wiring:
    """Connects the layers of a graph."""
    buffer = {name: name for name in graph.inputs}
    producer: dict[str, int] = {}
    consumers: dict[str, list[int]] = defaultdict(list)
    number = {layer.node.outputs[0]: n for n, layer in enumerate(layers)}
    for node in graph.nodes:
        if node.op in FREE and node.inputs[0] in buffer:
            buffer[node.outputs[0]] = buffer[node.inputs[0]]
            continue
        n = number.get(node.outputs[0], -1)
        for name in node.outputs:
            buffer[name] = name
            if n >= 0:
                producer[name] = n
        for name in dict.fromkeys(node.inputs):
            if name in buffer and n >= 0:
                consumers[buffer[name]].append(n)
    results = frozenset(buffer[o] for o in graph.outputs if o in buffer)
    return Wiring(producer, {k: tuple(v) for k, v in consumers.items()}, buffer, results)


def find(graph: Graph, layers: tuple[Layer, ...], wires: Wiring) -> list[str]:
    """One tag per layer, such as `conv`, `grouped`, `silu`, `gate` or `pre-activation`."""
    tags = [_alone(graph, layer) for layer in layers]
    for n, layer in enumerate(layers):
        if layer.op in ACTIVATIONS:
            tags[n] = "activation" if _fusable(layers, wires, n, tags) else "pre-activation"
        elif layer.op == "Add" and tags[n] == "add":
            tags[n] = "add-fused" if _fusable(layers, wires, n, tags) else "add"
        elif tags[n] == "curve" and _fusable(layers, wires, n, tags):
            tags[n] = "curve-fused"
        elif layer.op == "Mul":
            _multiply(graph, layers, wires, n, tags)
        elif tags[n] == "concat" and all(_written_once(wires, i, tags) for i in layer.node.inputs):
            tags[n] = "concat-free"
        elif tags[n] == "fc" and layer.positions > 1:
            tags[n] = "fc-tokens"
    for n, layer in enumerate(layers):
        if tags[n] == "resize-nearest" and _only_added(layers, wires, layer.node.outputs[0]):
            tags[n] = "resize-added"
        if tags[n] == "scale" and not _activated(wires, layer.node.outputs[0], tags):
            tags[n] = "scale-branch"
    return tags


def _activated(wires: Wiring, name: str, tags: list[str]) -> bool:
    """Whether all readers of a tensor are activations fused into its producer."""
    return all(tags[c] == "activation" for c in wires.consumers.get(name, ())) or (name in wires.results)


def _only_added(layers: tuple[Layer, ...], wires: Wiring, name: str) -> bool:
    """Whether all readers of a tensor are additions."""
    readers = wires.consumers.get(name, ())
    return bool(readers) and name not in wires.results and all(layers[n].op == "Add" for n in readers)


def _written_once(wires: Wiring, name: str, tags: list[str]) -> bool:
    """Whether a tensor can be written straight into the result of a concatenation."""
    name = wires.buffer.get(name, "")
    made = wires.producer.get(name)
    if made is None or len(wires.consumers[name]) != 1 or name in wires.results:
        return False
    return tags[made] in HOSTS | {"activation", "silu", "resize-nearest"}


def _alone(graph: Graph, layer: Layer) -> str:
    """The tag of a layer by itself."""
    node, shape = layer.node, layer.out_shape
    if layer.kind in CONVOLUTIONS:
        if layer.op not in ("Conv", "ConvInteger"):
            return layer.kind
        kernel = graph.shapes[node.inputs[1]][2:]
        if len(kernel) != 2:
            return "conv-1d-3d"
        if layer.kind == "conv" and kernel[0] != kernel[1]:
            return "asymmetric"
        overlaps = kernel[0] > int(next(iter(node.attributes.get("strides", [1]))))
        if layer.kind == "conv" and kernel[0] % 2 == 0 and kernel[0] > LARGEST_EVEN and overlaps:
            return "even-kernel"
        return "depthwise-large" if layer.kind == "depthwise" and max(kernel) > LARGEST_DEPTHWISE else layer.kind
    if layer.kind in ("matmul", "recurrent", "body"):
        return "attention" if layer.kind == "matmul" else layer.kind
    if layer.op in ("ReduceMean", "GlobalAveragePool", "GlobalMaxPool"):
        spatial = len(layer.in_shape) == 4 and _axes(graph, layer) == {2, 3}
        return "global-pool" if spatial else "normalisation"
    if layer.op == "Resize":
        mode = node.attributes.get("mode", b"nearest")
        return "resize-nearest" if mode in (b"nearest", "nearest") else "resize-smooth"
    if layer.op == "Concat":
        axis = int(node.attributes.get("axis", 1)) % max(len(shape), 1)
        return "concat" if axis == 1 and len(shape) == 4 else _move(layer)
    if layer.op in ("Add", "Mul", "Sub", "Div"):
        inputs = [i for i in node.inputs if not graph.is_constant(i)]
        same = len(inputs) == 2 and all(graph.shapes[i] == shape for i in inputs)
        return layer.op.lower() if same and len(shape) == 4 else "arithmetic"
    if layer.op in POOLS:
        return "pool"
    if layer.op == "Pad":
        plain = node.attributes.get("mode", b"constant") in (b"constant", "constant")
        return "pad" if plain else "pad-mirror"
    if layer.op in MOVES:
        if layer.op == "Slice" and layer.out_shape == layer.in_shape:
            return "view"
        if _cuts(graph, layer):
            return "slice"
        channels = layer.op == "Split" and len(shape) == 4 and int(node.attributes.get("axis", 0)) % 4 == 1
        return "split" if channels else _move(layer)
    simple = {
        "BatchNormalization": "scale",
        "Softmax": "softmax",
        "Erf": "gelu",
        "Gelu": "gelu",
        "Pow": "normalisation",
        "Sqrt": "normalisation",
        "LayerNormalization": "normalisation",
    }
    return simple.get(layer.op, "curve" if layer.op in CURVES else "other")


def _move(layer: Layer) -> str:
    """The tag of a rearrangement: the accelerator supports only images of four axes."""
    return "move" if len(layer.in_shape) == len(layer.out_shape) == 4 else "move-nd"


def _cuts(graph: Graph, layer: Layer) -> bool:
    """Whether a layer cuts a tensor apart: a slice without stride, or a split in unequal parts.

    Strided slices, as in the first layer of YOLOX, take every other element and do not count.
    """
    node = layer.node
    if layer.op == "Slice":
        known = len(node.inputs) > 4 and graph.is_constant(node.inputs[4])
        return not known or bool((np.abs(graph.constant(node.inputs[4])) == 1).all())
    return layer.op == "Split" and len({graph.shapes[o] for o in node.outputs if o}) > 1


def _axes(graph: Graph, layer: Layer) -> set[int]:
    """Axes that a reduction or a global pooling runs over."""
    node, rank = layer.node, len(layer.in_shape)
    if layer.op != "ReduceMean":
        return set(range(2, rank))
    axes = node.attributes.get("axes", range(rank))
    if len(node.inputs) > 1 and graph.is_constant(node.inputs[1]):  # opset 18 and later
        axes = graph.constant(node.inputs[1]).ravel()
    return {int(axis) % rank for axis in axes}


HOSTS = frozenset(
    {
        "conv",
        "asymmetric",
        "depthwise",
        "depthwise-large",
        "even-kernel",
        "grouped",
        "deconv",
        "fc",
        "add",
        "add-fused",
        "scale",
        "pool",
        "concat",
        "gate-branch",
    }
)
"""Tags of layers whose output stage can apply an activation."""
ADD_HOSTS = CONVOLUTIONS | {"asymmetric", "depthwise-large", "even-kernel"}
"""Tags of layers whose output stage can add another tensor."""


def _fusable(layers: tuple[Layer, ...], wires: Wiring, n: int, tags: list[str]) -> bool:
    """Whether a producer of layer n has no other reader and can fuse it into its output stage."""
    return any(_hosted(layers, wires, name, n, tags) for name in wires.source(layers[n]))


def _hosted(layers: tuple[Layer, ...], wires: Wiring, name: str, n: int, tags: list[str]) -> bool:
    made = wires.producer.get(name)
    if made is None or name in wires.results or set(wires.consumers[name]) != {n}:
        return False
    if layers[n].op != "Add":
        return tags[made] in HOSTS
    # an addition follows one convolution, with or without its activation in between
    if tags[made] in ("activation", "silu"):
        behind = [wires.producer.get(i) for i in wires.source(layers[made])]
        return any(b is not None and tags[b] in ADD_HOSTS | {"silu"} for b in behind)
    return tags[made] in ADD_HOSTS


def _multiply(graph: Graph, layers: tuple[Layer, ...], wires: Wiring, n: int, tags: list[str]) -> None:
    """Tags a product: SiLU, hard-swish, or a gate with the branch that computes it."""
    sources = wires.source(layers[n])
    for name in sources:
        made = wires.producer.get(name)
        if made is None or layers[made].op not in ("Sigmoid", "HardSigmoid"):
            continue
        if wires.source(layers[made])[0] in sources and layers[made].in_shape == layers[n].out_shape:
            silu = layers[made].op == "Sigmoid"
            tags[n], tags[made] = ("silu", "silu") if silu else ("hard-swish", "half-swish")
            return
    small = [i for i in layers[n].node.inputs if _is_gate(graph, wires, i, layers[n])]
    if small and len(layers[n].out_shape) == 4:
        tags[n] = "gate"
        _branch(graph, layers, wires, wires.buffer[small[0]], tags)


def _is_gate(graph: Graph, wires: Wiring, name: str, layer: Layer) -> bool:
    """Whether a tensor has one value per channel of the layer's output, expanded or not."""
    buffer = wires.buffer.get(name, "")
    if buffer not in wires.producer:
        return False
    held = math.prod(graph.shapes[buffer])
    return held == math.prod(layer.out_shape[:2]) < layer.out_elements


def _branch(graph: Graph, layers: tuple[Layer, ...], wires: Wiring, name: str, tags: list[str]) -> None:
    """Marks the layers that compute a gate, back to and including the global pooling."""
    waiting = [name]
    while waiting:
        name = waiting.pop()
        made = wires.producer.get(name)
        if made is None or tags[made] == "gate-branch":
            continue
        pooled = tags[made] == "global-pool"
        if not pooled and layers[made].out_elements > LARGEST_GATE:
            continue
        tags[made] = "gate-branch"
        if not pooled:
            waiting.extend(wires.source(layers[made]))
