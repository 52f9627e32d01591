# SPDX-License-Identifier: Apache-2.0
"""Temperature of the chip without a fan: one resistance, one capacity, first order.

`T(t) = ambient + P R (1 - exp(-t / (R C)))` for constant power P. Every constant of it is assumed
(no temperature of the chip is public), so compare its results; do not read them as temperatures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def estimate(constants: Mapping[str, float], energy_mj: float | None, rate_hz: float) -> dict[str, Any] | None:
    """Running frames of `energy_mj` at `rate_hz`, added to the idle power of the chip.

    `limit_after_s` is when the limit of the junction is passed, None where it never is. None for
    a frame whose energy is not known.
    """
    if energy_mj is None or not math.isfinite(rate_hz):
        return None
    power_w = constants["thermal.idle_power"] + energy_mj * 1e-3 * rate_hz
    ambient, resistance = constants["thermal.ambient"], constants["thermal.resistance"]
    time_constant_s = resistance * constants["thermal.capacity"]
    steady_c, limit_c = ambient + power_w * resistance, constants["thermal.limit"]
    after_s = None
    if steady_c > limit_c:
        after_s = -time_constant_s * math.log(1.0 - (limit_c - ambient) / (steady_c - ambient))
    return {
        "rate_hz": rate_hz,
        "power_w": power_w,
        "steady_c": steady_c,
        "limit_c": limit_c,
        "time_constant_s": time_constant_s,
        "limit_after_s": after_s,
    }
