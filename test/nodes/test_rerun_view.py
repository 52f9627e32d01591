# SPDX-License-Identifier: Apache-2.0
"""What the Rerun viewer is given: every topic of the graph at its place, under the frame's stamp."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.context import Context
from sensor_msgs.msg import Image

from drp_slam.datatypes import Camera, Features, Track
from drp_slam.errors import GraphError
from drp_slam.frontend.front_end import front_end_class
from drp_slam.nodes import convert, feature_codec, status_codec, world
from drp_slam.nodes.rerun_view import BASE, CAMERA, MAP, RerunView, floats, open_rerun
from drp_slam.slam.extrinsic import mount

HEAD = convert.header(7_000_000_005, "optical")


class Recorder:
    """Stands for the module `rerun`: archetypes are (name, arguments), logs are kept by entity."""

    ViewCoordinates = SimpleNamespace(RIGHT_HAND_Z_UP="z up", RDF="right down forward")

    def __init__(self) -> None:
        self.logged, self.time = {}, None

    def __getattr__(self, name):
        def make(*args, **kwargs):
            made = SimpleNamespace(kind=name, args=args, **kwargs)
            made.compress = lambda **_: made
            return made

        return make

    def set_time(self, timeline, timestamp) -> None:
        self.time = timestamp

    def log(self, entity, *what, static=False) -> None:
        self.logged[entity] = (self.time, *what)

    def disconnect(self) -> None: ...


@pytest.fixture
def view(graph_env):
    context = Context()
    context.init(args=[], domain_id=int(graph_env["ROS_DOMAIN_ID"]), initialize_logging=False)
    yield RerunView(Recorder(), context=context)
    context.try_shutdown()


def test_every_topic_is_shown_at_its_place_and_time(view):
    recorder = view._rerun
    camera = Camera(64, 48, 50.0, 51.0, 31.5, 23.5)
    view._on_camera_info(convert.camera_info(camera, HEAD))
    image = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    view._on_image(convert.image_message(HEAD, image, "bgr8"))
    depth = np.full((48, 64), 1500, np.uint16)
    view._on_depth(convert.image_message(HEAD, depth, "16UC1"))
    features = Features(np.float32([[3, 4], [5, 6]]), np.float32([0.0, 1.0]), np.zeros((2, 64), np.float32))
    spec = front_end_class("xfeat").descriptor
    view._on_features(feature_codec.to_message(features, spec, HEAD))
    T = mount("1 2 3 0 0 90")
    view._on_odometry(Odometry(child_frame_id="base_link"))
    view._tree.add(world.transform(convert.header(0, "base_link"), "optical", world.T_LINK_OPTICAL), True)
    view._on_pose(world.pose_stamped(HEAD, T, world.Motion(np.eye(6), None, None)))
    view._on_map(world.cloud(HEAD, np.float32([[1, 2, 3]]), np.uint8([[10, 20, 30]])))
    poses = [PoseStamped(), PoseStamped()]
    poses[1].pose.position.x = 2.0
    view._on_path(Path(header=HEAD, poses=poses))
    lost = status_codec.track_status("pose_node", Track(0, 7, "lost", None))
    view._on_status(status_codec.array_of(7_000_000_005, [lost]))

    logged = recorder.logged
    assert {when for entity, (when, *_) in logged.items() if entity != MAP} == {np.datetime64(7_000_000_005, "ns")}
    shown = logged[CAMERA + "/image"][1]
    assert np.array_equal(shown.args[0], image) and shown.color_model == "BGR"
    assert logged[CAMERA + "/depth"][1].meter == 1000.0  # units a metre
    points = logged[CAMERA + "/features"][1]
    assert points.args[0].tolist() == [[3, 4], [5, 6]] and points.colors.tolist() == [[255, 0, 0], [0, 255, 0]]
    assert np.allclose(logged[BASE][1].translation, [1, 2, 3]) and np.allclose(logged[BASE][1].mat3x3, T[:3, :3])
    assert np.allclose(logged[CAMERA][1].mat3x3, world.T_LINK_OPTICAL[:3, :3])
    cloud = logged[MAP + "/points"][1]
    assert cloud.args[0].tolist() == [[1, 2, 3]] and cloud.colors.tolist() == [[10, 20, 30]]
    assert logged[MAP + "/path"][1].args[0] == [[(0.0, 0.0, 0.0), (2.0, 0.0, 0.0)]]
    assert logged["tracking/inliers"][1].args == (0.0,) and logged["tracking/log"][1].args[0].startswith("lost")


def test_a_bad_message_does_not_end_it(view):
    view._guarded(view._on_image)(Image(encoding="bgr8", width=9, height=9))
    with pytest.raises(GraphError, match="cloud of 1 points"):
        message = world.cloud(HEAD, np.zeros((1, 3), np.float32), np.zeros((1, 3), np.uint8))
        message.data = message.data[:4]
        floats(message, 4)


def test_without_rerun_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(GraphError, match=r"pip install 'drp_slam\[view\]'"):
        open_rerun("x.rrd")


def test_a_recording_is_written(tmp_path):
    rerun = pytest.importorskip("rerun", reason="needs rerun-sdk")
    file = tmp_path / "seen.rrd"
    assert open_rerun(str(file)) is rerun
    rerun.set_time("stamp", timestamp=np.datetime64(7_000_000_005, "ns"))
    rerun.log("tracking/inliers", rerun.Scalars(3.0))
    rerun.disconnect()
    assert file.read_bytes()[:3] == b"RRF"
