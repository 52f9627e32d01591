# SPDX-License-Identifier: Apache-2.0
"""The common form of all sources of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import DataError


@dataclass(frozen=True)
class Sequence:
    """Recorded RGB-D frames, decoded when asked for.

    `stamps_ns` (N,) int64, strictly increasing, are the colour images' own. `ground_truth` is the
    colour camera's, over the time it was recorded, or None. `source` starts a new pass over the
    frames; iterating raises DataError at a damaged image, after the frames before it.
    `depth_stamps_ns` (N,) int64 are the depth images' own, None where they are the colour images'.
    """

    name: str
    camera: Camera
    stamps_ns: np.ndarray
    ground_truth: Trajectory | None
    source: Callable[[], Iterator[Frame]]
    depth_stamps_ns: np.ndarray | None = None

    @property
    def fps(self) -> float:
        """Nominal frames per second."""
        return self.camera.fps

    def depth_stamp_ns(self, frame: Frame) -> int:
        """Stamp of the frame's depth image."""
        own = self.depth_stamps_ns
        return frame.stamp_ns if own is None else int(own[frame.index])

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def __iter__(self) -> Iterator[Frame]:
        """Frames with `index` 0, 1, ..., whatever the first frame of the recording was."""
        for frame in self.source():
            check_size(frame, f"{self.name}: frame {frame.index}")
            yield frame


def check_size(frame: Frame, where: str) -> None:
    """Raises DataError where an image or the depth has another size than the calibration."""
    camera = frame.camera
    for kind, array in (("image", frame.image), ("depth", frame.depth), ("right image", frame.right)):
        if array is not None and array.shape[:2] != (camera.height, camera.width):
            height, width = array.shape[:2]
            raise DataError(
                f"{where}: the {kind} is {width}x{height}, the calibration says {camera.width}x"
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
