# SPDX-License-Identifier: Apache-2.0
"""Where the camera sits, from the frames that others publish: tf2's rules hold for what is added."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from drp_slam import geometry
from drp_slam.config import GraphConfig
from drp_slam.errors import ConfigError, GraphError
from drp_slam.nodes import convert, world
from drp_slam.nodes.tf import Transforms
from drp_slam.nodes.transforms import TransformTree, mounted
from drp_slam.slam import extrinsic

RNG = np.random.default_rng(5)
MOUNT = "0.1 0.2 0.3 1 2 3"
OPTICAL = extrinsic.T_LINK_OPTICAL
URDF, BODY = (geometry.exp(RNG.normal(0, 0.5, 6)) for _ in range(2))
REALSENSE = [("camera_link", "camera_color_frame", BODY), ("camera_color_frame", "color_optical", OPTICAL)]
OAK = [("oak", "oak_rgb", BODY), ("oak_rgb", "color_optical", OPTICAL)]


def tree_of(edges, static=True, stamp_ns=0):
    tree = TransformTree()
    for parent, child, T in edges:
        tree.add(world.transform(convert.header(stamp_ns, parent), child, T), static)
    return tree


def checked(edges, frame="color_optical", **values):
    """The mount, after the rules of tf2: one parent a frame, no loop, and all that is expected is joined."""
    graph = GraphConfig(mount=MOUNT, **values)
    found = mounted(tree_of(edges), graph, frame)
    parents = {}
    for parent, child, _ in [*edges, *found.static]:
        assert child not in parents and parent and child and parent != child
        parents[child] = parent
    if graph.publish_mount:
        joined = tree_of([*edges, *found.static])
        name = frame.lstrip("/")
        camera = name if name not in ("", graph.base_frame) else graph.camera_frame
        T = joined.lookup(graph.base_frame, camera)
        optical = np.eye(4) if camera == graph.camera_frame else OPTICAL
        assert np.allclose(T, found.T_base_link @ optical)
    return found


def test_nobody_else_publishes():
    found = checked([])
    assert [e[:2] for e in found.static] == [("base_link", "camera_link"), ("camera_link", "color_optical")]
    assert np.allclose(found.T_base_link, extrinsic.mount(MOUNT)) and not found.problem


def test_driver_owns_the_frames_below_camera_link():
    found = checked(REALSENSE)
    assert [e[:2] for e in found.static] == [("base_link", "camera_link")]
    assert np.allclose(found.T_base_link, extrinsic.mount(MOUNT) @ BODY)


def test_description_and_driver_know_all():
    found = checked([("base_link", "camera_link", URDF), *REALSENSE])
    assert not found.static and np.allclose(found.T_base_link, URDF @ BODY)


def test_description_knows_the_link_only():
    found = checked([("base_link", "mast", URDF), ("mast", "camera_link", BODY)])
    assert [e[:2] for e in found.static] == [("camera_link", "color_optical")]
    assert np.allclose(found.T_base_link, URDF @ BODY)


def test_driver_has_a_root_of_its_own_name():
    found = checked(OAK)
    assert [e[:2] for e in found.static] == [("base_link", "oak")]
    assert np.allclose(found.T_base_link, extrinsic.mount(MOUNT) @ BODY)
    found = checked([("base_link", "camera_link", URDF), *OAK])
    assert [e[:2] for e in found.static] == [("camera_link", "oak")]
    assert np.allclose(found.T_base_link, URDF @ BODY)


@pytest.mark.parametrize(("frame", "count", "told"), [("camera_link", 1, False), ("", 1, True), ("base_link", 1, True)])
def test_frame_ids_that_are_no_optical_frame(frame, count, told):
    found = checked([], frame)
    assert len(found.static) == count and bool(found.problem) == told
    assert np.allclose(found.T_base_link, extrinsic.mount(MOUNT))


def test_leading_slashes_are_taken_off():
    found = mounted(tree_of([("/camera_link", "/color_optical", OPTICAL)]), GraphConfig(), "/color_optical")
    assert [e[:2] for e in found.static] == [("base_link", "camera_link")]


def test_switched_off_it_only_reads():
    assert not checked(REALSENSE, publish_mount=False).static
    assert checked(REALSENSE, publish_mount=False).problem
    joined = [("base_link", "camera_link", URDF), *REALSENSE]
    assert not checked(joined, publish_mount=False).problem


def test_a_camera_that_something_else_moves_gets_no_second_parent():
    tree = tree_of(REALSENSE)
    tree.add(world.transform(convert.header(5, "world"), "camera_link", URDF), False)
    found = mounted(tree, GraphConfig(), "color_optical")
    assert not found.static and "'camera_link' moves below 'world'" in found.problem


def test_a_moving_mount_is_looked_up_at_the_stamp():
    tree = TransformTree()
    for k, T in enumerate((np.eye(4), geometry.exp(np.array([0, 0, 0, 0, 0, 0.2])))):
        tree.add(world.transform(convert.header(k * 10**8, "base_link"), "camera_link", T), False)
    found = mounted(tree, GraphConfig(), "camera_link", 5 * 10**7)
    assert found.moving and np.allclose(geometry.log(found.T_base_link)[5], 0.1)
    assert tree.lookup("base_link", "camera_link", 10**9) is None  # too long ago


def test_what_tf2_refuses_is_refused():
    tree = TransformTree()
    for parent, child in (("a", "a"), ("", "a"), ("a", "/")):
        with pytest.raises(GraphError, match="two different frames"):
            tree.add(world.transform(convert.header(0, parent), child, np.eye(4)), True)
    broken = world.transform(convert.header(0, "a"), "b", np.eye(4))
    broken.transform.rotation.w = 0.0
    with pytest.raises(GraphError, match="unit quaternion"):
        tree.add(broken, True)


def test_frames_of_the_graph_are_cleaned_and_distinct():
    assert GraphConfig(map_frame="/map ").map_frame == "map"
    for values in ({"odom_frame": ""}, {"base_frame": "odom"}, {"camera_frame": "/map"}):
        with pytest.raises(ConfigError, match="four different frame names"):
            GraphConfig(**values)


def test_a_prefix_is_put_in_front_of_every_frame_once():
    graph = GraphConfig(frame_prefix="/robot1/", odom_frame="robot1/odom")
    for _ in range(2):
        assert (graph.map_frame, graph.odom_frame) == ("robot1/map", "robot1/odom")
        assert (graph.base_frame, graph.camera_frame) == ("robot1/base_link", "robot1/camera_link")
        graph = GraphConfig(**dataclasses.asdict(graph))


def test_robots_with_prefixes_share_one_tree():
    """Two drivers whose images have the same frame_id, one beside a description with the prefix, one alone."""
    described = [("robot2/base_link", "robot2/color_optical", URDF @ OPTICAL)]
    edges = list(described)
    for name in ("robot1/", "robot2/"):
        tree = TransformTree(name)
        for parent, child, T in edges:
            tree.add(world.transform(convert.header(0, parent), child, T), True)
        graph = GraphConfig(frame_prefix=name, mount=MOUNT)
        found = mounted(tree, graph, "color_optical")
        assert not found.problem and all(child.startswith(name) for _, child, _ in found.static)
        edges += found.static
    assert len({child for _, child, _ in edges}) == len(edges) == 3
    assert np.allclose(
        tree_of(edges).lookup("robot1/base_link", "robot1/color_optical"), extrinsic.mount(MOUNT) @ OPTICAL
    )
    # a driver that publishes its frames without the prefix is believed
    plain = TransformTree("robot1/")
    plain.add(world.transform(convert.header(0, "robot1/base_link"), "color_optical", URDF), True)
    assert plain.name("/color_optical") == "color_optical" and plain.name("depth") == "robot1/depth"
    assert plain.name("robot1/depth") == "robot1/depth" and plain.name("") == ""


def test_two_graphs_do_not_take_each_other_for_wheel_odometry():
    tf2 = pytest.importorskip("tf2_msgs.msg")

    class Node:
        """Keeps what is offered and said."""

        def __init__(self) -> None:
            self.sent, self.problems, self.handlers = [], [], {}

        def subscribe(self, kind, topic, handle, profile) -> None:
            self.handlers[topic] = handle

        def subscribe_later(self, kind, topic, handle, profile):
            return lambda: self.subscribe(kind, topic, handle, profile)

        def every(self, period_s, callback) -> None:
            self.look = callback

        def advertise(self, kind, topic, profile, local=True):
            return SimpleNamespace(publish=lambda message: self.sent.append((topic, message)))

        def count_publishers(self, topic) -> int:
            return 2

        def problem(self, error) -> None:
            self.problems.append(str(error))

    first, second, doctor = Node(), Node(), Node()
    graphs = [Transforms(node, GraphConfig()) for node in (first, second)]
    Transforms(doctor, GraphConfig(publish_map_to_odom=False, publish_odom_to_base=False))
    for node in (first, second, doctor):
        assert "/tf" not in node.handlers  # alone, a node would hear nobody but itself
        node.look()
    for k in range(3):
        stamp = convert.header(10**9 * (k + 1), "").stamp
        for node, other, graph in ((first, second, graphs[0]), (second, first, graphs[1])):
            node.sent.clear()
            graph.publish(stamp, world.Frames(np.eye(4)))
            ((topic, message),) = node.sent
            edges = [(t.header.frame_id, t.child_frame_id) for t in message.transforms]
            assert topic == "/tf" and edges == [("odom", "base_link"), ("map", "odom")]
            for listener in (node, other, doctor):
                listener.handlers["/tf"](message)
    assert not first.problems or "another SLAM graph" in first.problems[0]
    assert len(second.problems) == 1 and "another SLAM graph publishes map -> odom -> base_link" in second.problems[0]
    assert not doctor.problems, "who sends neither has no rival"
    # wheel odometry is another matter: this graph gives way to it
    wheel = world.transform(convert.header(5 * 10**9, "odom"), "base_link", np.eye(4))
    first.handlers["/tf"](tf2.TFMessage(transforms=[wheel]))
    first.sent.clear()
    graphs[0].publish(convert.header(5 * 10**9, "").stamp, world.Frames(np.eye(4)))
    assert [t.child_frame_id for t in first.sent[0][1].transforms] == ["odom"]
