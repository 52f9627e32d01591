# SPDX-License-Identifier: Apache-2.0
"""Modelled seconds and joules of a kernel on the DRP. Nothing here is measured on the chip.

    call = overhead(place) + max(pixels / rate(kind) / clock, operations / alu rate / clock,
                                 bytes / bandwidth) [+ copies in and out, for OpenCVA]

No time per function is public; `docs/drp.md` says which constants are cited and which assumed.
"""

from __future__ import annotations

from collections.abc import Mapping

from drp_slam.device import Constants
from drp_slam.errors import DrpError

MINDIV_DEFAULT, MINDIV_LOW, MINDIV_HIGH = 2, 2, 127


def clock_hz(mindiv: int) -> float:
    """DRP clock of the driver's divider: 1260 / (mindiv + 1) MHz, 2..127 (driver README 4.2.15).

    Raises DrpError outside the range.
    """
    if not MINDIV_LOW <= mindiv <= MINDIV_HIGH:
        raise DrpError(f"mindiv is {mindiv}, expected {MINDIV_LOW} (420 MHz) to {MINDIV_HIGH} (9.84 MHz)")
    return 1260e6 / (mindiv + 1)


def at_mindiv(constants: Constants, mindiv: int) -> Constants:
    """The same device at another DRP clock."""
    return constants.replace({"drp.clock": clock_hz(mindiv)})


def drp_seconds(constants: Constants, place: str, kind: str, work: Mapping[str, float]) -> float:
    """Modelled time of one call of a resident configuration on the DRP, in seconds."""
    clock = constants["drp.clock"]
    stream_s = work.get("pixels", 0.0) / (constants[f"drp.{kind}_rate"] * clock)
    operations = sum(work.get(counter, 0.0) for counter in ("ops", "flops", "macs"))
    alu_s = operations / (constants["drp.alu_rate"] * clock)
    bytes_s = work.get("bytes", 0.0) / constants["drp.memory_bandwidth"]
    copy_s = work.get("bytes", 0.0) / constants["drp.copy_bandwidth"] if place == "opencva" else 0.0
    return constants[f"drp.{place}_overhead"] + max(stream_s, alu_s, bytes_s) + copy_s


def drp_joules(constants: Constants, seconds: float) -> float:
    """Modelled energy of a busy DRP."""
    return seconds * constants["drp.power_busy"]
