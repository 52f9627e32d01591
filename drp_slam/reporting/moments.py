# SPDX-License-Identifier: Apache-2.0
"""Small pictures of a run: keyframes over its length, and its worst moments, with their features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drp_slam.atomic import make_folder, write_bytes
from drp_slam.errors import ProfilerError

if TYPE_CHECKING:
    import numpy as np

    from drp_slam.datatypes import Features, Frame, Track

WIDTH_PX, QUALITY = 320, 75
MOST_KEYFRAMES, MOST_WORST = 16, 6
APART_S = 1.0
"""Minimum distance of two of the worst moments."""
KEYFRAME, WORST = "keyframe", "worst"
INLIER_BGR, OTHER_BGR = (96, 220, 60), (190, 190, 190)


@dataclass(frozen=True)
class Moment:
    """One picture: `index` and `stamp_ns` of the frame, `inliers` (-1 if it was lost), JPEG bytes."""

    index: int
    stamp_ns: int
    inliers: int
    jpeg: bytes


class Moments:
    """Collects pictures during a run. Memory is bounded: a picture takes about 15 kB."""

    def __init__(self) -> None:
        self._keyframes: list[Moment] = []
        self._every, self._seen = 1, 0
        self._worst: list[Moment] = []

    def add(self, frame: Frame, features: Features, track: Track, inliers: np.ndarray) -> None:
        """Adds a frame; `inliers` are the numbers of the features that agree with its pose."""
        if frame.image is None:
            return
        count = track.inliers if track.tracked else -1
        jpeg: bytes | None = None
        if track.keyframe:
            if self._seen % self._every == 0:
                jpeg = picture(frame.image, features.uv, inliers)
                self._keyframes.append(Moment(track.index, track.stamp_ns, count, jpeg))
                if len(self._keyframes) > MOST_KEYFRAMES:  # keep every second
                    self._keyframes, self._every = self._keyframes[::2], 2 * self._every
            self._seen += 1
            return  # the map begins or grows here: few features were matched
        beside = [m for m in self._worst if abs(m.stamp_ns - track.stamp_ns) < APART_S * 1e9]
        if any(m.inliers <= count for m in beside):
            return
        full = len(self._worst) - len(beside) >= MOST_WORST
        if full and max(m.inliers for m in self._worst) <= count:
            return
        self._worst = [m for m in self._worst if m not in beside]
        self._worst.append(Moment(track.index, track.stamp_ns, count, picture(frame.image, features.uv, inliers)))
        self._worst = sorted(self._worst, key=lambda m: (m.inliers, m.index))[:MOST_WORST]

    def write(self, folder: Path) -> None:
        """Writes `folder`/keyframe-N.jpg and worst-N.jpg, with the number N of the frame. Raises ProfilerError."""
        if not self._keyframes and not self._worst:
            return
        make_folder(folder)
        for kind, moments in ((KEYFRAME, self._keyframes), (WORST, self._worst)):
            for moment in moments:
                write_bytes(folder / f"{kind}-{moment.index:06d}.jpg", moment.jpeg, ProfilerError)


def picture(image: np.ndarray, uv: np.ndarray, inliers: np.ndarray) -> bytes:
    """JPEG of an image (grey or BGR, any size) with its features (N, 2) in pixels; `inliers` in green."""
    import cv2
    import numpy as np

    scale = WIDTH_PX / image.shape[1]
    size = (WIDTH_PX, max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR) if small.ndim == 2 else small
    at = np.clip(np.rint(uv * scale).astype(int), 1, (size[0] - 2, size[1] - 2)) if len(uv) else np.zeros((0, 2), int)
    green = np.zeros(len(at), bool)
    green[inliers] = True
    for chosen, colour in ((~green, OTHER_BGR), (green, INLIER_BGR)):
        x, y = at[chosen].T
        for dx, dy in ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)) if colour is INLIER_BGR else ((0, 0),):
            small[y + dy, x + dx] = colour
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
