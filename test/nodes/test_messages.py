# SPDX-License-Identifier: Apache-2.0
"""Messages and arrays: the same bits on both sides, and no bad message gets through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from drp_slam.data import image_codec
from drp_slam.data.camera_info import camera_of
from drp_slam.datatypes import XFEAT_DESCRIPTOR, Camera, DescriptorSpec, Features
from drp_slam.errors import DataError, DrpSlamError, GraphError
from drp_slam.nodes import convert, feature_codec

HEAD = convert.header(1_305_031_102_175_304_001, "camera")


def sent(message):
    """The message as the other process gets it."""
    return deserialize_message(serialize_message(message), type(message))


@given(st.integers(0, 2**31 - 1), st.integers(0, 999_999_999))
def test_stamp_keeps_every_nanosecond(seconds, nanoseconds):
    ns = seconds * 1_000_000_000 + nanoseconds
    assert convert.stamp_ns(convert.header(ns, "")) == ns


@pytest.mark.parametrize(
    ("shape", "dtype", "encoding"),
    [
        ((3, 5), np.int8, "8SC1"),
        ((4, 6, 130), np.int8, "8SC130"),
        ((2, 7), np.float32, "32FC1"),
        ((2, 3, 130), np.float32, "32FC130"),
    ],
)
def test_tensor_round_trip(shape, dtype, encoding):
    values = np.random.default_rng(1).integers(-128, 128, shape).astype(dtype)
    assert convert.tensor_encoding(values) == encoding
    back = convert.tensor(sent(convert.image_message(HEAD, values, encoding)), "heads")
    assert back.dtype == values.dtype and np.array_equal(back, values)


def test_colour_becomes_bgr():
    image = np.random.default_rng(2).integers(0, 256, (6, 5, 3), np.uint8)
    rgb = convert.image_message(HEAD, image[..., ::-1], "rgb8")
    assert np.array_equal(image_codec.colour_of(sent(rgb), "topic"), image)
    grey = convert.image_message(HEAD, image[..., 0], "mono8")
    assert np.array_equal(image_codec.colour_of(sent(grey), "topic"), image[..., 0])


def test_rows_may_be_padded():
    image = np.arange(24, dtype=np.uint8).reshape(2, 12)
    message = Image(header=HEAD, height=2, width=3, encoding="bgr8", step=12, data=convert.bytes_of(image))
    assert np.array_equal(image_codec.colour_of(message, "topic"), image[:, :9].reshape(2, 3, 3))


@given(st.floats(1.0 / 10000, 0.01), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_depth_topic_gives_what_the_tracker_makes_of_raw_depth(unit_m, seed):
    raw = np.random.default_rng(seed).integers(0, 65536, (8, 8), np.uint16)
    values, encoding = convert.rep118(raw, unit_m)
    metres = (raw * np.float64(unit_m)).astype(np.float32)
    got, got_unit_m = image_codec.depth_of(convert.image_message(HEAD, values, encoding), "topic")
    assert np.array_equal((got * np.float64(got_unit_m)).astype(np.float32), metres)


def test_millimetres_stay_raw():
    raw = np.array([[0, 1, 65535]], np.uint16)
    values, encoding = convert.rep118(raw, 0.001)
    assert encoding == "16UC1"
    back, unit_m = image_codec.depth_of(convert.image_message(HEAD, values, encoding), "topic")
    assert unit_m == 0.001 and np.array_equal(back, raw)


def test_nan_depth_is_refused_with_the_topic():
    empty = convert.image_message(HEAD, np.full((16, 16), np.nan, np.float32), "32FC1")
    values, _ = image_codec.depth_of(empty, "topic")
    with pytest.raises(GraphError, match="depth: no pixel holds a depth"):
        convert.check_depth(values)
    one = np.zeros((16, 16), np.uint16)
    one[3, 5] = 7
    convert.check_depth(one)


BINARY = DescriptorSpec(32, "uint8", "hamming")


@given(st.integers(0, 300), st.sampled_from([XFEAT_DESCRIPTOR, BINARY]))
@settings(max_examples=20, deadline=None)
def test_features_keep_the_descriptor_of_their_front_end(count, spec):
    rng = np.random.default_rng(count)
    descriptor = rng.integers(0, 256, (count, spec.length)).astype(spec.dtype)
    made = Features(rng.random((count, 2), np.float32), rng.random(count, np.float32), descriptor)
    message = sent(feature_codec.to_message(made, spec, HEAD))
    assert message.point_step == 12 + spec.length * np.dtype(spec.dtype).itemsize
    back = feature_codec.from_message(message, spec)
    for name in ("uv", "score", "descriptor"):
        assert np.array_equal(getattr(back, name), getattr(made, name))
        assert getattr(back, name).dtype == getattr(made, name).dtype
    with pytest.raises(GraphError, match=r"expected float32 u v score and .*descriptor\[.*same features"):
        feature_codec.from_message(message, BINARY if spec is XFEAT_DESCRIPTOR else XFEAT_DESCRIPTOR)


def test_camera_round_trip():
    camera = Camera(640, 480, 517.3, 516.5, 318.6, 255.3, np.array([0.26, -0.95, -0.005, 0.002, 1.1]))
    back = camera_of(sent(convert.camera_info(camera, HEAD)))
    assert (back.width, back.height) == (640, 480)
    assert np.array_equal(back.K, camera.K) and np.array_equal(back.distortion, camera.distortion)


@given(
    encoding=st.sampled_from(
        ["bgr8", "mono8", "32FC1", "16UC1", "8SC1", "8SC130", "32FC130", "8SC", "yuv422", "", "8SC99999999", "64FC1"]
    ),
    width=st.integers(0, 2000),
    height=st.integers(0, 2000),
    step=st.integers(0, 9000),
    length=st.integers(0, 200),
    big=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_image_message_gets_through_or_crashes(encoding, width, height, step, length, big):
    message = Image(
        encoding=encoding,
        width=width,
        height=height,
        step=step,
        is_bigendian=int(big),
        data=convert.bytes_of(np.ones(length, np.uint8)),
    )
    for read in (
        lambda m: image_codec.colour_of(m, "topic"),
        lambda m: image_codec.depth_of(m, "topic")[0],
        lambda m: convert.tensor(m, "heads"),
    ):
        try:
            values = read(message)
        except DrpSlamError as error:
            assert "\n" not in str(error)
        else:
            assert values.shape[:2] == (height, width) and values.nbytes <= length * 4


@given(st.integers(0, 10), st.integers(0, 400), st.integers(0, 3000))
@settings(max_examples=50, deadline=None)
def test_no_feature_message_gets_through_or_crashes(width, point_step, length):
    message = PointCloud2(
        height=1,
        width=width,
        point_step=point_step,
        fields=feature_codec.fields(XFEAT_DESCRIPTOR),
        data=convert.bytes_of(np.zeros(length, np.uint8)),
    )
    if point_step == 268 and length >= 268 * width:
        assert len(feature_codec.from_message(message, XFEAT_DESCRIPTOR)) == width
    else:
        with pytest.raises(GraphError, match="truncated"):
            feature_codec.from_message(message, XFEAT_DESCRIPTOR)
    with pytest.raises(GraphError, match="fields"):
        feature_codec.from_message(PointCloud2(), XFEAT_DESCRIPTOR)


def test_damaged_jpeg_names_the_topic():
    with pytest.raises(DataError, match="image/compressed: 3 bytes of 'jpeg': damaged or truncated"):
        image_codec.colour_of(CompressedImage(format="jpeg", data=b"\xff\xd8\xff"), "image/compressed")
    with pytest.raises(DataError, match="depth/compressed: 0 bytes of 'png': damaged or truncated"):
        image_codec.depth_of(CompressedImage(format="png"), "depth/compressed")
    with pytest.raises(DataError, match="format 'h264' is a video codec"):
        image_codec.colour_of(CompressedImage(format="h264", data=b"\0\0\0\1gabc"), "image/compressed")


def test_a_picture_too_large_to_decode_is_refused(huge_png):
    with pytest.raises(DataError, match="depth/compressed: .*10000000000 pixels"):
        image_codec.depth_of(CompressedImage(format="png", data=huge_png), "depth/compressed")


def test_of_rectified_images_p_counts():
    info = convert.camera_info(Camera(640, 480, 500.0, 500.0, 320.0, 240.0, np.full(5, 0.1)), HEAD)
    info.p[0], info.p[5], info.p[2], info.p[6] = 450.0, 455.0, 310.0, 230.0
    camera = camera_of(info, rectified=True)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (450.0, 455.0, 310.0, 230.0)
    assert not camera.distortion.any() and camera_of(info).fx == 500.0
    info.p[:] = 0.0
    with pytest.raises(DataError, match="not calibrated"):
        camera_of(info, rectified=True)


@pytest.mark.parametrize("length", [0, 4, 5, 8])
def test_a_rational_model_without_its_denominator_is_plumb_bob(length):
    """As drivers publish it, and as `data.bag_images` reads it from a bag."""
    d = [0.1, -0.2, 0.01, 0.02, 0.3, 0.0, 0.0, 0.0][:length]
    info = convert.camera_info(Camera(640, 480, 500.0, 500.0, 320.0, 240.0), HEAD)
    info.distortion_model, info.d = "rational_polynomial", d
    assert camera_of(info).distortion.tolist() == (d + [0.0] * 5)[:5]
    if length == 8:
        info.d = d[:7] + [0.4]
        camera = camera_of(info)
        assert camera.model == "rational_polynomial" and camera.distortion.tolist() == list(info.d)
        info.distortion_model = "spherical"
        with pytest.raises(DataError, match="spherical"):
            camera_of(info)
