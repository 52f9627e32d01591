# SPDX-License-Identifier: Apache-2.0
"""Load of the chip by the running graph: utilisation, energy and temperature, all modelled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from drp_slam.chip import thermal

WINDOW_S = 5.0
"""Period of the figures in seconds."""


class UnitLoad:
    """Modelled seconds of each unit, and joules, of the frames that arrived in the last `WINDOW_S`.

    `constants` are the chip's; without thermal ones there is no temperature. All times are of one clock.
    """

    def __init__(self, constants: Mapping[str, float], now_s: float) -> None:
        self._constants, self._began_s = constants, now_s
        self._recent: deque[tuple[float, int, tuple[tuple[str, float], ...], float]] = deque()
        self._warm_s = now_s
        self.temperature_c: float | None = None
        if "thermal.resistance" in constants:
            self.temperature_c = constants["thermal.ambient"] + constants["thermal.idle_rise"]

    def add(self, now_s: float, stamp_ns: int, units: Iterable[tuple[str, float]], energy_j: float) -> None:
        """One stage of the frame `stamp_ns`: seconds on each unit of silicon. NaN counts as nothing."""
        known = tuple((unit, seconds) for unit, seconds in units if seconds == seconds)
        self._recent.append((now_s, stamp_ns, known, energy_j if energy_j == energy_j else 0.0))

    def figures(self, now_s: float) -> dict[str, str]:
        """`utilisation.<unit>` (1: all the time), `energy_mj` a frame, `power_w`, `temperature_c`.

        `rate_hz` is the measured frame rate.
        """
        while self._recent and self._recent[0][0] < now_s - WINDOW_S:
            self._recent.popleft()
        window_s = max(min(WINDOW_S, now_s - self._began_s), 1e-3)
        busy: dict[str, float] = {}
        for _, _, units, _ in self._recent:
            for unit, seconds in units:
                busy[unit] = busy.get(unit, 0.0) + seconds
        energy_j = sum(joules for *_, joules in self._recent)
        frames = len({stamp for _, stamp, _, _ in self._recent})
        found = {f"utilisation.{unit}": f"{seconds / window_s:.4f}" for unit, seconds in sorted(busy.items())}
        found["energy_mj"] = f"{1e3 * energy_j / frames:.2f}" if frames else ""
        found["rate_hz"] = f"{frames / window_s:.2f}"
        found["power_w"] = f"{energy_j / window_s:.3f}"
        if self.temperature_c is not None:
            since_s, self._warm_s = now_s - self._warm_s, now_s
            self.temperature_c = thermal.after(self._constants, self.temperature_c, energy_j / window_s, since_s)
            found["temperature_c"] = f"{self.temperature_c:.2f}"
        return found
