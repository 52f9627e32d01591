# SPDX-License-Identifier: Apache-2.0
"""The common form of all sources of frames."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import DataError

log = logging.getLogger(__name__)

HOPELESS = 10
"""A sequence is unreadable if this many frames at its start are."""
TOLD = 3
"""Number of unreadable frames that are logged one by one."""


@dataclass(frozen=True)
class DepthReading:
    """How to read depth, overriding the recording. None: as recorded.

    `unit_m` is metres per unit of integer depth. `offset_s` is subtracted from the stamps of depth; None: 0, or a
    measured constant offset. Stamps within `tolerance_s` belong to one frame. `registered`: ignore the frame_id of
    depth. `alone`: use the image alone, neither depth nor a right image.
    """

    unit_m: float | None = None
    offset_s: float | None = None
    tolerance_s: float = 0.02
    registered: bool = False
    alone: bool = False


AS_RECORDED = DepthReading()


@dataclass(frozen=True)
class Sequence:
    """Recorded RGB-D frames, stereo pairs, or images of a camera that is `mono`, decoded when asked for.

    `stamps_ns` (N,) int64 are those of the images, increasing except where the recorded clock was set back.
    `ground_truth` is the colour camera's, over the time it was recorded, or None. `source` starts a new pass over the
    frames; it yields a DataError instead of an unreadable frame.
    `depth_stamps_ns` (N,) int64 are the depth images' own, None where they are the colour images'.
    `topics` of a bag are by role, with the reason for each; `notes` are remarks on the recording for the user;
    a pass fills `skipped` with the reasons for skipped frames. `image_files` are the JPEG or PNG files that the images
    were decoded from, by `Frame.index`; empty where there are none.
    """

    name: str
    camera: Camera
    stamps_ns: np.ndarray
    ground_truth: Trajectory | None
    source: Callable[[], Iterator[Frame | DataError]]
    depth_stamps_ns: np.ndarray | None = None
    topics: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: list[str] = field(default_factory=list, compare=False)
    image_files: tuple[Path, ...] = ()

    @property
    def fps(self) -> float:
        """Nominal frames per second."""
        return self.camera.fps

    def depth_stamp_ns(self, frame: Frame) -> int:
        """Stamp of the frame's depth image."""
        own = self.depth_stamps_ns
        return frame.stamp_ns if own is None else int(own[frame.index])

    def facts(self, skipped: int | None = None, first: str = "") -> dict[str, Any]:
        """For `run.json`: topics by role with reasons, warnings, and the number of frames skipped by the last pass.

        `skipped` and the reason of the `first` one are given if another process has read the frames.
        """
        if skipped is None:
            skipped, first = len(self.skipped), next(iter(self.skipped), "")
        told = [f"skipped {skipped} unreadable frames, the first: {first}"] if skipped else []
        topics = {role: {"topic": topic, "why": why} for role, (topic, why) in self.topics.items()}
        scale = "free" if self.camera.mono else "metric"
        return {"topics": topics, "warnings": [*self.notes, *told], "frames_skipped": skipped, "scale": scale}

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def __iter__(self) -> Iterator[Frame]:
        """Frames with `index` 0, 1, ..., whatever the first frame of the selection was.

        Unreadable frames are skipped, counted in `skipped` and logged. Raises DataError if the first `HOPELESS`
        frames, or all, are unreadable.
        """
        self.skipped.clear()
        read = 0
        for frame in self.source():
            try:
                if isinstance(frame, DataError):
                    raise frame
                check_size(frame, f"{self.name}: frame {frame.index}")
            except DataError as error:
                self.skipped.append(str(error))
                if not read and len(self.skipped) >= HOPELESS:
                    raise
                if len(self.skipped) <= TOLD:
                    log.warning("%s; the frame is skipped", error)
                continue
            read += 1
            yield frame
        if self.skipped and not read:
            raise DataError(self.skipped[0])
        if len(self.skipped) > TOLD:
            log.warning("%s: skipped %d unreadable frames", self.name, len(self.skipped))


def monocular(sequence: Sequence) -> Sequence:
    """A sequence without depth and right images."""
    camera = alone(sequence.camera)

    def source() -> Iterator[Frame | DataError]:
        for frame in sequence.source():
            yield frame if isinstance(frame, DataError) else replace(frame, camera=camera, depth=None, right=None)

    return replace(sequence, camera=camera, source=source, depth_stamps_ns=None)


def alone(camera: Camera) -> Camera:
    """The camera as a mono camera; the left one of a pair."""
    return replace(camera, baseline_m=None, right=None, T_right_left=None, mono=True)


def without_depth(name: str, missing: str) -> str:
    """The note on a recording with images only."""
    return f"{name}: {missing}, so the camera's path and map are up to scale"


def check_size(frame: Frame, where: str) -> None:
    """Raises DataError if an image or the depth has another size than the calibration."""
    camera = frame.camera
    for kind, array in (("image", frame.image), ("depth", frame.depth), ("right image", frame.right)):
        if array is not None and array.shape[:2] != (camera.height, camera.width):
            height, width = array.shape[:2]
            raise DataError(
                f"{where}: the {kind} is {width}x{height}, the calibration is for {camera.width}x"
                f"{camera.height}; give the calibration of these images, and depth registered to "
                "colour"
            )


def window(stamps_ns: np.ndarray, start: int, frames: int | None, name: str) -> slice:
    """The selected frames as a slice. Raises DataError if it is empty."""
    if start < 0 or (frames is not None and frames < 1):
        raise DataError(f"{name}: start {start} and frames {frames} must be at least 0 and 1")
    if start >= len(stamps_ns):
        raise DataError(f"{name}: has {len(stamps_ns)} frames, so none from --start {start} on")
    return slice(start, len(stamps_ns) if frames is None else min(len(stamps_ns), start + frames))
