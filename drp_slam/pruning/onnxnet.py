# SPDX-License-Identifier: Apache-2.0
"""The torch form of an ONNX graph, for retraining and first-order saliencies, which need gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import onnxops
from drp_slam.pruning.onnxgraph import Graph
from drp_slam.pruning.onnxlift import attributes


class OnnxNet(nn.Module):
    """Runs a graph whose layers are `graph.bag`'s own modules: training them changes the graph's weights.

    With `parts`, it gives `Graph.parts` instead of the outputs, for a loss. Raises PruningError for
    an operator without a torch form (`onnxops`), which it names.
    """

    def __init__(self, graph: Graph, parts: bool = False) -> None:
        super().__init__()
        if len(graph.inputs) != 1:
            raise PruningError(f"the network has {len(graph.inputs)} inputs; retraining and gradients take one")
        known = {*onnxops.SIMPLE, *onnxops.GENERAL}
        for name, module in graph.bag.named_children():
            self.add_module(name, module)
        self._layers, skipped = {}, set()
        for name, sites in graph.sites.items():
            for site in sites:
                self._layers[site.last] = name, site
                skipped |= {site.node} - {site.last}
        for index, node in enumerate(graph.nodes):
            if node.op_type not in known and index not in self._layers and index not in skipped:
                raise PruningError(
                    f"--retrain, and saliencies that need gradients, differentiate the whole network; node "
                    f"{node.name or node.output[0]!r} is a {node.op_type}, which has no torch form here; prune by "
                    "obs, obd or magnitude without --retrain"
                )
        self._nodes = [(i, node, attributes(node)) for i, node in enumerate(graph.nodes) if i not in skipped]
        self._input, self._outputs = graph.inputs[0].name, graph.parts() if parts else graph.outputs
        self._values = {n: torch.from_numpy(np.array(numpy_helper.to_array(w))) for n, w in graph.constants.items()}
        reads = [[self._layers[i][1].source] if i in self._layers else list(node.input) for i, node, _ in self._nodes]
        self._spent = _last_uses(reads, {*self._outputs, *self._values})

    def forward(self, x: Tensor) -> Any:
        """One output as a tensor, several as a tuple."""
        values: dict[str, Any] = {**self._values, self._input: x}
        for (index, node, a), spent in zip(self._nodes, self._spent):
            if index in self._layers:
                name, site = self._layers[index]
                module = self._modules[name]
                assert module is not None
                found = module(site.padded(module, values[site.source]))
            else:
                given = [values[name] if name else None for name in node.input]
                simple = onnxops.SIMPLE.get(node.op_type)
                found = simple(*given) if simple else onnxops.GENERAL[node.op_type](given, a)
            for name, value in zip(node.output, found if isinstance(found, (tuple, list)) else (found,)):
                values[name] = value
            for name in spent:
                values.pop(name, None)
        result = tuple(values[name] for name in self._outputs)
        return result[0] if len(result) == 1 else result


def _last_uses(reads: Sequence[Sequence[str]], kept: set[str]) -> list[list[str]]:
    """The values that each node is the last to read."""
    seen, found = set(kept), []
    for names in reversed(reads):
        last = [name for name in names if name and name not in seen]
        seen.update(last)
        found.append(last)
    return found[::-1]
