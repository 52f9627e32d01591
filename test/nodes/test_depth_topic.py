# SPDX-License-Identifier: Apache-2.0
"""Depth as cameras publish it live: transports, units, offsets, sizes and frames."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CompressedImage

from drp_slam.config import SlamConfig
from drp_slam.datatypes import Camera
from drp_slam.errors import DrpSlamError
from drp_slam.nodes import convert
from drp_slam.nodes.depth_topic import MEASURED_OF, DepthTopic
from drp_slam.nodes.pairing import Verdict
from drp_slam.nodes.transforms import TransformTree

MS = 1_000_000
CAMERA = Camera(8, 6, 8.0, 8.0, 3.5, 2.5)
RAW = np.arange(1000, 1048, dtype=np.uint16).reshape(6, 8)


class FakeNode:
    """Stands in for pose_node: keeps what is subscribed to, and what is reported."""

    def __init__(self) -> None:
        self.handlers: dict[str, object] = {}
        self.problems: list[str] = []

    def subscribe(self, kind, topic, handle, profile, foreign=False):
        self.handlers[topic] = handle

    def problem(self, error):
        self.problems.append(str(error))

    def resolve_topic_name(self, topic):
        return f"/{topic}"


def topic(tree: TransformTree | None = None, **config) -> tuple[FakeNode, DepthTopic]:
    node = FakeNode()
    return node, DepthTopic(node, SlamConfig(**config), tree or TransformTree(), lambda: None)


def raw(stamp_ns: int, values: np.ndarray = RAW, frame: str = "camera"):
    return convert.image_message(convert.header(stamp_ns, frame), values, "16UC1")


def read(node: FakeNode, depths: DepthTopic, message, name: str = "depth") -> tuple[np.ndarray, float]:
    node.handlers[name](message)
    verdict, depth = depths.nearest(convert.stamp_ns(message.header), final=True)
    assert verdict is Verdict.FOUND
    return depths.in_image(depth, "camera", CAMERA)


@pytest.mark.parametrize("name", ["depth/compressedDepth", "depth/compressed"])
@pytest.mark.parametrize(("head", "form"), [(12, "16UC1; compressedDepth png"), (0, "16UC1; png compressed ")])
def test_compressed_depth_is_subscribed_to_with_and_without_its_header(name, head, form):
    node, depths = topic()
    png = cv2.imencode(".png", RAW)[1].tobytes()
    message = CompressedImage(header=convert.header(MS, "camera"), format=form, data=bytes(head) + png)
    values, unit_m = read(node, depths, message, name)
    assert np.array_equal(values, RAW) and unit_m == 0.001


def test_only_depth_that_belongs_to_an_image_is_unpacked_and_damage_leaves_its_neighbour():
    node, depths = topic()
    png = cv2.imencode(".png", RAW)[1].tobytes()
    for stamp_ns, data in ((10 * MS, b"no PNG"), (50 * MS, png[:-9]), (60 * MS, png), (90 * MS, b"no PNG")):
        message = CompressedImage(header=convert.header(stamp_ns, "camera"), format="16UC1; png", data=data)
        node.handlers["depth/compressed"](message)
    assert not node.problems
    verdict, depth = depths.nearest(50 * MS, final=True)
    assert verdict is Verdict.FOUND and np.array_equal(depth.values, RAW)
    assert len(node.problems) == 1 and node.problems[0].startswith("depth/compressed")


def test_the_unit_may_be_given():
    node, depths = topic(depth_unit_m=0.0002)
    assert read(node, depths, raw(MS))[1] == 0.0002


@pytest.mark.parametrize("offset_ms", [25, -33])
def test_a_constant_offset_is_measured_and_reported_once(offset_ms):
    node, depths = topic()
    found = []
    for k in range(20):
        node.handlers["depth"](raw((k * 100 + 1000 + offset_ms) * MS, RAW + k))
        _, depth = depths.nearest((k * 100 + 1000) * MS, final=True)
        found.append(depth is not None and np.array_equal(depth.values, RAW + k))
    assert found == [False] * MEASURED_OF + [True] * (20 - MEASURED_OF)
    assert len(node.problems) == 1 and f"{offset_ms:+.1f} ms" in node.problems[0]


def test_stamps_that_jitter_are_not_shifted():
    node, depths = topic()
    for k in range(20):
        node.handlers["depth"](raw((k * 100 + 1000 + (25 if k % 2 else 40)) * MS))
        assert depths.nearest((k * 100 + 1000) * MS, final=True)[0] is Verdict.NONE
    assert not node.problems


def test_a_given_offset_and_tolerance_hold():
    node, depths = topic(depth_offset_s=0.03)
    node.handlers["depth"](raw(1030 * MS))
    assert depths.nearest(1000 * MS, final=True)[0] is Verdict.FOUND
    node, depths = topic(depth_tolerance_s=0.04)
    node.handlers["depth"](raw(1030 * MS))
    assert depths.nearest(1000 * MS, final=True)[0] is Verdict.FOUND


def test_smaller_depth_of_the_same_view_is_scaled_and_another_shape_refused():
    node, depths = topic()
    values, _ = read(node, depths, raw(MS, RAW[::2, ::2]))
    assert np.array_equal(values, np.kron(RAW[::2, ::2], np.ones((2, 2), np.uint16)))
    with pytest.raises(DrpSlamError, match="no camera_info of this size"):
        read(node, depths, raw(2 * MS, RAW[:2]))


def test_depth_in_another_frame_is_registered_by_tf_or_refused():
    tree = TransformTree()
    node, depths = topic(tree)
    with pytest.raises(DrpSlamError, match="unregistered.*'ir'.*'camera'"):
        read(node, depths, raw(MS, frame="ir"))
    link = TransformStamped(header=convert.header(0, "camera"), child_frame_id="ir")
    link.transform.translation.x, link.transform.rotation.w = 0.25, 1.0
    tree.add(link, True)
    with pytest.raises(DrpSlamError, match="no camera_info of this size"):
        read(node, depths, raw(2 * MS, frame="ir"))
    node.handlers["depth_camera_info"](convert.camera_info(CAMERA, convert.header(0, "ir")))
    flat = np.full((6, 8), 1000, np.uint16)
    values, unit_m = read(node, depths, raw(3 * MS, flat, "ir"))
    # 1 m away, f = 8 px and 0.25 m to the right: two pixels
    assert unit_m == 1.0 and (values[:, :2] == 0).all() and np.allclose(values[:, 2:], 1.0)
    node, depths = topic(depth_registered=True)
    assert np.array_equal(read(node, depths, raw(MS, frame="ir"))[0], RAW)


def test_big_endian_and_padded_rows():
    node, depths = topic()
    rows = np.zeros((6, 20), np.uint8)
    rows[:, :16] = RAW.astype(">u2").view(np.uint8)
    message = raw(MS)
    message.is_bigendian, message.step, message.data = 1, 20, convert.bytes_of(rows)
    assert np.array_equal(read(node, depths, message)[0], RAW)


def test_cameras_are_compared_by_identity():
    node, depths = topic()
    node.handlers["depth"](raw(MS, RAW[::2, ::2]))
    _, depth = depths.nearest(MS, final=True)
    for size in (8, 16):
        camera = dataclasses.replace(CAMERA, width=size, height=size * 6 // 8)
        assert depths.in_image(depth, "camera", camera)[0].shape == (camera.height, size)
