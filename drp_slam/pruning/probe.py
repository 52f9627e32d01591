# SPDX-License-Identifier: Apache-2.0
"""Measures the layers of a graph on images, with onnxruntime, one image at a time.

Memory holds only the activations of one image at the layers of one group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from drp_slam.errors import PruningError
from drp_slam.pruning import prunable as L
from drp_slam.pruning.importance import Statistics
from drp_slam.pruning.inputs import Feed, Feeds
from drp_slam.pruning.layout import matrix, unmatrix
from drp_slam.pruning.onnxgraph import Graph

GROUP_BYTES, GROUP_LAYERS = 2**29, 64
"""Upper limits of bytes of Hessians, and of layers, per pass over the images."""
SENSITIVITY_MACS, SENSITIVITY_IMAGES = 4e11, 4
"""Work limit for measuring the sensitivity of layers, and upper limit of images."""
PROBE_PART = 0.5
"""Share of a layer's weights removed to measure the effect on the outputs."""
Progress = Callable[[str, float], None]


class Session:
    """A graph in onnxruntime with chosen outputs; weights in `open_weights` become inputs."""

    def __init__(self, model: onnx.ModelProto, outputs: Sequence[str], open_weights: Sequence[str] = ()) -> None:
        wanted = onnx.ModelProto()
        wanted.CopyFrom(model)
        known = {o.name: o for o in model.graph.output}
        del wanted.graph.output[:]
        self.outputs = list(dict.fromkeys(outputs))
        wanted.graph.output.extend(known.get(name) or onnx.ValueInfoProto(name=name) for name in self.outputs)
        inputs = {i.name for i in model.graph.input}
        for tensor in model.graph.initializer:
            if tensor.name in open_weights and tensor.name not in inputs:
                value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                wanted.graph.input.append(value)
        wanted.ir_version = max(wanted.ir_version, 4)  # initialisers need not be inputs, and may be overridden
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.log_severity_level = 4  # errors are raised, so need not be printed
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                wanted.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own error types
            raise PruningError(f"onnxruntime cannot load the network: {str(error).splitlines()[0]}") from error

    def run(self, feed: Feed) -> dict[str, np.ndarray]:
        """The values by name. Raises PruningError with the shapes if the graph refuses them."""
        try:
            return dict(zip(self.outputs, self._session.run(self.outputs, feed)))
        except Exception as error:  # onnxruntime's own error types
            shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in feed.items())
            reason = str(error).splitlines()[0]
            raise PruningError(f"the network cannot be run on {shapes}: {reason}; give another --shape") from error


def positions(graph: Graph, layers: L.Layers, feed: Feed) -> dict[str, int]:
    """Output positions (H x W, rows of a MatMul) of each layer for one input, over all its places in the graph."""
    wanted = [site.result for name in layers for site in graph.sites[name]]
    found = Session(graph.model, wanted).run(feed)
    sizes = {name: sum(found[s.result].size for s in graph.sites[name]) for name in layers}
    return {name: sizes[name] // module.weight.shape[0] for name, module in layers.items()}


def groups(layers: L.Layers, room: int = GROUP_BYTES, most: int = GROUP_LAYERS) -> Iterator[dict[str, Any]]:
    """The layers in order, in groups whose Hessians fit into `room` bytes."""
    group: dict[str, Any] = {}
    held = 0
    for name, module in layers.items():
        size = 8 * (matrix(module.weight).shape[0] + 1) ** 2
        if group and (held + size > room or len(group) == most):
            yield group
            group, held = {}, 0
        group[name] = module
        held += size
    if group:
        yield group


def sources(graph: Graph, layers: L.Layers) -> list[str]:
    """The values that feed the layers."""
    return [site.source for name in layers for site in graph.sites[name]]


def seen_rows(graph: Graph, name: str, module: Any, values: Mapping[str, np.ndarray], sample: int) -> Iterator[Tensor]:
    """The input rows (n, K) at each place of a layer, at most `sample` positions per image."""
    for site in graph.sites[name]:
        x = torch.from_numpy(values[site.source].astype(np.float32, copy=False))
        yield L.rows(module, site.padded(module, x), sample).flatten(0, 1)


def collect(
    graph: Graph, layers: L.Layers, feeds: Feeds, *, sample: int = 512, progress: Progress | None = None
) -> dict[str, Statistics]:
    """`Statistics` of each layer with `inputs` over all feeds, and `outputs` from `sensitivity`.

    Raises PruningError if a layer gets NaN or infinite values.
    """
    found: dict[str, Statistics] = {}
    parts = list(groups(layers))
    for number, group in enumerate(parts):
        session = Session(graph.model, sources(graph, group))
        own = {name: Statistics.empty(module) for name, module in group.items()}
        for index, feed in enumerate(feeds):
            values = session.run(feed)
            for name, module in group.items():
                for rows in seen_rows(graph, name, module, values, sample):
                    own[name].see(rows[None])
            if progress:
                progress(f"layer inputs, image {index + 1} of {len(feeds)}", (number + index / len(feeds)) / len(parts))
        found |= {name: statistics.mean() for name, statistics in own.items()}
    for name, weight in sensitivity(graph, layers, found, feeds, progress).items():
        found[name].outputs = torch.full_like(found[name].outputs, weight)
    return found


def sensitivity(
    graph: Graph, layers: L.Layers, statistics: Mapping[str, Statistics], feeds: Feeds, progress: Progress | None = None
) -> dict[str, float]:
    """Layer -> relative change of the network's outputs per unit of squared error of the layer's outputs.

    A finite difference, without gradients: the smallest half of the layer's weights is set to
    zero, the outputs' change is measured, and the layer's own error follows from its statistics.
    """
    count = positions(graph, layers, feeds[0])
    macs = sum(count[n] * m.weight.numel() for n, m in layers.items())
    some = feeds.first(max(1, min(SENSITIVITY_IMAGES, int(SENSITIVITY_MACS / max(1.0, macs * len(layers))))))
    session = Session(graph.model, graph.outputs, [graph.sites[name][0].stored for name in layers])
    wanted = [session.run(feed) for feed in some]
    found = {}
    for index, (name, module) in enumerate(layers.items()):
        if progress:
            progress(f"sensitivity of {name}", index / len(layers))
        w = matrix(module.weight.detach())
        gone = torch.where(w.abs() <= w.abs().flatten().kthvalue(max(1, int(PROBE_PART * w.numel()))).values, w, 0.0)
        h = statistics[name].inputs[:-1, :-1]
        own = float((gone.double() * (h @ gone.double())).sum())
        stored = weight_as_stored(graph, name, unmatrix(w - gone, module.weight.shape))
        change = [output_error(y, session.run(feed | stored)) for y, feed in zip(wanted, some)]
        found[name] = sum(change) / len(change) / max(own, 1e-30)
    floor = 1e-3 * sorted(found.values())[len(found) // 2]  # for a layer whose probe changes nothing by chance
    return {name: max(value, floor, 1e-30) for name, value in found.items()}


def weight_as_stored(graph: Graph, name: str, weight: Tensor) -> Feed:
    """A layer's weight as an input of a session with this weight open."""
    site = graph.sites[name][0]
    tensor = graph.constants[site.stored]
    array = (weight.T if site.transposed else weight).numpy().reshape(tuple(tensor.dims))
    return {site.stored: np.ascontiguousarray(array, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))}


def output_error(wanted: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> float:
    """Squared difference of the float outputs over their squared deviation from the mean, 0 = equal."""
    parts = []
    for name, a in wanted.items():
        if a.dtype.kind == "f" and a.size > 1 and found[name].shape == a.shape:
            a, b = a.astype(np.float64), found[name].astype(np.float64)
            parts.append(float(((b - a) ** 2).sum() / max(((a - a.mean()) ** 2).sum(), 1e-12)))
    return sum(parts) / max(len(parts), 1)


def network_error(dense: onnx.ModelProto, pruned: onnx.ModelProto, feeds: Feeds) -> float:
    """Mean of `output_error` over the feeds."""
    outputs = [o.name for o in dense.graph.output]
    sessions = Session(dense, outputs), Session(pruned, outputs)
    return float(np.mean([output_error(*(session.run(feed) for session in sessions)) for feed in feeds]))
