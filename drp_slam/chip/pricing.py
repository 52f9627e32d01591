# SPDX-License-Identifier: Apache-2.0
"""First-order cost models of units with counted work: the DRP and the CPU.

    DRP call = overhead(place) + max(pixels / rate(kind) / clock, operations / alu rate / clock,
                                     bytes / bandwidth) [+ copies in and out, for OpenCVA]
               + loading its configuration, where it is not resident
               for random reads: pixels counts 16-byte beats, and
               reads * latency / outstanding + beats, in cycles of the bus, replaces pixels / rate
    CPU call = overhead + macs / int8 rate + flops / float rate + ops / byte-operation rate

The CPU's work is priced as a compiled port, or as this Python package
(`python=True`): there a Hamming distance is part of a matrix product, and every call into a
library costs its dispatch.

No time per function is public; `docs/drp.md` says which constants are cited and which assumed.
"""

from __future__ import annotations

from collections.abc import Mapping

from drp_slam.chip.constants import Constants
from drp_slam.chip.cost import Cost
from drp_slam.device import Work
from drp_slam.errors import DeviceError

CPU_RATES = {"macs": "cpu.int8_mac_rate", "flops": "cpu.float_rate", "ops": "cpu.pixel_op_rate"}
BYTE_OPS_A_BIT = 3 / 8
"""A Hamming distance on NEON: exclusive or, population count and addition of bytes."""
FLOPS_A_BIT = 2
"""The same as part of a matrix product of vectors of +-1."""


def clock_hz(constants: Constants, key: str, divider: int) -> float:
    """Clock of constant `key` (such as `drp.clock`) at a setting of the driver's divider.

    The device file gives the rule beside the clock: `<key>_source` / (divider + `<key>_offset`),
    never above the clock itself, for dividers from `<key>_divider_low` to `<key>_divider_high`.
    Raises DeviceError for a divider outside.
    """
    low, high = (int(constants[f"{key}_divider_{end}"]) for end in ("low", "high"))
    if not low <= divider <= high:
        slowest_hz = constants[f"{key}_source"] / (high + constants[f"{key}_offset"])
        raise DeviceError(
            f"divider of {key} is {divider}, expected {low} ({constants[key] / 1e6:g} MHz) to {high} "
            f"({slowest_hz / 1e6:.4g} MHz) on {constants.name}"
        )
    step = divider + constants[f"{key}_offset"]
    return constants[key] if step <= 0 else min(constants[key], constants[f"{key}_source"] / step)


def cpu_cost(constants: Constants, counters: Mapping[str, float], python: bool = False) -> Cost:
    """One call with `counters` on all cores (first order), of a compiled port or of this Python package."""
    parts = {"overhead": constants["cpu.call_overhead"]}
    parts |= {counter: counters.get(counter, 0.0) / constants[rate] for counter, rate in CPU_RATES.items()}
    if bits := counters.get("bits", 0.0):
        compiled_s = bits * BYTE_OPS_A_BIT / constants["cpu.pixel_op_rate"]
        parts["hamming"] = bits * FLOPS_A_BIT / constants["cpu.float_rate"] if python else compiled_s
    if python and (calls := counters.get("calls", 0.0)):
        parts["dispatch"] = calls * constants["cpu.python_call"]
    modelled_s = sum(parts.values())
    return Cost(modelled_s, modelled_s * constants["cpu.power_busy"], "", parts, counters.get("bytes", 0.0))


def drp_cost(constants: Constants, work: Work, resident: bool) -> Cost:
    """One call of a kernel on the DRP.

    Switching to a `resident` configuration takes one clock; another one is loaded first.
    """
    clock, counters = constants["drp.clock"], work.counters
    operations = sum(counters.get(counter, 0.0) for counter in ("ops", "flops", "macs"))
    copied = counters.get("bytes", 0.0) if work.place == "opencva" else 0.0
    streamed_s = counters.get("pixels", 0.0) / (constants[f"drp.{work.kind}_rate"] * clock)
    if reads := counters.get("reads", 0.0):
        waits = reads * constants["drp.read_latency"] / constants["drp.outstanding_reads"]
        streamed_s = (waits + counters.get("pixels", 0.0)) * constants["drp.bus_period"]
    parts = {
        "configuration": 1.0 / clock if resident else constants["drp.configuration_load"],
        "overhead": constants[f"drp.{work.place}_overhead"],
        "compute": max(
            streamed_s,
            operations / (constants["drp.alu_rate"] * clock),
            counters.get("bytes", 0.0) / constants["drp.memory_bandwidth"],
        ),
        "copies": copied / constants["drp.copy_bandwidth"] if copied else 0.0,
    }
    modelled_s = sum(parts.values())
    return Cost(modelled_s, modelled_s * constants["drp.power_busy"], "", parts, counters.get("bytes", 0.0))
