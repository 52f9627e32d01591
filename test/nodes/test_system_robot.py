# SPDX-License-Identifier: Apache-2.0
"""`up` beside a robot: a driver with topics and frames of its own, and two robots side by side."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image

from drp_slam import geometry
from drp_slam.nodes import convert, qos, world
from drp_slam.nodes.tf import MOUNT_WAIT_S
from drp_slam.nodes.transforms import TransformTree
from drp_slam.reporting import folder
from drp_slam.slam import extrinsic

pytestmark = pytest.mark.system

OPTICAL = "camera_color_optical_frame"
URDF = extrinsic.mount("0.3 0 0.5 0 0 10")
DRIVER = geometry.exp(np.array([0.0, 0.015, 0.0, 0.0, 0.0, 0.0]))


class Driver:
    """A camera driver as RealSense's: its topics, its frames below `camera_link`, and the robot's description."""

    def __init__(self, listen, sequence, prefix="/camera") -> None:
        self._listen, self._sequence = listen, sequence
        node = listen.node
        self._image = node.create_publisher(Image, f"{prefix}/color/image_raw", qos.frames_out())
        self._depth = node.create_publisher(Image, f"{prefix}/aligned_depth_to_color/image_raw", qos.frames_out())
        self._info = node.create_publisher(CameraInfo, f"{prefix}/color/camera_info", qos.frames_out())

    def send(self, frame) -> None:
        head = convert.header(frame.stamp_ns, OPTICAL)
        self._info.publish(convert.camera_info(self._sequence.camera, head))
        self._depth.publish(convert.image_message(head, *convert.rep118(frame.depth, frame.depth_unit_m)))
        self._image.publish(convert.image_message(head, frame.image, "bgr8"))


def test_joins_a_robot_whose_driver_and_description_own_their_frames(graph, listen, small_room, tmp_path):
    tf2 = pytest.importorskip("tf2_msgs.msg")
    static = listen.node.create_publisher(tf2.TFMessage, "/tf_static", qos.latched())
    edges = [
        ("base_footprint", "base_link", extrinsic.mount("0 0 0.1 0 0 0")),
        ("base_link", "camera_link", URDF),
        ("camera_link", "camera_color_frame", DRIVER),
        ("camera_color_frame", OPTICAL, extrinsic.T_LINK_OPTICAL),
    ]
    sent = [world.transform(convert.header(0, parent), child, T) for parent, child, T in edges]
    static.publish(tf2.TFMessage(transforms=sent))
    moving = listen(tf2.TFMessage, "/tf", qos.world())
    fixed = listen(tf2.TFMessage, "/tf_static", qos.static_transforms())
    odometry = listen(Odometry, "odom", qos.world())
    driver = Driver(listen, small_room)
    up = graph(
        image="/camera/color/image_raw",
        camera_info="/camera/color/camera_info",
        depth="/camera/aligned_depth_to_color/image_raw",
        out=tmp_path,
    )
    listen.ready({"drp_node", "perception_node", "pose_node", "profiler_node"})
    for frame in small_room:
        driver.send(frame)
        listen.spin(0.3)
        if len(odometry) >= 8:
            break
    up.interrupt()
    assert folder.read_json(tmp_path / folder.REPORT_JSON)["tracked"] >= 8
    # tf2's rules: one parent a frame, and the whole chain
    parents: dict[str, set[str]] = {}
    tree = TransformTree()
    for messages, is_static in ((fixed, True), (moving, False)):
        for transform in (t for message in messages for t in message.transforms):
            parents.setdefault(transform.child_frame_id, set()).add(transform.header.frame_id)
            tree.add(transform, is_static)
    assert all(len(names) == 1 for names in parents.values()), parents
    assert parents["odom"] == {"map"} and parents["base_footprint"] == {"odom"}
    assert np.allclose(tree.lookup("base_link", OPTICAL), URDF @ DRIVER @ extrinsic.T_LINK_OPTICAL)
    last = odometry[-1].pose.pose.position
    stamp_ns = convert.stamp_ns(odometry[-1].header)
    at = tree.lookup("odom", "base_link", stamp_ns)
    assert at is not None and np.allclose(at[:3, 3], [last.x, last.y, last.z], atol=1e-9)


def test_services_of_the_map(graph, listen, small_room, tmp_path):
    """Save, load, localise, point at a pose, pause, reset, and two of all nodes, while a recording plays in a loop."""
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from graphs import SEQUENCE
    from nav_msgs.srv import LoadMap
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter
    from std_srvs.srv import SetBool, Trigger

    def call(kind, name, **values):
        client = listen.node.create_client(kind, name)
        listen.until(client.service_is_ready, 60)
        answer = client.call_async(kind.Request(**values))
        listen.until(answer.done, 60)
        return answer.result()

    def moved_m(a, b):
        p, q = a.pose.pose.position, b.pose.pose.position
        return np.linalg.norm([p.x - q.x, p.y - q.y, p.z - q.z])

    def walked_m(a, b):
        """At most, in the time between two poses: a busy host drops frames."""
        centres = small_room.ground_truth.T_world_camera[:, :3, 3]
        speed_m_s = np.linalg.norm(np.diff(centres, axis=0), axis=1).max() * small_room.fps
        return speed_m_s * (convert.stamp_ns(b.header) - convert.stamp_ns(a.header)) * 1e-9

    def tracked(count):
        odometry.clear()
        listen.until(lambda: len(odometry) >= count, 60)

    odometry = listen(Odometry, "odom", qos.world())
    up = graph(bag=SEQUENCE, rate="0.3", loop="true", out=tmp_path)
    # nothing is tracked yet
    refused = call(Trigger, "save_map")
    assert not refused.success or refused.message
    listen.ready(frames=3)
    tracked(2)
    saved = call(Trigger, "save_map")
    assert saved.success and saved.message.startswith(str(tmp_path / folder.STORED_MAP)), saved
    Result = LoadMap.Response
    assert call(LoadMap, "load_map", map_url="/no/such/file").result == Result.RESULT_MAP_DOES_NOT_EXIST
    (tmp_path / "text").write_text("no map")
    assert call(LoadMap, "load_map", map_url=str(tmp_path / "text")).result == Result.RESULT_INVALID_MAP_DATA
    before = odometry[-1]
    loaded = call(LoadMap, "load_map", map_url=f"file://{tmp_path / folder.STORED_MAP}")
    assert loaded.result == Result.RESULT_SUCCESS
    assert call(SetBool, "set_mode", data=True).message == "localisation"
    tracked(2)
    assert moved_m(before, odometry[0]) < 0.5 + walked_m(before, odometry[0])  # it does not jump where the map does
    pose = PoseWithCovarianceStamped(header=convert.header(0, "map"))
    pose.pose.pose.orientation.w = 1.0
    listen.node.create_publisher(PoseWithCovarianceStamped, "initialpose", qos.world()).publish(pose)
    tracked(2)
    assert call(SetBool, "set_mode", data=False).message == "mapping"
    assert call(SetBool, "pause", data=True).success
    listen.spin(0.5)
    odometry.clear()
    listen.spin(1.0)
    assert not odometry
    assert call(SetBool, "pause", data=False).success
    tracked(1)
    assert call(Trigger, "reset").success
    tracked(1)
    given = [
        Parameter(name, value=value).to_parameter_msg() for name, value in (("min_inliers", 30), ("network", "xfeat"))
    ]
    done, refused = call(SetParameters, "pose_node/set_parameters", parameters=given).results
    assert done.successful and not refused.successful and "read-only" in refused.reason
    tracked(1)
    assert call(SetBool, "play", data=False).success
    listen.spin(1.0)
    odometry.clear()
    listen.spin(0.7)
    assert not odometry
    assert call(SetBool, "play", data=True).success
    tracked(1)
    up.interrupt()
    assert {"paused", "tracked"} <= {row.state for row in folder.read_frames(tmp_path / folder.FRAMES)}


def test_two_robots_side_by_side_on_one_tree_of_frames_lose_no_frame(command, listen, small_room, tmp_path):
    from graphs import SEQUENCE

    tf2 = pytest.importorskip("tf2_msgs.msg")
    moving = listen(tf2.TFMessage, "/tf", qos.world())
    fixed = listen(tf2.TFMessage, "/tf_static", qos.static_transforms())
    common = ("up", "--sequence", SEQUENCE, "--rate", "max", "--json", "--set", "player.paused=true")
    ups = [
        command(*common, "--namespace", name, "--frame-prefix", f"{name}/", "--out", tmp_path / name)
        for name in ("robot1", "robot2")
    ]
    listen.ready({f"{name}/pose_node" for name in ("robot1", "robot2")})
    listen.spin(2 * MOUNT_WAIT_S)  # until then each robot waits for a mount that the other one may publish
    listen.play("robot1", "robot2")
    listen.until(lambda: all(up.process.poll() is not None for up in ups))
    parents: dict[str, set[str]] = {}
    for transform in (t for message in (*moving, *fixed) for t in message.transforms):
        parents.setdefault(transform.child_frame_id, set()).add(transform.header.frame_id)
    chain = ["map", "odom", "base_link", "camera_link", OPTICAL]
    for name in ("robot1", "robot2"):
        for parent, child in itertools.pairwise(chain):
            assert parents.pop(f"{name}/{child}") == {f"{name}/{parent}"}
    assert not parents
    tracks = []
    for name, up in zip(("robot1", "robot2"), ups):
        code, out, err = up.finish()
        assert code == 0, err
        assert json.loads(out)["frames"] == len(small_room)
        tracks.append((tmp_path / name / folder.ODOMETRY).read_text())
    assert tracks[0] == tracks[1]
