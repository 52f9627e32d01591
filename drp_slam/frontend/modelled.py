# SPDX-License-Identifier: Apache-2.0
"""The chip that a configuration models, with the models of all its units."""

from __future__ import annotations

from collections.abc import Iterable

from drp_slam.chip.soc import Soc
from drp_slam.config import Config
from drp_slam.drpai3.network_cost import NetworkCost


def open_soc(config: Config, units: Iterable[str] = ()) -> Soc:
    """The chip `config.graph.device` at the configured clocks.

    `units` are those whose work must be modelled. Raises DeviceError if the device file cannot
    model work that runs emulated on one of them.
    """
    soc = Soc.open(config.graph.device, config.drp.mindiv, {"drpai3": NetworkCost(config.drpai3.freq_index)})
    backends = {"drp": config.drp.backend, "drpai3": config.drpai3.backend}
    soc.require(["cpu", *(u for u in units if backends.get(u) == "emulated")])
    return soc
