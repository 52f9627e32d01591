# SPDX-License-Identifier: Apache-2.0
"""A network as work of the accelerator, and the model that prices such work on a chip."""

from __future__ import annotations

from pathlib import Path

from drp_slam import resources
from drp_slam.chip.constants import Constants
from drp_slam.chip.cost import Cost
from drp_slam.device import Work
from drp_slam.drpai3.graph import Graph, load

RESULTS_STAY, RESULTS_TAKEN = "results stay", "results taken"
"""Values of `Work.kind`: the DRP reads the results in place, or the CPU fetches them."""


def network_work(onnx: Path, shape: tuple[int, ...], kind: str) -> Work:
    """One inference for an input of `shape`; counts `macs`, dense, from the graph."""
    from drp_slam.drpai3.layers import layers

    macs = float(sum(layer.macs for layer in layers(load(onnx, {"": shape}))))
    return Work("drpai3", onnx.stem, {"macs": macs}, kind=kind, configuration=str(onnx), shape=shape)


class NetworkCost:
    """Prices networks for `chip.soc.Soc`, at the AI-MAC clock index of the board's runtime.

    Reads each network once for each shape. Raises ResourceError for a missing file, DrpAi3Error
    for one that cannot be read or does not fit the chip.
    """

    def __init__(self, freq_index: int = 2) -> None:
        self._freq_index = freq_index
        self._graphs: dict[tuple[str, tuple[int, ...], bool], Graph] = {}

    def at(self, freq_index: int) -> NetworkCost:
        """The same networks at another clock, not read again."""
        other = NetworkCost(freq_index)
        other._graphs = self._graphs
        return other

    def __call__(self, constants: Constants, work: Work) -> Cost:
        from drp_slam.drpai3.estimate import estimate

        in_place = work.kind == RESULTS_STAY
        key = (work.configuration, work.shape, in_place)
        if key not in self._graphs:
            path = Path(work.configuration)  # on the machine that ran it; a shipped network is found by name
            self._graphs[key] = load(
                path if path.is_file() else resources.network(work.name), {"": work.shape}, in_place=in_place
            )
        found = estimate(self._graphs[key], constants, self._freq_index, results_stay=in_place)
        parts = {"overhead": found.overhead_s, "crossings": found.crossing_s}
        for row in found.rows:
            parts[row.unit] = parts.get(row.unit, 0.0) + row.seconds
        return Cost(found.total_s, found.energy_j, "", parts, found.bytes)
