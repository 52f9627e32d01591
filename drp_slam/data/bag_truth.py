# SPDX-License-Identifier: Apache-2.0
"""Poses in the messages of a bag: ground truth, and the fixed transforms between frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from drp_slam import geometry
from drp_slam.data.topics import POSES, TF
from drp_slam.datatypes import Trajectory

TRUTH_ROOTS = ("world", "mocap", "vicon", "ground_truth")
UNIT = 0.1
"""Quaternions further from length 1 than this are no rotation: motion capture sends zeros for lost bodies."""
Sample = tuple[int, str, str, np.ndarray]
"""Stamp, parent frame, child frame, T_parent_child (4, 4)."""


def samples(message: Any, msgtype: str) -> list[Sample]:
    """The valid poses in one message."""
    if msgtype == TF:
        return [sample for part in message.transforms for sample in samples(part, POSES[3])]
    stamp_ns = stamp_of(message.header.stamp)
    parent, child = message.header.frame_id, getattr(message, "child_frame_id", "")
    if msgtype == POSES[3]:
        place, turn = message.transform.translation, message.transform.rotation
    else:
        pose = message.pose if msgtype == POSES[1] else message.pose.pose
        place, turn = pose.position, pose.orientation
    T = np.eye(4)
    q = np.array([turn.x, turn.y, turn.z, turn.w])
    T[:3, 3] = place.x, place.y, place.z
    if not (abs(np.linalg.norm(q) - 1.0) < UNIT and np.isfinite(T).all()):  # NaN is refused, too
        return []
    T[:3, :3] = geometry.rotation(q)
    return [(stamp_ns, parent.lstrip("/"), child.lstrip("/"), T)]


def stamp_of(stamp: Any) -> int:
    """builtin_interfaces/Time -> nanoseconds."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def trajectory(found: list[Sample], msgtype: str, frame_id: str) -> Trajectory | None:
    """The camera's trajectory from the poses of one topic, in order of time; None if there are none."""
    if msgtype == TF:
        rows = _through_tf(found, frame_id.lstrip("/"))
    else:
        rows = [(stamp_ns, T) for stamp_ns, _, _, T in found]
    return Trajectory.of(rows) if rows else None


def _through_tf(found: list[Sample], frame_id: str) -> list[tuple[int, np.ndarray]]:
    """Chain from the camera up to a motion-capture frame; one link moves, the others are static."""
    links: dict[str, list[Sample]] = {}
    for sample in found:
        links.setdefault(sample[2], []).append(sample)
    chain: list[list[Sample]] = []
    child = frame_id
    while child in links and len(chain) < 32:
        chain.append(links[child])
        child = links[child][0][1]
    moving = [i for i, link in enumerate(chain) if any(s[3].tobytes() != link[0][3].tobytes() for s in link)]
    if child not in TRUTH_ROOTS or len(moving) != 1:
        return []
    above, below = np.eye(4), np.eye(4)
    for link in chain[: moving[0]]:
        below = link[0][3] @ below
    for link in chain[moving[0] + 1 :]:
        above = link[0][3] @ above
    return [(stamp_ns, above @ T @ below) for stamp_ns, _, _, T in chain[moving[0]]]


def fixed(found: list[Sample], target: str, source: str) -> np.ndarray | None:
    """(4, 4) `T_target_source` through the transforms of `/tf_static`; None if they do not link the frames."""
    parents = {child: (parent, T) for _, parent, child, T in found}

    def chain(frame: str) -> dict[str, np.ndarray]:
        """Frame above -> `T_above_frame`, for the frame itself and all above it."""
        T, above = np.eye(4), {frame: np.eye(4)}
        while frame in parents and len(above) < 64:
            frame, T = parents[frame][0], parents[frame][1] @ T
            above[frame] = T
        return above

    of_target, of_source = chain(target.lstrip("/")), chain(source.lstrip("/"))
    shared = next((frame for frame in of_target if frame in of_source), None)
    return None if shared is None else geometry.inverse(of_target[shared]) @ of_source[shared]
