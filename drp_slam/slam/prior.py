# SPDX-License-Identifier: Apache-2.0
"""The camera's motion by wheel odometry or an IMU: read `Prior.motion` first.

Only motions between two stamps are used, never a pose: the odometry's frame is arbitrary and drifts.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from drp_slam import geometry

KEPT = 4000
"""Samples kept of a live stream (20 s at 200 Hz); at most twice as many."""
GAP_NS = 500_000_000
"""The motion across a longer gap between samples is unknown."""
AHEAD_NS = 50_000_000
"""The motion is extrapolated for at most this long after the last sample."""
SET_BACK_NS = 5_000_000_000
"""A sample with a stamp further back than this restarts the stream: the clock was set back."""
JERKS = 50.0, 100.0
"""Largest change of velocity, m/s² and rad/s²: more is a jump of the odometry's frame (assumed: five times gravity)."""
FROZEN = 3
"""So many samples with the same bits: the robot does not move, or the sender hangs."""


@dataclass(frozen=True)
class Motion:
    """(4, 4) `T_from_to` of the camera between two stamps.

    `translates`: the translation is known, else it is 0. `frozen_s`: how long the sender
    has repeated one sample at the end of it.
    """

    T_from_to: np.ndarray
    translates: bool
    frozen_s: float


class Stream:
    """Poses of one body by stamp. `T_body_camera` (4, 4) is None while it is not known."""

    def __init__(self, T_body_camera: np.ndarray | None = None, kept: int = KEPT) -> None:
        self.T_body_camera = T_body_camera
        self._kept = kept
        self._stamps_ns: list[int] = []
        self._T: list[np.ndarray] = []
        self._run: list[int] = []
        self._usual: tuple[int, np.ndarray] | None = None
        self.refused = 0

    @property
    def last_ns(self) -> int | None:
        """Stamp of the newest sample."""
        return self._stamps_ns[-1] if self._stamps_ns else None

    def add(self, stamp_ns: int, T_reference_body: np.ndarray) -> str:
        """Adds the next sample. Returns why it is ignored or suspicious, "" if it is neither."""
        if not _rigid(T_reference_body):
            self.refused += 1
            return "a sample has no finite position and unit quaternion; it is ignored"
        last_ns = self.last_ns
        if last_ns is not None and stamp_ns <= last_ns:
            if last_ns - stamp_ns < SET_BACK_NS:
                self.refused += 1
                late_s = (last_ns - stamp_ns) * 1e-9
                return f"a sample is {late_s:.3f} s late (stamps must increase); it is ignored"
            self.clear()
            last_ns = None
        run, problem = 0, ""
        if last_ns is not None:
            broken = self._broken(stamp_ns, T_reference_body)
            run, problem = self._run[-1] + bool(broken), broken
        self._stamps_ns.append(stamp_ns)
        self._T.append(T_reference_body)
        self._run.append(run)
        if len(self._stamps_ns) > 2 * self._kept:
            for column in (self._stamps_ns, self._T, self._run):
                del column[: self._kept]
        return problem

    def turn(self, stamp_ns: int, rate_rad_s: np.ndarray) -> str:
        """Adds a gyroscope's sample: the angular velocity (3,) about the body's axes since the sample before."""
        if not np.isfinite(rate_rad_s).all():
            self.refused += 1
            return "a sample has no finite angular velocity; it is ignored"
        T, last_ns = np.eye(4), self.last_ns
        if last_ns is not None and last_ns < stamp_ns <= last_ns + GAP_NS:
            span_s = (stamp_ns - last_ns) * 1e-9
            T = geometry.orthonormal(self._T[-1] @ geometry.exp(np.r_[0.0, 0.0, 0.0, rate_rad_s * span_s]))
        return self.add(stamp_ns, T)

    def clear(self) -> None:
        """Forgets all samples."""
        self._stamps_ns, self._T, self._run, self._usual = [], [], [], None

    def motion(self, from_ns: int, to_ns: int) -> Motion | None:
        """The camera's motion, interpolated; None if the samples do not cover it without a gap."""
        first, last = self._at(from_ns), self._at(to_ns)
        if first is None or last is None or self.T_body_camera is None:
            return None
        (T_first, low), (T_last, high) = first, last
        if self._run[low] != self._run[high]:
            return None
        moved = geometry.inverse(T_first) @ T_last
        T = geometry.inverse(self.T_body_camera) @ moved @ self.T_body_camera
        since = high
        while since > low and np.array_equal(self._T[since - 1], self._T[high]):
            since -= 1
        began_ns = max(self._stamps_ns[since], from_ns)
        frozen_s = (to_ns - began_ns) * 1e-9 if high - since + 1 >= FROZEN else 0.0
        return Motion(geometry.orthonormal(T), True, frozen_s)

    def _at(self, stamp_ns: int) -> tuple[np.ndarray, int] | None:
        """The pose at a stamp, and the number of a sample in the same run without gaps."""
        after = bisect_left(self._stamps_ns, stamp_ns)
        if after < len(self._stamps_ns) and self._stamps_ns[after] == stamp_ns:
            return self._T[after], after
        if after == len(self._stamps_ns):
            after -= 1
            if after < 1 or stamp_ns - self._stamps_ns[after] > AHEAD_NS:
                return None
        if after == 0 or self._run[after - 1] != self._run[after]:
            return None
        t0, t1 = self._stamps_ns[after - 1], self._stamps_ns[after]
        T0, T1 = self._T[after - 1], self._T[after]
        share = (stamp_ns - t0) / (t1 - t0)
        return T0 @ geometry.exp(share * geometry.log(geometry.inverse(T0) @ T1)), after

    def _broken(self, stamp_ns: int, T: np.ndarray) -> str:
        """Why the next sample does not continue the motion, or ""."""
        before_ns = self._stamps_ns[-1]
        if stamp_ns - before_ns > GAP_NS:
            self._usual = None
            return f"no sample for {(stamp_ns - before_ns) * 1e-9:.2f} s, more than {GAP_NS * 1e-9:g} s"
        velocity = geometry.log(geometry.inverse(self._T[-1]) @ T) / ((stamp_ns - before_ns) * 1e-9)
        if self._usual is not None:
            # after a jump the velocity before it stays the reference, until enough time has passed for any change
            span_s = (stamp_ns - self._usual[0]) * 1e-9
            change = velocity - self._usual[1]
            jerks = np.linalg.norm(change[:3]) / span_s, np.linalg.norm(change[3:]) / span_s
            if jerks[0] > JERKS[0] or jerks[1] > JERKS[1]:
                return (
                    f"a jump: the velocity changes by {jerks[0]:.3g} m/s² and {jerks[1]:.3g} rad/s², "
                    f"more than {JERKS[0]:g} and {JERKS[1]:g}"
                )
        self._usual = (stamp_ns, velocity)
        return ""


class Prior:
    """Streams of poses (wheel odometry) and of orientations (an IMU); either may be None."""

    def __init__(self, poses: Stream | None = None, turns: Stream | None = None) -> None:
        self.poses, self.turns = poses, turns

    def __bool__(self) -> bool:
        return self.poses is not None or self.turns is not None

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that are present."""
        return tuple(stream for stream in (self.poses, self.turns) if stream is not None)

    def motion(self, from_ns: int, to_ns: int) -> Motion | None:
        """The camera's motion between two stamps: by the wheels, its rotation by the IMU if there is one."""
        moved = self.poses.motion(from_ns, to_ns) if self.poses is not None else None
        turned = self.turns.motion(from_ns, to_ns) if self.turns is not None else None
        if turned is None:
            return moved
        T = np.eye(4)
        T[:3, :3] = turned.T_from_to[:3, :3]
        if moved is None:
            return Motion(T, False, turned.frozen_s)
        T[:3, 3] = moved.T_from_to[:3, 3]
        return Motion(T, True, max(moved.frozen_s, turned.frozen_s))


def _rigid(T: np.ndarray) -> bool:
    R = T[:3, :3]
    return bool(np.isfinite(T).all() and np.abs(R @ R.T - np.eye(3)).max() < 1e-3)
