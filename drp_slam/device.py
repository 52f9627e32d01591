# SPDX-License-Identifier: Apache-2.0
"""The one contract behind which a unit of the chip is emulated, replaced by the CPU, or real.

    run = device.run(program, *inputs)
    # Run(outputs, wall_s, modelled_s, energy_j, device, counters)

| device     | outputs                   | modelled_s, energy_j                                 |
|------------|---------------------------|------------------------------------------------------|
| `emulated` | the program's arithmetic  | model of the unit on the chip                        |
| `cpu`      | the program's arithmetic  | first-order model of the chip's own Cortex-A55 cores |
| `null`     | empty, of the right shape | zero                                                 |
| `mera`     | the real board's          | None: nothing is modelled, `wall_s` is the board's   |

Wall time is measured on this host, modelled time is computed; no variable, column or sum mixes
the two. Nothing falls back from one device to another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from drp_slam import resources
from drp_slam.errors import DeviceError

BACKENDS = ("emulated", "cpu", "null", "mera")


@dataclass(frozen=True)
class Run:
    """Result of one program on one device.

    `wall_s` was measured on this host. `modelled_s` and `energy_j` are computed for the chip, or
    None where nothing is modelled. `device` says what ran it, such as `emulated:rzv2h`. `counters`
    is the program's work and whatever the device counted, such as `cycles`.
    """

    outputs: tuple[np.ndarray, ...]
    wall_s: float
    modelled_s: float | None
    energy_j: float | None
    device: str
    counters: Mapping[str, float] = field(default_factory=dict)


class Program(Protocol):
    """Work that a device can run: its arithmetic on this host and a count of what it takes."""

    name: str

    def compute(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The outputs, bit for bit what the unit would give."""

    def empty(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Outputs of the right shape and dtype without the arithmetic."""

    def work(self, *inputs: np.ndarray) -> Mapping[str, float]:
        """What it takes, independent of the unit: `macs` (int8), `flops`, `ops`, `bytes`."""


class Device(Protocol):
    """One unit of silicon, or what stands in for it."""

    name: str
    unit: str

    def run(self, program: Any, *inputs: np.ndarray) -> Run:
        """Runs the program once."""


class NullDevice:
    """Runs nothing: for tests of plumbing."""

    def __init__(self, unit: str) -> None:
        self.name, self.unit = "null", unit

    def run(self, program: Program, *inputs: np.ndarray) -> Run:
        return Run(program.empty(*inputs), 0.0, 0.0, 0.0, self.name, program.work(*inputs))


class CpuDevice:
    """The program on this host's CPU, modelled as if the chip's Cortex-A55 cores ran it.

    First order: `macs / int8 rate + flops / float rate + ops / byte-operation rate`, all four
    cores, at `cpu.power_busy`. It serves as the CPU-only baseline and for the stages that stay on
    the CPU in any case.
    """

    def __init__(self, constants: Constants, unit: str = "cpu") -> None:
        self.name, self.unit, self._constants = "cpu", unit, constants

    def run(self, program: Program, *inputs: np.ndarray) -> Run:
        start = time.perf_counter()
        outputs = program.compute(*inputs)
        wall_s = time.perf_counter() - start
        work = program.work(*inputs)
        modelled_s = a55_seconds(self._constants, work)
        energy_j = modelled_s * self._constants["cpu.power_busy"]
        return Run(outputs, wall_s, modelled_s, energy_j, self.name, work)


def a55_seconds(constants: Constants, work: Mapping[str, float]) -> float:
    """Modelled time of `work` on the chip's four Cortex-A55 cores, in seconds (first order)."""
    rates = {"macs": "cpu.int8_mac_rate", "flops": "cpu.float_rate", "ops": "cpu.pixel_op_rate"}
    return constants["cpu.call_overhead"] + sum(
        work.get(counter, 0.0) / constants[rate] for counter, rate in rates.items()
    )


@dataclass(frozen=True)
class Constant:
    """One number of a device model. `source` is a citation, `fitted ...` or `assumed ...`."""

    key: str
    value: float
    unit: str
    source: str

    @property
    def kind(self) -> str:
        """`cited`, `fitted` or `assumed`."""
        first = self.source.split(maxsplit=1)[0].rstrip(":;,.").lower()
        return first if first in ("fitted", "assumed") else "cited"


class Constants(Mapping[str, float]):
    """The numbers of one file in `config/devices`, by dotted key, each with unit and source."""

    def __init__(self, name: str, entries: dict[str, Constant]) -> None:
        self.name, self._entries = name, entries

    def __getitem__(self, key: str) -> float:
        try:
            return self._entries[key].value
        except KeyError:
            raise DeviceError(
                f"device {self.name!r} has no constant {key!r}; add it to its file with value, unit and source"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, key: str) -> Constant:
        """The constant with its unit and source."""
        self[key]
        return self._entries[key]

    def entries(self) -> tuple[Constant, ...]:
        """All constants, in the file's order."""
        return tuple(self._entries.values())

    def replace(self, values: Mapping[str, float]) -> Constants:
        """A copy with other values (for fits, clocks and what-if questions)."""
        entries = dict(self._entries)
        for key, value in values.items():
            old = self.entry(key)
            entries[key] = Constant(key, float(value), old.unit, old.source)
        return Constants(self.name, entries)


@lru_cache(maxsize=8)
def load_constants(name: str = "rzv2h") -> Constants:
    """Reads `config/devices/<name>.yaml` (or a file).

    Raises DeviceError where a leaf lacks `value`, `unit` or `source`.
    """
    import yaml

    path: Path = resources.device_file(name)
    tree = yaml.safe_load(path.read_text())
    if not isinstance(tree, dict):
        raise DeviceError(f"{path}: expected a mapping of constants; see config/devices/rzv2h.yaml")
    entries: dict[str, Constant] = {}

    def walk(node: Any, key: str) -> None:
        if isinstance(node, dict) and "value" in node:
            missing = {"value", "unit", "source"} - set(node)
            if missing or not str(node["source"]).strip():
                raise DeviceError(
                    f"{path}: {key} lacks {sorted(missing) or ['source']}; every constant has value, unit and source"
                )
            unit, source = str(node["unit"]), str(node["source"])
            entries[key] = Constant(key, float(node["value"]), unit, source)
        elif isinstance(node, dict):
            for child, value in node.items():
                walk(value, f"{key}.{child}" if key else str(child))
        elif key not in ("title",):
            raise DeviceError(f"{path}: {key} is a bare {node!r}; write value, unit and source")

    walk(tree, "")
    return Constants(path.stem, entries)
