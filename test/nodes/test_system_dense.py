# SPDX-License-Identifier: Apache-2.0
"""The dense map of a camera: the topic while it runs, and the files when it ends."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("open3d", reason="the dense map needs Open3D")

from scipy.spatial import cKDTree
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from drp_slam import geometry
from drp_slam.nodes import convert, qos
from drp_slam.nodes.rerun_view import floats
from drp_slam.reporting import folder
from drp_slam.slam.extrinsic import T_LINK_OPTICAL

pytestmark = pytest.mark.system

APART_M = 0.04
"""Two voxels."""


def surface(sequence, frames) -> np.ndarray:
    """(N, 3) points of the frames' depth at the true poses, in `map`: x forward, z up from the first camera."""
    camera, poses = sequence.camera, sequence.ground_truth.T_world_camera
    back = geometry.inverse(poses[0])
    out = []
    for frame in frames:
        z = frame.depth[::2, ::2] * np.float64(frame.depth_unit_m)
        v, u = np.mgrid[0 : camera.height : 2, 0 : camera.width : 2][:, z > 0]
        z = z[z > 0]
        xyz = np.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z], axis=1)
        out.append(geometry.apply(T_LINK_OPTICAL @ back @ poses[frame.index], xyz))
    return np.concatenate(out)


def test_a_camera_leaves_a_dense_map(graph, listen, small_room, tmp_path):
    clouds = listen(PointCloud2, "dense_cloud", qos.latched())
    publish = [
        listen.node.create_publisher(kind, topic, qos.frames_out())
        for kind, topic in ((CameraInfo, "camera_info"), (Image, "depth"), (Image, "image"))
    ]
    up = graph(dense="true", out=tmp_path)
    listen.ready({"drp_node", "perception_node", "pose_node", "dense_node", "profiler_node"})
    # a keyframe needs its depth: both kinds of image are on their way to all who take them
    listen.until(lambda: all(p.get_subscription_count() >= n for p, n in zip(publish, (1, 1, 2))), 60)
    frames = list(small_room)
    for frame in frames:
        head = convert.header(frame.stamp_ns, "camera_optical_frame")
        publish[0].publish(convert.camera_info(small_room.camera, head))
        publish[1].publish(convert.image_message(head, *convert.rep118(frame.depth, frame.depth_unit_m)))
        publish[2].publish(convert.image_message(head, frame.image, "bgr8"))
        listen.spin(0.15)
    listen.until(lambda: len(clouds) > 0, 30)
    up.interrupt()
    known = cKDTree(surface(small_room, frames))
    points = floats(clouds[-1], 3)
    assert clouds[-1].header.frame_id == "map" and len(points) > 1000
    assert np.percentile(known.query(points)[0], 95) < APART_M
    about = folder.read_json(tmp_path / folder.DENSE_JSON)
    assert about["frames"] >= 3 and about["triangles"] > 1000
    assert all((tmp_path / name).stat().st_size for name in folder.DENSE)
    assert folder.read_json(tmp_path / folder.REPORT_JSON)["tracked"] >= 8
