# SPDX-License-Identifier: Apache-2.0
"""Operating points of a chip for a recorded run, without running it again: read `operating_points` first.

Front end, network level, AI-MAC clock, DRP clock and detector rate are priced from the works of the runs of
`compare`. Accuracy is that of the run, times the ratio in the network's card; clocks do not change it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.card import load_card
from drp_slam.chip.soc import Meter, Soc
from drp_slam.device import Work
from drp_slam.drpai3.network_cost import NetworkCost
from drp_slam.errors import DeviceError, DrpSlamError, ResourceError
from drp_slam.frontend.recognise import DETECT
from drp_slam.profiler.work_table import FrameWorks, averaged, read_works
from drp_slam.reporting import folder as files
from drp_slam.reporting.frame_schedule import CHIP, price
from drp_slam.sweep.sweep_point import shipped

FREQ_INDICES = (2, 3, 4, 6, 10)
"""AI-MAC clock: 1260 / (n - 1) MHz on RZ/V2H, never above 1000."""
MINDIVS = (2, 4, 6, 9)
"""DRP clock: 1260 / (n + 1) MHz."""
DETECTOR_HZ = (0.0, 1.0, 2.0, 5.0, 10.0)
"""Detector rates in Hz; 0: none. Every frame is a choice, too."""


@dataclass(frozen=True)
class OperatingPoint:
    """A choice and its figures, all modelled except `ate_m`, which was measured (times the card's ratio).

    `fps` is the maximum rate, `latency_ms` of one frame alone, `power_w` of the busy units at `rate_hz` frames a
    second. A detector at `rate_hz` runs on every frame.
    """

    rate_hz: float
    features: str
    network: str | None
    freq_index: int
    mindiv: int
    detector_hz: float
    fps: float
    latency_ms: float
    energy_mj: float
    power_w: float
    ate_m: float | None

    def options(self) -> str:
        """Options of `run` and `up`."""
        text = f"--features {self.features} --set drp.mindiv={self.mindiv}"
        if self.network:
            text += f" --network {self.network}"
        if self.network or self.detector_hz:
            text += f" --set drpai3.freq_index={self.freq_index}"
        if self.detector_hz == self.rate_hz:
            return text + " --set drpai3.detector_every=1"
        return text + (f" --set drpai3.detector_rate_hz={self.detector_hz:g}" if self.detector_hz else "")


def operating_points(compared: Mapping[str, Any], folder: Path, rate_hz: float) -> list[OperatingPoint]:
    """Every choice for every front end of a `compare` in `folder`, frames coming at `rate_hz`.

    Raises DrpSlamError if its runs are missing.
    """
    found: list[OperatingPoint] = []
    for features, tracking in compared["tracking"].items():
        path = folder / features.replace(":", "-") / files.KERNELS
        if not path.is_file():
            raise DrpSlamError(f"{path}: missing; run compare again")
        works = averaged(read_works(path).values())
        found += _points_of(features, works, compared["device"], tracking["ate_rmse_m"], rate_hz)
    return found


def _points_of(
    features: str, frame: FrameWorks, device: str, ate_m: float | None, rate_hz: float
) -> Iterator[OperatingPoint]:
    own = next((w for s, ws in frame.items() for w in ws if s != DETECT.name and w.unit == "drpai3"), None)
    networks = [own.name, *(n for n in shipped() if n != own.name and _is_int8(n))] if own else [None]
    rates_hz = [*(r for r in DETECTOR_HZ if r < rate_hz), rate_hz] if DETECT.name in frame else [0.0]
    price_network = NetworkCost()
    uses_array = own is not None or len(rates_hz) > 1
    for freq_index, mindiv in itertools.product(FREQ_INDICES if uses_array else FREQ_INDICES[:1], MINDIVS):
        try:
            soc = Soc.open(device, mindiv, {"drpai3": price_network.at(freq_index)})
        except DeviceError:
            continue  # not a clock of this chip
        for network in networks:
            works = {stage: [_other(w, own, network) for w in stage_works] for stage, stage_works in frame.items()}
            alone_s, alone_j = _cost({stage: w for stage, w in works.items() if stage != DETECT.name}, soc)
            both_s, both_j = _cost(works, soc)
            accuracy = _accuracy(ate_m, own.name if own else None, network)
            for detector_hz in rates_hz:
                share = detector_hz / rate_hz
                queues, joules = alone_s + share * (both_s - alone_s), alone_j + share * (both_j - alone_j)
                yield OperatingPoint(
                    rate_hz,
                    features,
                    network,
                    freq_index,
                    mindiv,
                    detector_hz,
                    fps=float(1 / queues.max()),
                    latency_ms=float(alone_s.sum() * 1e3),
                    energy_mj=float(joules * 1e3),
                    power_w=float(joules * rate_hz),
                    ate_m=accuracy,
                )


def _is_int8(network: str) -> bool:
    return load_card(network).dtype == "int8"


def _other(work: Work, own: Work | None, network: str | None) -> Work:
    """The same work, the front end's network replaced by another level."""
    if own is None or network is None or work.configuration != own.configuration or network == own.name:
        return work
    return replace(work, name=network, configuration=str(load_card(network).onnx))


def _cost(frame: FrameWorks, soc: Soc) -> tuple[np.ndarray, float]:
    """Seconds in each queue and joules of a frame in steady state."""
    meter = Meter(soc)
    price(frame, CHIP, meter, {})
    priced = price(frame, CHIP, meter, {})
    names = sorted({unit.queue for unit in soc.units})
    return np.array([sum(s.modelled_s for s in priced.steps if s.unit.queue == q) for q in names]), priced.energy_j


def _accuracy(ate_m: float | None, measured_with: str | None, network: str | None) -> float | None:
    """ATE with another network: the run's, times the ratio of the values in the cards."""
    if ate_m is None or network is None or network == measured_with:
        return ate_m
    try:
        then, now = (load_card(str(n)).facts["agreement"]["ate_m"]["ratio"] for n in (measured_with, network))
        return float(ate_m * now / then)
    except (ResourceError, KeyError, TypeError, ZeroDivisionError):
        return None


@dataclass(frozen=True)
class Bound:
    """`name` of a point must be at most `value` (at least, if `least`); a point without it fails."""

    name: str
    option: str
    value: float
    unit: str
    least: bool = False

    def holds(self, point: OperatingPoint) -> bool:
        value = getattr(point, self.name)
        return value is not None and (value >= self.value if self.least else value <= self.value)


def pick(points: Sequence[OperatingPoint], wanted: Sequence[Bound]) -> tuple[OperatingPoint, list[OperatingPoint]]:
    """The point within all bounds with the highest detector rate, then the lowest power; and all points within.

    Raises DrpSlamError with the single bounds whose relaxation suffices.
    """
    fitting = [p for p in points if all(b.holds(p) for b in wanted)]
    if fitting:
        return min(fitting, key=lambda p: (-p.detector_hz, p.power_w, -p.fps)), fitting
    eased = []
    for bound in wanted:
        values = [
            value
            for p in points
            if all(b.holds(p) for b in wanted if b is not bound) and (value := getattr(p, bound.name)) is not None
        ]
        if values:
            best = max(values) if bound.least else min(values)
            eased.append(f"{bound.option} {best:.3g}{bound.unit}")
    remedy = f"one fits with {' or '.join(eased)}" if eased else "relax more than one of them"
    raise DrpSlamError(f"none of {len(points)} operating points is within the limits; {remedy}")
