# SPDX-License-Identifier: Apache-2.0
"""The poses around which a frame is searched for first: a given one, and those that motion and prior predict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drp_slam import geometry
from drp_slam.slam.localise import Found, Localiser
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.path import Path
from drp_slam.slam.reckoning import Reckoning, angle_apart
from drp_slam.slam.view import View

SHORT_LOSS_NS = 500_000_000
"""After a shorter loss, search first where tracking was lost."""
EXPECTED_AMONG = 5
"""Number of keyframes nearest to a given pose that are tried."""


class Search:
    """Poses of frames near a predicted one. The map is not changed."""

    def __init__(self, mapping: Mapping, localiser: Localiser, path: Path, reckoning: Reckoning) -> None:
        self._mapping, self._localiser, self._path, self._reckoning = mapping, localiser, path, reckoning
        self._given: np.ndarray | None = None

    def expect(self, T_world_camera: np.ndarray) -> None:
        """Search the next frame around this pose first."""
        self._given = geometry.inverse(T_world_camera)

    def around_given(self, view: View) -> Found | None:
        """Pose around the given one, or from the keyframes nearest to it; None if none was given."""
        T, self._given = self._given, None
        slam_map = self._mapping.map
        if T is None or not len(slam_map):
            return None
        live = slam_map.live
        centres = geometry.inverse(slam_map.T_camera_world[live])[:, :3, 3]
        away_m = np.linalg.norm(centres - geometry.inverse(T)[:3, 3], axis=1)
        nearest = live[np.argsort(away_m, kind="stable")[:EXPECTED_AMONG]].tolist()
        found = self._localiser.follow(view, T, nearest[0])
        for keyframe in nearest:
            found = found or self._localiser.recognise(view, keyframe)
        return None if found is None else replace(found, relocalised=True)

    def by_prior(self, stamp_ns: int) -> np.ndarray | None:
        """`T_camera_world` that the prior predicts, None when the last tracked frame is too long ago."""
        if not self._reckoning.prior or not len(self._path):
            return None
        last_ns = self._path.last_stamp_ns
        if not 0 < stamp_ns - last_ns <= max(self._mapping.config.bridge_s * 1e9, SHORT_LOSS_NS):
            return None
        T = self._reckoning.predict(stamp_ns, last_ns, geometry.inverse(self._path.last_T_camera_world))
        return None if T is None else geometry.inverse(T)

    def around_predicted(self, view: View, by_prior: np.ndarray | None, root: int, by_motion: bool) -> Found | None:
        """Pose around the predictions of constant motion (if `by_motion`) and of the prior, the better one first.

        The second one is tried when the first finds nothing, or when the prior comes first and the two
        differ by more than the gate; then the pose with more inliers is returned.
        """
        starts = [self._path.predict(view.stamp_ns)] if by_motion else []
        if by_prior is not None:
            starts.insert(0 if self._reckoning.better else len(starts), by_prior)
        best: Found | None = None
        for k, T in enumerate(starts):
            if k and best is not None and not (by_prior is starts[0] and self._far_apart(*starts)):
                break
            found = self._localiser.follow(view, T, root, self._path.last_T_camera_world)
            if found is not None and (best is None or found.fit.count > best.fit.count):
                best = found
        return best

    def _far_apart(self, Ta: np.ndarray, Tb: np.ndarray) -> bool:
        """Whether two predictions `T_camera_world` differ by more than the gate, at a distance of 1 m."""
        gate = self._mapping.config.gate_px / self._mapping.geometry.camera.fx
        return angle_apart(geometry.inverse(Ta), geometry.inverse(Tb), 1.0) > gate
