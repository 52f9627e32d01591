# SPDX-License-Identifier: Apache-2.0
"""A chip: prices work for its units, from one file of `config/devices`."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from drp_slam.chip.constants import Constants, Unit, load_constants
from drp_slam.chip.cost import FREE, UNKNOWN, Cost
from drp_slam.chip.pricing import clock_hz, cpu_cost, drp_cost
from drp_slam.device import Work
from drp_slam.errors import DeviceError

UnitModel = Callable[[Constants, Work], Cost]
"""Prices work of a unit with a model outside `chip` (the accelerator's needs the network)."""


class Soc:
    """`soc.cost(work)` for any work; the same result for the same work.

    `models` price the units of work that `chip` cannot, by name (`drpai3`). If the chip has no
    unit or no constants for a work, its cost is NaN; `require` checks that in advance.
    """

    def __init__(self, constants: Constants, models: Mapping[str, UnitModel] | None = None) -> None:
        self.constants, self._models = constants, dict(models or {})
        self._networks: dict[tuple[str, str, tuple[int, ...]], Cost] = {}
        self._unit_of = {runs: unit for unit in constants.units for runs in unit.runs}

    @classmethod
    def open(cls, device: str, mindiv: int = 2, models: Mapping[str, UnitModel] | None = None) -> Soc:
        """A chip by name or file; `mindiv` is the DRP driver's clock divider.

        Raises ResourceError, DeviceError.
        """
        constants = load_constants(device)
        if "drp.clock" in constants:
            constants = constants.replace({"drp.clock": clock_hz(constants, "drp.clock", mindiv)})
        return cls(constants, models)

    @property
    def name(self) -> str:
        return self.constants.name

    @property
    def units(self) -> tuple[Unit, ...]:
        return self.constants.units

    def with_constants(self, constants: Constants) -> Soc:
        """The same models with other values of some constants."""
        return Soc(constants, self._models)

    def unit_of(self, unit: str, place: str = "") -> Unit | None:
        """The unit of silicon that serves work of `unit` at `place`; None if the chip has none."""
        return self._unit_of.get(f"{unit}.{place}") or self._unit_of.get(unit)

    def require(self, units: Iterable[str]) -> None:
        """Raises DeviceError, in one line, if work of one of `units` cannot be modelled."""
        units = tuple(dict.fromkeys(units))
        lacking = [u for u in units if not self._models_work_of(u)]
        if lacking:
            raise DeviceError(
                f"device {self.name!r} cannot model work of {', '.join(lacking)}: its file has no section "
                f"{lacking[0]!r} or no unit that runs it; use another --device, run the work on the CPU "
                f"(--set {lacking[0]}.backend=cpu), or add them with their sources"
            )
        # reports a missing constant here, not at the first kernel that needs it
        for place, kind in itertools.product(("opencva", "preruntime", "custom"), ("point", "stencil", "gather")):
            self.cost(Work("drp", "trial", {}, place, kind) if "drp" in units else Work("null", "trial"))
        self.cpu_cost(())

    def _models_work_of(self, unit: str) -> bool:
        served = any(runs.split(".")[0] == unit for runs in self._unit_of)
        known = unit in self._models or unit in ("drp", "cpu")
        return served and known and any(key.startswith(f"{unit}.") for key in self.constants)

    def cost(self, work: Work, resident: bool = True, python: bool = False) -> Cost:
        """Modelled cost of `work` on the unit that ran it; `resident`: the DRP has its configuration loaded.

        `python`: price the CPU's work as this Python package, else as a compiled port.
        """
        if work.unit == "null":
            return FREE
        unit = self.unit_of(work.unit, work.place)
        if unit is None or not self._models_work_of(work.unit):
            return UNKNOWN
        if work.unit in self._models:
            key = (work.unit, work.configuration, work.shape)
            if key not in self._networks:
                self._networks[key] = self._models[work.unit](self.constants, work)
            return replace(self._networks[key], unit=unit.name)
        if work.unit == "cpu":
            return replace(cpu_cost(self.constants, work.counters, python), unit=unit.name)
        return replace(drp_cost(self.constants, work, resident), unit=unit.name)

    def cpu_cost(self, works: Iterable[Work], python: bool = False) -> Cost:
        """The same work on the chip's CPU alone, as one call; `python` as in `cost`."""
        counters: dict[str, float] = {}
        for work in works:
            for counter, value in work.counters.items():
                counters[counter] = counters.get(counter, 0.0) + value
        return self.cost(Work("cpu", "cpu alone", counters), python=python)


class Meter:
    """Prices works in the order in which a chip runs them, and tracks the configurations loaded into the DRP.

    A configuration that is not resident is loaded and replaces the least recently used one. Each
    unit of silicon has its own.
    """

    def __init__(self, soc: Soc) -> None:
        self.soc = soc
        self._resident: dict[str, OrderedDict[str, None]] = {}

    def cost(self, work: Work) -> Cost:
        """Modelled cost of `work` after the previous ones."""
        unit = self.soc.unit_of(work.unit, work.place)
        if work.unit != "drp" or unit is None or "drp.resident_configurations" not in self.soc.constants:
            return self.soc.cost(work)
        held = self._resident.setdefault(unit.name, OrderedDict())
        resident = work.configuration in held
        held[work.configuration] = None
        held.move_to_end(work.configuration)
        if len(held) > self.soc.constants["drp.resident_configurations"]:
            held.popitem(last=False)
        return self.soc.cost(work, resident)
