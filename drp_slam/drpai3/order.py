# SPDX-License-Identifier: Apache-2.0
"""The order in which the accelerator runs the layers: each chain to its end."""

from __future__ import annotations

import heapq

from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.layers import Layer
from drp_slam.drpai3.subgraphs import wiring


def chain_first(graph: Graph, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers, each followed by a reader of its result if one is ready, else by the first ready
    one of the file. A file may list parallel branches alternately; in that order no tensor would be
    read by the next layer, and none would stay on chip."""
    wires = wiring(graph, layers)
    needs = [{wires.producer[s] for s in wires.source(layer) if s in wires.producer} for layer in layers]
    readers: list[set[int]] = [set() for _ in layers]
    for n, made in enumerate(needs):
        for m in made:
            readers[m].add(n)
    left = [len(made) for made in needs]
    ready = [n for n, count in enumerate(left) if not count]
    heapq.heapify(ready)
    done: set[int] = set()
    order: list[int] = []
    while ready:
        n = heapq.heappop(ready)
        while n not in done:
            done.add(n)
            order.append(n)
            following = []
            for reader in sorted(readers[n]):
                left[reader] -= 1
                if not left[reader]:
                    heapq.heappush(ready, reader)
                    following.append(reader)
            n = following[0] if following else n
    return tuple(layers[n] for n in order)
