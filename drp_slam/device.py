# SPDX-License-Identifier: Apache-2.0
"""The interface of a unit of the chip, whether emulated, replaced by the CPU, or real.

    run = device.run(program, *inputs)
    # Run(outputs, wall_s, work, device)

| device     | outputs                        | `work.unit`, to which the work counts                        |
|------------|--------------------------------|------------------------------------------------------|
| `emulated` | the unit's arithmetic          | the unit that the program is written for               |
| `cpu`      | the unit's arithmetic          | `cpu`: the chip's Cortex-A55 cores                   |
| `null`     | empty, of the right shape      | `null`: none                                       |
| `mera`     | the real board's               | `board`: nothing is modelled, `wall_s` is the board's|

A device executes and measures wall time on this host. The cost of the work on a chip is a separate
question, which `chip.soc.Soc` answers, for any chip, from `Run.work`. Nothing falls back from one
device to another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from drp_slam.errors import DeviceError

BACKENDS = ("emulated", "cpu", "null", "mera")
COUNTERS = ("pixels", "macs", "flops", "ops", "bytes", "reads", "bits", "calls")
"""Units in which work is counted: pixels streamed, int8 multiply-accumulates, floating-point operations,
byte operations, bytes moved, reads at random addresses, bits compared for a Hamming distance, and
calls from Python into a library."""


@dataclass(frozen=True)
class Work:
    """The work of one run of a program, independent of the chip.

    `unit` is the section of a device file that prices it: `drp`, `drpai3` or `cpu`; `null` where
    no unit ran it, `board` where real hardware did. `counters` is keyed by names of `COUNTERS`.
    An image kernel has a `place` (`opencva`, `preruntime`, `custom`, `cpu`), a `kind` of access
    (`point`, `stencil`, `gather`), the `configuration` that must be loaded into the DRP, and the
    `reasons` for which the CPU runs it although it is written for the DRP. A network has its ONNX
    file as `configuration`, the `shape` of its input tensor, and as `kind` whether its results
    stay with the accelerator.
    """

    unit: str
    name: str
    counters: Mapping[str, float] = field(default_factory=dict)
    place: str = ""
    kind: str = ""
    configuration: str = ""
    shape: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """Result of one program on one device; `wall_s` was measured on this host."""

    outputs: tuple[np.ndarray, ...]
    wall_s: float
    work: Work
    device: str


@dataclass(frozen=True)
class StageRun:
    """One executed stage of one frame: its wall time here, and its works in order."""

    stage: str
    unit: str
    device: str
    wall_s: float
    works: tuple[Work, ...]


def stage_run(stage: str, unit: str, runs: Sequence[Run]) -> StageRun:
    """Combines the runs of one stage, at least one."""
    return StageRun(stage, unit, runs[-1].device, sum(r.wall_s for r in runs), tuple(r.work for r in runs))


class Program(Protocol):
    """A program for a device: its arithmetic on this host, and the count of its work."""

    name: str

    def compute(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The outputs, bit for bit those of the unit."""

    def empty(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Outputs of the right shape and dtype without the arithmetic."""

    def work(self, *inputs: np.ndarray) -> Work:
        """The work on the unit that it is written for."""


class Device(Protocol):
    """One unit of silicon, or a replacement for it."""

    name: str
    unit: str

    def run(self, program: Any, *inputs: np.ndarray) -> Run:
        """Runs the program once."""


class EmulatedDevice:
    """A unit of the chip, emulated: its arithmetic, bit for bit, computed on this host."""

    name = "emulated"

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def run(self, program: Program, *inputs: np.ndarray) -> Run:
        start = time.perf_counter()
        outputs = program.compute(*inputs)
        wall_s = time.perf_counter() - start
        return Run(outputs, wall_s, program.work(*inputs), self.name)


class CpuDevice(EmulatedDevice):
    """The same arithmetic as the CPU's own work: the CPU-only baseline."""

    name = "cpu"

    def run(self, program: Program, *inputs: np.ndarray) -> Run:
        run = super().run(program, *inputs)
        return replace(run, work=replace(run.work, unit="cpu", place="cpu"))


class NullDevice:
    """Runs nothing: for tests of plumbing."""

    name = "null"

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def run(self, program: Program, *inputs: np.ndarray) -> Run:
        return Run(program.empty(*inputs), 0.0, replace(program.work(*inputs), unit="null"), self.name)


def open_device(backend: str, unit: str) -> Device:
    """The device that runs programs of `unit`. Raises DeviceError for another backend."""
    kinds: dict[str, Callable[[str], Device]] = {"emulated": EmulatedDevice, "cpu": CpuDevice, "null": NullDevice}
    if backend not in kinds:
        raise DeviceError(f"backend {backend!r} cannot run {unit}; use {', '.join(kinds)}")
    return kinds[backend](unit)
