# SPDX-License-Identifier: Apache-2.0
"""Speed-up and energy ratio of a mean frame in closed form, and their uncertainty.

With enough frames in flight the busiest queue limits the rate; the CPU alone runs stages in sequence.
Fast enough to be evaluated for every draw of the constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drp_slam.chip import intervals, sensitivity
from drp_slam.chip.constants import Constants
from drp_slam.chip.soc import Meter, Soc
from drp_slam.evaluation.workloads import AGAINST, SYSTEMS, Workload, searched
from drp_slam.frontend.recognise import DETECT
from drp_slam.profiler.work_table import FrameWorks, averaged
from drp_slam.reporting.frame_schedule import PricedFrame, System, price

SECTIONS = ("drp.", "drpai3.", "fallback.", "cpu.")
SHOWN = 12
"""Number of reported constants in a tornado plot."""


@dataclass(frozen=True)
class MeanFrame:
    """The mean works of each stage, and for each workload the share of frames with detection."""

    works: FrameWorks
    shares: tuple[float, ...]
    calls: Mapping[str, float]
    cores: int

    @staticmethod
    def of(
        frames: Mapping[int, FrameWorks], workloads: Sequence[Workload], calls: Mapping[str, float], cores: int
    ) -> MeanFrame:
        shares = [float(np.mean([DETECT.name in f for f in searched(frames, w)])) for w in workloads]
        return MeanFrame(averaged(frames.values()), tuple(shares), calls, cores)

    def ratios(self, soc: Soc) -> np.ndarray:
        """(workloads, len(AGAINST), 2): speed-up over the CPU alone, and share of its energy."""
        seconds, joules = self._costs(soc)
        out = np.empty((len(self.shares), len(AGAINST), 2))
        for w, share in enumerate(self.shares):
            for k, (chip, alone) in enumerate(AGAINST.items()):
                s = {n: seconds[n][0] + share * (seconds[n][1] - seconds[n][0]) for n in (chip, alone)}
                j = {n: joules[n][0] + share * (joules[n][1] - joules[n][0]) for n in (chip, alone)}
                out[w, k] = s[alone].sum() / s[chip].max(), j[chip] / j[alone]
        return out

    def _costs(self, soc: Soc) -> tuple[list[list[np.ndarray]], list[list[float]]]:
        """Seconds in each queue and joules of each system, without and with recognition."""
        without = {stage: works for stage, works in self.works.items() if stage != DETECT.name}
        queues = sorted({unit.queue for unit in soc.units})
        seconds, joules = [], []
        for system in SYSTEMS:
            priced = [self._steady(frame, system, soc) for frame in (without, self.works)]
            seconds.append(
                [np.array([sum(s.modelled_s for s in p.steps if s.unit.queue == q) for q in queues]) for p in priced]
            )
            joules.append([p.energy_j for p in priced])
        return seconds, joules

    def _steady(self, frame: FrameWorks, system: System, soc: Soc) -> PricedFrame:
        """A frame in steady state."""
        meter = Meter(soc)
        price(frame, system, meter, self.calls, self.cores)
        return price(frame, system, meter, self.calls, self.cores)


def ranges(mean: MeanFrame, soc: Soc, draws: int, seed: int) -> np.ndarray:
    """(2, workloads, len(AGAINST), 2): low and high of every ratio, relative to the ratio itself."""

    def model(constants: Constants) -> Sequence[float]:
        return mean.ratios(soc.with_constants(constants)).ravel().tolist()

    keys = intervals.uncertain(soc.constants, SECTIONS)
    drawn = intervals.monte_carlo(model, soc.constants, keys, draws, seed)
    middle = mean.ratios(soc)
    shape = middle.shape
    return np.percentile(drawn, intervals.PERCENTILES, axis=0).reshape(2, *shape) / middle


def rests_on(mean: MeanFrame, soc: Soc, workload: int) -> dict[str, Any]:
    """Tornado of the chip's speed-up and energy ratio for a workload, and the share of assumed constants in it.

    The tornado's figures are relative to the ratio itself, as those of `ranges`.
    """

    def both(constants: Constants) -> Sequence[float]:
        return mean.ratios(soc.with_constants(constants))[workload, 0].tolist()

    middle = np.array(both(soc.constants))
    swings = intervals.tornado(
        lambda constants: (both(constants) / middle).tolist(),
        soc.constants,
        intervals.uncertain(soc.constants, SECTIONS),
    )
    keys = [key for key in soc.constants if key.startswith(SECTIONS) and not key.endswith(intervals.FIXED)]
    influence = sensitivity.elasticities(lambda constants: both(constants)[0], soc.constants, keys)
    by_kind = sensitivity.shares(influence, soc.constants)
    rows = [
        {
            "key": s.key,
            "value": soc.constants[s.key],
            "low": s.low,
            "high": s.high,
            "unit": soc.constants.entry(s.key).unit,
            "kind": soc.constants.entry(s.key).kind,
            "speedup": [float(s.at_low[0]), float(s.at_high[0])],
            "energy_ratio": [float(s.at_low[1]), float(s.at_high[1])],
        }
        for s in swings[:SHOWN]
    ]
    return {"tornado": rows, "shares_pct": {kind: 100 * share for kind, share in by_kind.items()}}
