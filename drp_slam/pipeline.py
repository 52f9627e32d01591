# SPDX-License-Identifier: Apache-2.0
"""All stages of a frame in a row, without ROS: read `Pipeline.process` first."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drp_slam.chip.soc import Meter
from drp_slam.config import Config
from drp_slam.data.prior_file import read_prior
from drp_slam.datatypes import Camera, Detections, Features, Frame, Track
from drp_slam.device import StageRun, Work
from drp_slam.frontend.depth_sensor import STEREO, open_sensor, sensor_run
from drp_slam.frontend.front_end import Stage, front_end_class, open_front_end
from drp_slam.frontend.modelled import open_soc
from drp_slam.frontend.recognise import DETECT, open_recogniser
from drp_slam.profiler.span import Span, make_span
from drp_slam.slam.extrinsic import T_LINK_OPTICAL, mount
from drp_slam.slam.mapfile import open_map
from drp_slam.slam.masking import PERSON, Masked
from drp_slam.slam.prior import Prior
from drp_slam.slam.prior_source import prior_of
from drp_slam.slam.tracker import Tracker

log = logging.getLogger(__name__)

TRACK = Stage("track", "cpu")
"""The last stage of every front end: tracks the pose and extends the map."""


@dataclass(frozen=True)
class Seen:
    """A frame after the first half of the pipeline: its features and detections, and the executed stages."""

    frame: Frame
    features: Features
    found: Detections | None
    runs: tuple[StageRun, ...]
    wall_s: float


@dataclass(frozen=True)
class Step:
    """The results of one frame: features, pose, the executed stages, and its cost on the chip.

    `frame` is the input of the stages: a raw stereo pair is rectified. `wall_s`: the time of both halves,
    without the wait between them.
    """

    frame: Frame
    features: Features
    track: Track
    runs: tuple[StageRun, ...]
    spans: tuple[Span, ...]
    wall_s: float


class Pipeline:
    """The front end's stages on their units, the tracker on the CPU, and an optional detector."""

    def __init__(self, camera: Camera, config: Config | None = None) -> None:
        config = config or Config()
        needed = [s.unit for s in stages(config.graph.features)] + ([DETECT.unit] if config.drpai3.detector else [])
        self._meter = Meter(open_soc(config, needed))
        self._sensor = open_sensor(camera, config.drp)
        self._front = open_front_end(config)
        self._recognise = open_recogniser(config, self._front.accelerator)
        self._people = Masked() if config.slam.mask_people else None
        slam_map = open_map(config.slam.map, self._front.descriptor)
        self.tracker = Tracker(self._sensor.camera, config.slam, slam_map, open_prior(config))

    def process(self, frame: Frame) -> Step:
        """Processes one frame: image to features, features to pose."""
        return self.follow(self.see(frame))

    def see(self, frame: Frame) -> Seen:
        """The first half: image to features. May run ahead in another thread, in the order of the frames."""
        start = time.perf_counter()
        # a stereo pair is rectified and matched, densely before the front end, or at the keypoints after it
        frame, matched = self._sensor.before(frame)
        features, runs = self._front(frame)
        features, measured = self._sensor.after(frame, features)
        found, searched = self._recognise(frame) if self._recognise else (None, ())
        runs = beside(runs, searched) + sensor_run(matched + measured)
        return Seen(frame, features, found, runs, time.perf_counter() - start)

    def follow(self, seen: Seen) -> Step:
        """The second half: features to pose."""
        frame, features, found = seen.frame, seen.features, seen.found
        if self._people:
            features = self._people.visible(features, frame.stamp_ns)
        start = time.perf_counter()
        track = self.tracker.track(frame, features)
        runs = (*seen.runs, track_run(track, time.perf_counter() - start))
        if found is not None:
            self.tracker.labels.vote(frame.stamp_ns, found)
            if self._people:
                self._people.update(found.boxes_px[[name == PERSON for name in found.label]], frame.stamp_ns)
        spans = tuple(make_span(frame.index, frame.stamp_ns, run, self._meter) for run in runs)
        return Step(frame, features, track, runs, spans, seen.wall_s + time.perf_counter() - start)


def open_prior(config: Config) -> Prior | None:
    """The prior of the file `slam.prior`, None without one; suspicious samples are logged.

    Raises DataError for a file without samples.
    """
    if not config.slam.prior:
        return None
    T_body_camera = np.eye(4) if config.slam.prior_frame == "camera" else mount(config.graph.mount) @ T_LINK_OPTICAL
    prior, told = prior_of(*read_prior(Path(config.slam.prior)), T_body_camera)
    if told:
        log.warning("%s: %d suspicious samples, the first: %s", config.slam.prior, len(told), told[0])
    return prior


def stages(features: str, pair: bool = False) -> tuple[Stage, ...]:
    """Every stage of a frame with the front end `features`, in order; `pair`: with a stereo camera."""
    return (*front_end_class(features).stages, *((STEREO,) if pair else ()), TRACK)


def beside(runs: tuple[StageRun, ...], searched: tuple[StageRun, ...]) -> tuple[StageRun, ...]:
    """Inserts the detector's run in the order of the accelerator's queue: after the features' network, else first."""
    at = max((k + 1 for k, run in enumerate(runs) if run.unit == DETECT.unit), default=0)
    return runs[:at] + searched + runs[at:]


def track_run(track: Track, wall_s: float) -> StageRun:
    """The tracker's stage: its wall time, and the work that the tracker counted."""
    work = Work(TRACK.unit, TRACK.name, track.counters, place="cpu")
    return StageRun(TRACK.name, TRACK.unit, "cpu", wall_s, (work,))
