# SPDX-License-Identifier: Apache-2.0
"""Temperature of the chip without a fan: one resistance, one capacity, first order.

    T(t) = ambient + idle_rise + R P (1 - exp(-t / (R C)))

P is the power of the busy units; the idle board is `idle_rise` above the room. Rise,
resistance and time constant are fitted to the one published curve of a bare board (`FOUR_CORES`),
at the assumed power of its cores: an error of that power by a factor changes R by the same factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SETTLED = 0.95
"""Share of the rise at which a published curve counts as settled."""


@dataclass(frozen=True)
class Stress:
    """A published stress test: room, idle and settled temperature in degC, and the settling time."""

    room_c: float
    idle_c: float
    settled_c: float
    settled_after_s: float


FOUR_CORES = Stress(26.0, 34.5, 38.0, 150.0)
"""Four A55 stressed on a bare board, clock locked: from 34-35 to 37-39 degC in 2 to 3 minutes, no throttling
(NFUEE0102/rzv2h-hardware-map @12cd8bb, CC BY 4.0)."""


def fit(measured: Stress, power_w: float) -> dict[str, float]:
    """`idle_rise` (K), `resistance` (K/W) and `capacity` (J/K) that give the curve for `power_w` of busy units."""
    resistance = (measured.settled_c - measured.idle_c) / power_w
    time_constant_s = measured.settled_after_s / -math.log(1 - SETTLED)
    return {
        "idle_rise": measured.idle_c - measured.room_c,
        "resistance": resistance,
        "capacity": time_constant_s / resistance,
    }


def temperature_c(constants: Mapping[str, float], power_w: float, time_s: np.ndarray) -> np.ndarray:
    """Temperature (N,) at `time_s` (N,) after idle, with busy units of `power_w` from 0 s on."""
    time_constant_s = constants["thermal.resistance"] * constants["thermal.capacity"]
    idle_c = constants["thermal.ambient"] + constants["thermal.idle_rise"]
    return idle_c + power_w * constants["thermal.resistance"] * -np.expm1(-np.asarray(time_s) / time_constant_s)


def after(constants: Mapping[str, float], from_c: float, power_w: float, time_s: float) -> float:
    """Temperature `time_s` after `from_c`, with busy units of `power_w`."""
    time_constant_s = constants["thermal.resistance"] * constants["thermal.capacity"]
    steady_c = constants["thermal.ambient"] + constants["thermal.idle_rise"] + power_w * constants["thermal.resistance"]
    return steady_c + (from_c - steady_c) * math.exp(-time_s / time_constant_s)


def estimate(constants: Mapping[str, float], energy_mj: float | None, rate_hz: float) -> dict[str, Any] | None:
    """Running frames of `energy_mj` at `rate_hz`, from idle.

    `power_w` is that of the busy units. `limit_after_s` is when the junction exceeds its limit,
    None if never. Returns None for a frame of unknown energy.
    """
    if energy_mj is None or not math.isfinite(rate_hz):
        return None
    power_w = energy_mj * 1e-3 * rate_hz
    rise, limit_c = power_w * constants["thermal.resistance"], constants["thermal.limit"]
    idle_c = constants["thermal.ambient"] + constants["thermal.idle_rise"]
    time_constant_s = constants["thermal.resistance"] * constants["thermal.capacity"]
    after_s = None
    if idle_c + rise > limit_c:
        after_s = -time_constant_s * math.log(1.0 - (limit_c - idle_c) / rise)
    return {
        "rate_hz": rate_hz,
        "power_w": power_w,
        "steady_c": idle_c + rise,
        "limit_c": limit_c,
        "time_constant_s": time_constant_s,
        "limit_after_s": after_s,
    }
