# SPDX-License-Identifier: Apache-2.0
"""The four stages in a row, without ROS: read `Pipeline.process` first."""

from __future__ import annotations

import time
from dataclasses import dataclass

from drp_slam.card import load_card
from drp_slam.config import Config
from drp_slam.datatypes import Camera, Features, Frame, Track
from drp_slam.device import Constants, CpuDevice, Device, NullDevice, Run, a55_seconds, load_constants
from drp_slam.drp.emulator import EmulatedDrp
from drp_slam.drp.postprocess import Postprocess
from drp_slam.drp.preprocess import Preprocess
from drp_slam.drpai3.perceive import Perceive, open_device
from drp_slam.profiler.span import Span
from drp_slam.slam.tracker import Tracker


@dataclass(frozen=True)
class Step:
    """What became of one frame."""

    features: Features
    track: Track
    spans: tuple[Span, ...]


class Pipeline:
    """Preprocess (DRP), network (DRP-AI3), postprocess (DRP), track (CPU)."""

    def __init__(self, camera: Camera, config: Config | None = None) -> None:
        config = config or Config()
        card = load_card(config.drpai3.network)
        drp = drp_device(config.drp.backend, config.drp.device, config.drp.mindiv)
        self._constants = load_constants(config.slam.device)
        self._preprocess = Preprocess(drp, card, config.drp)
        self._perceive = Perceive(open_device(config.drpai3), card, config.drpai3)
        self._postprocess = Postprocess(drp, card, config.drp)
        self.tracker = Tracker(camera, config.slam)

    def process(self, frame: Frame) -> Step:
        """One frame through the four stages."""
        assert frame.image is not None
        # DRP: grey, resize, normalise, quantise
        tensor, preprocessed = self._preprocess(frame.image)
        # DRP-AI3: the pruned network
        heads, perceived = self._perceive(tensor)
        # DRP: keypoints and descriptors in pixels of the original image
        features, postprocessed = self._postprocess(heads, frame.image.shape[:2])
        # CPU: pose against the keyframes, map
        start = time.perf_counter()
        track = self.tracker.track(frame, features)
        wall_s = time.perf_counter() - start

        runs = (
            ("preprocess", "drp", preprocessed),
            ("network", "drpai3", perceived),
            ("postprocess", "drp", postprocessed),
            ("track", "cpu", cpu_run(self._constants, wall_s, track)),
        )
        return Step(
            features,
            track,
            tuple(
                make_span(frame.index, frame.stamp_ns, stage, unit, run, self._constants) for stage, unit, run in runs
            ),
        )


def drp_device(backend: str, device: str, mindiv: int = 2) -> Device:
    """The DRP by name of its backend; `mindiv` sets its modelled clock (2: 420 MHz)."""
    if backend == "null":
        return NullDevice("drp")
    constants = load_constants(device)
    return CpuDevice(constants, "drp") if backend == "cpu" else EmulatedDrp(constants, mindiv)


def cpu_run(constants: Constants, wall_s: float, track: Track) -> Run:
    """The CPU stage as a run: measured here, modelled on the chip's cores by its counters."""
    modelled_s = a55_seconds(constants, track.counters)
    energy_j = modelled_s * constants["cpu.power_busy"]
    return Run((), wall_s, modelled_s, energy_j, "cpu", track.counters)


def make_span(index: int, stamp_ns: int, stage: str, unit: str, run: Run, constants: Constants) -> Span:
    """The ledger's line for one run, with the CPU-only model of the same work beside it."""
    nan = float("nan")
    cpu_s = a55_seconds(constants, run.counters)
    return Span(
        stamp_ns,
        index,
        stage,
        unit,
        run.device,
        run.wall_s,
        nan if run.modelled_s is None else run.modelled_s,
        nan if run.energy_j is None else run.energy_j,
        cpu_s,
        cpu_s * constants["cpu.power_busy"],
    )
