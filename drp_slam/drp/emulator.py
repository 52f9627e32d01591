# SPDX-License-Identifier: Apache-2.0
"""The DRP, emulated: results by OpenCV and numpy on this host, time and energy by the model."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

import numpy as np

from drp_slam.device import Constants, Run, a55_seconds
from drp_slam.drp.kernels import Kernel
from drp_slam.drp.pricing import MINDIV_DEFAULT, at_mindiv, drp_joules, drp_seconds


class EmulatedDrp:
    """`device.Device` of the unit `drp`: one call at a time.

    A kernel placed on the CPU, or whose conditions fail, is modelled on the Cortex-A55 and
    counted in `fallback_calls` (the latter). `counters` add to the kernel's own work:
    `modelled_<place>_s` for each place, so that reports can leave `custom` out; `custom_on_cpu_s`,
    what those kernels would take on the A55 instead; `configuration_loads`.
    """

    unit = "drp"

    def __init__(self, constants: Constants, mindiv: int = MINDIV_DEFAULT) -> None:
        """`mindiv` is the driver's clock divider. Raises DrpError outside 2..127."""
        if mindiv != MINDIV_DEFAULT:
            constants = at_mindiv(constants, mindiv)
        self.name, self._constants = f"emulated:{constants.name}", constants
        self._resident: dict[str, OrderedDict[str, None]] = {}
        self._busy = threading.Lock()

    def run(self, program: Kernel, *inputs: np.ndarray) -> Run:
        with self._busy:
            start = time.perf_counter()
            outputs = program.compute(*inputs)
            wall_s = time.perf_counter() - start
            work = dict(program.work(*inputs))
            reasons = program.reasons(*inputs)
            place = "cpu" if reasons else program.place
            a55_s = a55_seconds(self._constants, work)
            if place == "cpu":
                modelled_s, energy_j = a55_s, a55_s * self._constants["cpu.power_busy"]
            else:
                load_s = self._load(program, place, work)
                modelled_s = load_s + drp_seconds(self._constants, place, program.kind, work)
                energy_j = drp_joules(self._constants, modelled_s)
        work["fallback_calls"] = float(bool(reasons))
        work[f"modelled_{place}_s"] = modelled_s
        work["custom_on_cpu_s"] = a55_s if place == "custom" else 0.0
        return Run(outputs, wall_s, modelled_s, energy_j, self.name, work)

    def _load(self, program: Kernel, place: str, work: dict[str, float]) -> float:
        """Seconds to make the kernel's configuration the active one.

        A resident configuration is switched to in one clock; another one is loaded and replaces
        the one unused for longest. DRP0 (PreRuntime) and DRP1 hold their own.
        """
        held = self._resident.setdefault("drp0" if place == "preruntime" else "drp1", OrderedDict())
        known = program.configuration in held
        held[program.configuration] = None
        held.move_to_end(program.configuration)
        if len(held) > self._constants["drp.resident_configurations"]:
            held.popitem(last=False)
        work["configuration_loads"] = float(not known)
        if known:
            return 1.0 / self._constants["drp.clock"]
        return self._constants["drp.configuration_load"]
