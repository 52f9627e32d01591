# SPDX-License-Identifier: Apache-2.0
"""Energy of a network on DRP-AI3, to first order: products, busy time, and DDR traffic.

No power of the board is published. The array's power follows from ISSCC 2024 20.3 (130 TOPS at
23.9 TOPS/W: about 5.4 W at the sparse peak, where every multiplier works), which is an energy for
each product. Idle multipliers (partly filled tiles, padded slots, stalls) take none:
"switches to avoid zero data processing" are published (RDK docs, rdk_overview.rst), that they avoid
all of it is assumed. Zeros among the activations are not counted: their share in the published figure
is unknown. The power of the DRP, the waiting accelerator and DDR is assumed, see the device
file. The energy of a product does not depend on the clock (constant voltage).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drp_slam.drpai3.timing import Parts, Table


@dataclass(frozen=True)
class Energy:
    """Joules of each layer by place, (L,) each. `ddr` is outside the accelerator."""

    array: np.ndarray
    drp: np.ndarray
    cpu: np.ndarray
    idle: np.ndarray
    ddr: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return self.array + self.drp + self.cpu + self.idle + self.ddr

    @property
    def accelerator(self) -> np.ndarray:
        """The energy in a TOPS/W figure of the accelerator."""
        return self.array + self.drp + self.idle


def ddr_bytes(t: Table) -> np.ndarray:
    """(L,) bytes that cross the accelerator's memory interface for each layer: weights and features."""
    return t.weight_bytes + t.load + t.store


def layer_joules(t: Table, parts: Parts, kept: np.ndarray, c: Mapping[str, float]) -> Energy:
    """Energy of each layer; `kept` (L,) is the share of its weights that are not zero."""
    matrix = parts.compute > 0
    per_mac = c["drpai3.array_power"] / (c["drpai3.dense_peak"] / 2)
    return Energy(
        array=matrix * t.macs * kept * per_mac,
        drp=parts.drp * c["drpai3.drp_power"],
        cpu=parts.cpu * c["cpu.power_busy"],
        idle=parts.total * c["drpai3.idle_power"],
        ddr=ddr_bytes(t) * c["drpai3.ddr_energy"],
    )
