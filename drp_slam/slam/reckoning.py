# SPDX-License-Identifier: Apache-2.0
"""Dead reckoning by a prior: compares it with vision continuously, and uses it to bridge frames without vision.

The prior only predicts. Its error is measured against tracked frames: a prior that disagrees is not used, and
bridged poses get a covariance according to the measured error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from drp_slam import geometry
from drp_slam.slam.prior import Motion, Prior

SPAN_NS = 500_000_000
"""Motions over at least this time are compared."""
MEMORY_S = 2.0
"""Time constant of the measured errors."""
LEARNT = 10
"""Number of comparisons before a prior is used."""
WRONG = 0.5
"""A prior whose error is more than this ratio of the motion is wrong."""
NOISE_M, NOISE_RAD = 0.02, 0.02
"""Differences that are not significant: the noise of two tracked poses, and of a coarse odometry."""
MOVED = 3.0
"""A prior is reliable once it has agreed over a motion of so many times the noise."""
SLIP, TURN_SLIP = 0.05, 0.02
"""Minimum relative error of a prior in distance, and in rotation (assumed: wheels on a good floor)."""
COASTED = 0.5
"""Minimum relative error in distance where the last velocity is extrapolated (assumed)."""
RECENT = 0.1
"""Weight of the newest frame in the mean prediction errors."""
VELOCITY_NS = 100_000_000
"""The velocity is averaged over at least this time."""


@dataclass(frozen=True)
class Moment:
    """A tracked frame: its pose, and the camera's velocity (3,) in the world in m/s."""

    stamp_ns: int
    T_world_camera: np.ndarray
    velocity: np.ndarray


@dataclass(frozen=True)
class Measured:
    """Means of squares over a span, m² and rad²: of what the prior missed, and of the motion itself."""

    missed_m2: float = 0.0
    missed_rad2: float = 0.0
    moved_m2: float = 0.0
    moved_rad2: float = 0.0


class Reckoning:
    """Poses by the prior from the last tracked frame on. Without a prior it does nothing."""

    def __init__(self, prior: Prior) -> None:
        self.prior = prior
        self._moments: list[Moment] = []
        self._measured, self._count = Measured(), 0
        self._span_s, self._translates, self._proved = 1.0, False, False
        self._error2 = [0.0, 0.0]

    @property
    def better(self) -> bool:
        """The prior has recently predicted better than constant motion."""
        return self._error2[0] < self._error2[1]

    @property
    def agrees(self) -> bool:
        """The prior agrees with vision in enough comparisons."""
        return self._count >= LEARNT and not self.disagreement

    @property
    def disagreement(self) -> str:
        """How the prior contradicts vision, "" if it does not."""
        m = self._measured
        if self._count < LEARNT:
            return ""
        wrong = WRONG * WRONG
        turns = m.missed_rad2 > wrong * m.moved_rad2 + NOISE_RAD**2
        moves = self._translates and m.missed_m2 > wrong * m.moved_m2 + NOISE_M**2
        if not (turns or moves):
            return ""
        missed_m, moved_m = np.sqrt([m.missed_m2, m.moved_m2])
        missed_deg, moved_deg = np.degrees(np.sqrt([m.missed_rad2, m.moved_rad2]))
        far = f"{missed_m:.3f} of {moved_m:.3f} m and " if self._translates else ""
        return f"misses {far}{missed_deg:.2g} of {moved_deg:.2g}° that the camera moves in {SPAN_NS * 1e-9:g} s"

    def predict(self, stamp_ns: int, last_ns: int, T_world_last: np.ndarray) -> np.ndarray | None:
        """`T_world_camera` from the last tracked frame on, None if the prior has no samples or does not agree."""
        if not self.prior or not self.agrees:
            return None
        last = self._moments[-1] if self._moments else None
        velocity = last.velocity if last is not None else np.zeros(3)
        reckoned = self._reckoned(Moment(last_ns, T_world_last, velocity), stamp_ns)
        return None if reckoned is None else reckoned[0]

    def bridge(
        self, stamp_ns: int, last_ns: int, T_world_last: np.ndarray, covariance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """`T_world_camera` without vision, and its covariance (6, 6) that grows from the covariance of the last tracked
        frame.

        None unless the prior is reliable.
        """
        if not (self.prior and self._proved and self.agrees and self._moments):
            return None
        start = Moment(last_ns, T_world_last, self._moments[-1].velocity)
        reckoned = self._reckoned(start, stamp_ns)
        if reckoned is None:
            return None
        T, motion = reckoned
        back = geometry.adjoint(geometry.inverse(geometry.inverse(T_world_last) @ T))
        return T, back @ covariance @ back.T + self._growth(start, T, stamp_ns, motion)

    def learn(self, stamp_ns: int, T_world_camera: np.ndarray, depth_m: float) -> None:
        """A frame was tracked; `depth_m` is the median distance of what it saw."""
        if not self.prior:
            return
        moments = self._moments
        velocity = np.zeros(3)
        before = next((m for m in reversed(moments) if stamp_ns - m.stamp_ns >= VELOCITY_NS), None)
        if before is not None:
            span_s = (stamp_ns - before.stamp_ns) * 1e-9
            velocity = (T_world_camera[:3, 3] - before.T_world_camera[:3, 3]) / span_s
        now = Moment(stamp_ns, T_world_camera, velocity)
        if moments:
            self._compare_step(now, depth_m)
        start = next((m for m in reversed(moments) if stamp_ns - m.stamp_ns >= SPAN_NS), None)
        if start is not None:
            self._compare_span(start, now)
            moments = moments[moments.index(start) :]
        self._moments = [*moments, now]

    def jumped(self) -> None:
        """The next pose does not continue the last motion."""
        self._moments = []

    def moved(self, T_after_before: np.ndarray) -> None:
        """The map has moved around the camera; moves the recorded motion with it."""
        R = T_after_before[:3, :3]
        self._moments = [
            replace(m, T_world_camera=T_after_before @ m.T_world_camera, velocity=R @ m.velocity) for m in self._moments
        ]

    def _reckoned(self, start: Moment, stamp_ns: int) -> tuple[np.ndarray, Motion] | None:
        """Pose at a stamp by the prior; without a known translation, the last velocity continues."""
        motion = self.prior.motion(start.stamp_ns, stamp_ns)
        if motion is None:
            return None
        T = start.T_world_camera @ motion.T_from_to
        if not motion.translates:
            T[:3, 3] += (stamp_ns - start.stamp_ns) * 1e-9 * start.velocity
        return T, motion

    def _compare_step(self, now: Moment, depth_m: float) -> None:
        """Measures which predicts this frame better from the last one: the prior, or constant motion."""
        last = self._moments[-1]
        reckoned = self._reckoned(last, now.stamp_ns)
        if reckoned is None or len(self._moments) < 2:
            return
        before = self._moments[-2]
        rate = (now.stamp_ns - last.stamp_ns) / (last.stamp_ns - before.stamp_ns)
        constant = geometry.exp(rate * geometry.log(geometry.inverse(before.T_world_camera) @ last.T_world_camera))
        for k, T in enumerate((reckoned[0], last.T_world_camera @ constant)):
            error = angle_apart(T, now.T_world_camera, depth_m)
            self._error2[k] += RECENT * (error * error - self._error2[k])

    def _compare_span(self, start: Moment, now: Moment) -> None:
        reckoned = self._reckoned(start, now.stamp_ns)
        if reckoned is None:
            return
        span_s = (now.stamp_ns - start.stamp_ns) * 1e-9
        missed = geometry.log(geometry.inverse(reckoned[0]) @ now.T_world_camera)
        moved = geometry.log(geometry.inverse(start.T_world_camera) @ now.T_world_camera)
        new = Measured(*(float(part @ part) for part in (missed[:3], missed[3:], moved[:3], moved[3:])))
        self._count += 1
        interval_s = (now.stamp_ns - self._moments[-1].stamp_ns) * 1e-9
        share = max(min(interval_s / MEMORY_S, 1.0), 1.0 / self._count)
        old = self._measured
        self._measured = Measured(*(a + share * (b - a) for a, b in zip(_parts(old), _parts(new), strict=True)))
        self._span_s += share * (span_s - self._span_s)
        self._translates = reckoned[1].translates
        m = self._measured
        far = m.moved_m2 > (MOVED * NOISE_M) ** 2 or m.moved_rad2 > (MOVED * NOISE_RAD) ** 2
        self._proved = (self._proved or far) and not self.disagreement

    def _growth(self, start: Moment, T: np.ndarray, stamp_ns: int, motion: Motion) -> np.ndarray:
        """(6, 6) of what the prior may have missed since the last tracked frame."""
        m, lasted_s = self._measured, (stamp_ns - start.stamp_ns) * 1e-9
        moved = geometry.log(geometry.inverse(start.T_world_camera) @ T)
        distance_m, turn_rad = float(np.linalg.norm(moved[:3])), float(np.linalg.norm(moved[3:]))
        spans = lasted_s / self._span_s
        # errors of wheels grow linearly with the motion, at first like noise; those of a constant velocity with its
        # square
        growth = max(spans, spans**0.5 if motion.translates else spans * spans)
        part = min((m.missed_m2 / max(m.moved_m2, NOISE_M**2)) ** 0.5, 1.0)
        part_turn = min((m.missed_rad2 / max(m.moved_rad2, NOISE_RAD**2)) ** 0.5, 1.0)
        rad = max(max(spans, spans**0.5) * m.missed_rad2**0.5, part_turn * turn_rad) + TURN_SLIP * turn_rad
        metres = (
            max(growth * m.missed_m2**0.5, part * distance_m)
            + ((SLIP if motion.translates else COASTED) + rad) * distance_m
        )
        if motion.frozen_s > 0.0:  # the robot does not move, or the sender hangs while the camera continues its motion
            spans = motion.frozen_s / self._span_s
            metres += max(motion.frozen_s * float(np.linalg.norm(start.velocity)), spans * m.moved_m2**0.5)
            rad += spans * m.moved_rad2**0.5
        return np.diag([metres * metres / 3.0] * 3 + [rad * rad / 3.0] * 3)


def angle_apart(Ta: np.ndarray, Tb: np.ndarray, depth_m: float) -> float:
    """Angle in rad by which a point at this depth moves in the image between two poses `T_world_camera`."""
    apart = geometry.log(geometry.inverse(Ta) @ Tb)
    return float(np.linalg.norm(apart[3:]) + np.linalg.norm(apart[:3]) / depth_m)


def _parts(m: Measured) -> tuple[float, float, float, float]:
    return m.missed_m2, m.missed_rad2, m.moved_m2, m.moved_rad2
