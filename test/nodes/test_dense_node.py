# SPDX-License-Identifier: Apache-2.0
"""When `dense_node` begins its surface again."""

from __future__ import annotations

import numpy as np
import pytest


def test_a_moved_keyframe_or_another_map_begins_again() -> None:
    rclpy = pytest.importorskip("rclpy")
    pytest.importorskip("open3d", reason="the dense map needs Open3D")
    from drp_slam.nodes import convert, world
    from drp_slam.nodes.dense_node import DenseNode

    def path(places: dict[int, float]):
        poses = [np.eye(4) for _ in places]
        for T, x_m in zip(poses, places.values()):
            T[0, 3] = x_m
        return world.stamped_path([convert.header(stamp_ns, "map") for stamp_ns in places], poses)

    rclpy.init(args=[])
    node = DenseNode()
    try:
        node.start()
        for places, kept in (
            ({1: 0.0, 2: 0.0}, True),
            ({2: 0.001}, True),  # keyframe 1 was culled, and an adjustment moved the other by less than a voxel
            ({1: 0.0, 2: 0.5}, False),  # a loop
            ({7: 0.0}, False),  # a map that was reset or loaded
        ):
            node._fused = {1: np.eye(4), 2: np.eye(4)}
            node._on_path(path(places))
            assert bool(node._fused) is kept, places
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
