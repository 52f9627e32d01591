# SPDX-License-Identifier: Apache-2.0
"""rosbag2: round trips, encodings, topics, and bags that are damaged."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bag_messages import TYPES, header, messages, refused, write

from drp_slam import geometry
from drp_slam.data import bag_images, bag_storage, bag_writer, image_codec
from drp_slam.data.dataset import open_sequence
from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Frame
from drp_slam.errors import DataError


@pytest.mark.parametrize("storage", bag_writer.FORMATS)
@pytest.mark.parametrize(("compressed", "depth"), [(False, "32FC1"), (False, "16UC1"), (True, "16UC1")])
def test_a_bag_gives_back_what_was_written(
    room: Sequence, tmp_path: Path, storage: str, compressed: bool, depth: str
) -> None:
    late = dataclasses.replace(room, depth_stamps_ns=room.stamps_ns + 3_000_001)
    result = bag_writer.write_bag(tmp_path / "bag", late, storage, compressed, depth)
    read = open_sequence(str(tmp_path / "bag"))
    assert np.array_equal(read.stamps_ns, room.stamps_ns)
    assert np.array_equal(read.depth_stamps_ns, late.depth_stamps_ns)
    for name in ("width", "height", "fx", "fy", "cx", "cy", "baseline_m"):
        assert getattr(read.camera, name) == getattr(room.camera, name)
    assert np.array_equal(read.camera.distortion, room.camera.distortion)
    assert abs(read.fps - 30) < 1e-6
    assert np.array_equal(read.ground_truth.stamps_ns, room.ground_truth.stamps_ns)
    assert np.abs(read.ground_truth.T_world_camera - room.ground_truth.T_world_camera).max() < 1e-14
    worst_m = 0.0
    for a, b in zip(room, read, strict=True):
        assert (a.index, a.stamp_ns) == (b.index, b.stamp_ns)
        assert compressed or np.array_equal(a.image, b.image)
        assert np.abs(a.image.astype(int) - b.image).mean() < 6
        rounding_m = np.abs(a.depth * a.depth_unit_m - b.depth * b.depth_unit_m).max()
        worst_m = max(worst_m, float(rounding_m))
        if depth == "32FC1":
            assert np.array_equal(np.round(b.depth * 5000).astype(np.uint16), a.depth)
    assert worst_m < (1e-6 if depth == "32FC1" else 0.000501)
    assert abs(result["depth_rounding_m"] - worst_m) < 1e-6
    assert [p.name for p in tmp_path.iterdir()] == ["bag"]


OLD = bag_storage.reads_folders_only()


@pytest.mark.skipif(not OLD, reason="rosbags reads lone files here")
def test_an_old_reader_asks_for_the_folder(room: Sequence, tmp_path: Path) -> None:
    bag_writer.write_bag(tmp_path / "bag", room, "mcap")
    refused(tmp_path / "bag" / "bag.mcap", "by its folder only", "ros2 bag reindex")


@pytest.mark.skipif(OLD, reason="rosbags is an old one")
def test_a_lone_storage_file_reads_like_its_folder(room: Sequence, tmp_path: Path) -> None:
    for storage, suffix in (("mcap", "mcap"), ("sqlite3", "db3")):
        bag_writer.write_bag(tmp_path / storage, room, storage)
        lone = open_sequence(str(tmp_path / storage / f"{storage}.{suffix}"))
        assert np.array_equal(lone.stamps_ns, room.stamps_ns) and lone.name == storage
        (tmp_path / storage / "metadata.yaml").unlink()
        assert len(open_sequence(str(tmp_path / storage))) == len(room)


def test_window(room: Sequence, tmp_path: Path) -> None:
    bag_writer.write_bag(tmp_path / "bag", room)
    part = open_sequence(str(tmp_path / "bag"), start=2, frames=2)
    assert [f.index for f in part] == [0, 1]
    assert np.array_equal(next(iter(part)).image, list(room)[2].image)


@pytest.mark.parametrize("encoding", ["rgb8", "mono8", "bgra8", "rgba8"])
def test_colour_encodings(room: Sequence, tmp_path: Path, encoding: str) -> None:
    codes = {
        "rgb8": cv2.COLOR_BGR2RGB,
        "mono8": cv2.COLOR_BGR2GRAY,
        "bgra8": cv2.COLOR_BGR2BGRA,
        "rgba8": cv2.COLOR_BGR2RGBA,
    }

    def recode(f: Frame) -> tuple[np.ndarray, str]:
        return cv2.cvtColor(f.image, codes[encoding]), encoding

    frames = list(open_sequence(str(write(tmp_path / "bag", messages(room, recode)))))
    for a, b in zip(room, frames, strict=True):
        grey = encoding == "mono8"
        wanted = cv2.cvtColor(a.image, codes[encoding]) if grey else a.image
        assert np.array_equal(b.image, wanted)


def test_padded_rows_and_big_endian_depth(room: Sequence) -> None:
    depth = next(iter(room)).depth
    message = bag_images.image(TYPES, header(1), depth, "16UC1")
    rows = np.zeros((48, 140), np.uint8)
    rows[:, :128] = depth.astype(">u2").view(np.uint8).reshape(48, 128)
    swapped = dataclasses.replace(message, step=140, is_bigendian=1, data=rows.ravel())
    for m in (message, swapped):
        found, unit_m = image_codec.depth_of(m, "here")
        assert np.array_equal(found, depth) and found.dtype == np.uint16 and unit_m == 0.001
    with pytest.raises(DataError, match="truncated: 6143 bytes, but height x step is 6144"):
        image_codec.depth_of(dataclasses.replace(message, data=message.data[:-1]), "here")


def test_quantised_float_depth_of_the_depth_transport() -> None:
    metres = np.linspace(0.4, 9, 12, dtype=np.float32).reshape(3, 4)
    a, b = 100.0 * 101.0, 1.0 - 100.0 * 101.0 / 10.0
    raw = np.round(a / metres + b)
    raw[0, 0] = 0
    head = np.frombuffer(np.int32(0).tobytes() + np.float32([a, b]).tobytes(), np.uint8)
    png = cv2.imencode(".png", raw.astype(np.uint16))[1]
    message = TYPES["sensor_msgs/msg/CompressedImage"](
        header(1), "32FC1; compressedDepth png", np.concatenate([head, png])
    )
    found, unit_m = image_codec.depth_of(message, "here")
    assert unit_m == 1.0 and found[0, 0] == 0
    assert np.all(np.abs(found - metres)[raw > 0] <= metres[raw > 0] ** 2 / a)


def test_nan_depth_passes_through(room: Sequence, tmp_path: Path) -> None:
    def with_nan(f: Frame) -> tuple[np.ndarray, str]:
        metres = (f.depth * f.depth_unit_m).astype(np.float32)
        metres[10:20] = np.nan
        return metres, "32FC1"

    path = write(tmp_path / "bag", messages(room, depth=with_nan))
    for frame in open_sequence(str(path)):
        assert np.isnan(frame.depth[10:20]).all() and np.isfinite(frame.depth[20:]).all()


@pytest.mark.parametrize(("side", "encoding"), [("colour", "32FC3"), ("depth", "64FC1")])
def test_wrong_encoding(room: Sequence, tmp_path: Path, side: str, encoding: str) -> None:
    def wrong(f: Frame) -> tuple[np.ndarray, str]:
        return f.image, encoding

    path = write(tmp_path / "bag", messages(room, **{side: wrong}))
    refused(path, "/camera/", repr(encoding), "publish")


def test_bag_without_depth(room: Sequence, tmp_path: Path) -> None:
    path = write(tmp_path / "bag", [m for m in messages(room) if "depth" not in m[0]])
    read = open_sequence(str(path))
    assert read.camera.mono and read.facts()["scale"] == "free" and any("up to scale" in note for note in read.notes)
    frames = list(read)
    assert len(frames) == len(room) and all(f.depth is None and f.right is None for f in frames)
    assert all(np.array_equal(one.image, two.image) for one, two in zip(frames, room))


def test_bag_whose_depth_may_have_been_missed_is_refused(room: Sequence, tmp_path: Path) -> None:
    def infrared(f: Frame) -> tuple[np.ndarray, str]:
        return f.image[:, :, 0].copy(), "mono8"

    path = write(tmp_path / "bag", messages(room, depth=infrared))
    listed = "/camera/color/image_raw (Image, bgr8, 64x48, camera)"
    refused(path, str(path), "no depth topic", listed, ":depth=/TOPIC")
    assert open_sequence(f"{path}:depth=none,image=/camera/color/image_raw").camera.mono


@pytest.mark.parametrize("choice", ("sensor=mono", "depth=none"))
def test_bag_with_depth_is_read_without_it(room: Sequence, tmp_path: Path, choice: str) -> None:
    path = write(tmp_path / "bag", messages(room))
    read = open_sequence(f"{path}:{choice}")
    assert read.camera.mono and set(read.topics) == {"image", "camera_info"}
    assert [f.depth for f in read] == [None] * len(room)


def test_bag_without_calibration_takes_one_by_name(room: Sequence, room_folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "bag", [m for m in messages(room) if "info" not in m[0]])
    refused(path, str(path), "no calibration", "--camera")
    read = open_sequence(str(path), camera=str(room_folder / "camera.yaml"))
    assert read.camera.fx == room.camera.fx
    assert read.camera.depth_scale == 5000 and next(iter(read)).depth_unit_m == 1 / 5000
    assert any("0.2 mm by --camera, not" in note for note in read.notes), "what overrules is said"


def test_camera_info_of_another_size(room: Sequence, tmp_path: Path) -> None:
    other = dataclasses.replace(room.camera, width=128)
    wrong = [
        (t, s, bag_images.camera_info(TYPES, m.header, other)) if "info" in t else (t, s, m)
        for t, s, m in messages(room)
    ]
    refused(write(tmp_path / "bag", wrong), "the image is 64x48", "128x48")


def test_fisheye_is_refused(room: Sequence, tmp_path: Path) -> None:
    fisheye = [
        (t, s, dataclasses.replace(m, distortion_model="equidistant")) if "info" in t else (t, s, m)
        for t, s, m in messages(room)
    ]
    refused(write(tmp_path / "bag", fisheye), "camera_info", "equidistant", "rectify")


def test_topics_are_chosen_by_name(room: Sequence, tmp_path: Path) -> None:
    left = messages(room, image_topic="/a/left", depth_topic="/a/depth")
    dark = messages(room, lambda f: (f.image // 2, "bgr8"), image_topic="/b/right")
    both = left + [m for m in dark if m[0] == "/b/right"]
    path = write(tmp_path / "bag", sorted(both, key=lambda m: m[1]))
    bright = next(iter(open_sequence(str(path)))).image
    chosen = next(iter(open_sequence(f"{path}:image=/b/right,depth=/a/depth"))).image
    assert np.array_equal(chosen, bright // 2)
    refused(f"{path}:image=/nope", "'/nope'", "/a/left (Image, bgr8, 64x48, camera)")
    refused(f"{path}:picture=/nope", "picture", "camera_info")


@pytest.mark.parametrize("topic", ["/camera/color/image_raw", "/camera/depth/image_raw"])
@pytest.mark.parametrize("moved_s", [0.0, -0.005, -3.0, 1e6])
def test_one_odd_stamp_costs_one_frame(room: Sequence, tmp_path: Path, topic: str, moved_s: float) -> None:
    """Twice the stamp before (0), a little back, far back, far ahead."""
    mixed = messages(room)
    here = [i for i, m in enumerate(mixed) if m[0] == topic]
    before, (name, log_ns, message) = mixed[here[2]][2].header.stamp, mixed[here[3]]
    stamp_ns = before.sec * 10**9 + before.nanosec + round(moved_s * 1e9)
    mixed[here[3]] = name, log_ns, dataclasses.replace(message, header=header(stamp_ns))
    read = open_sequence(str(write(tmp_path / "bag", mixed)))
    wanted = np.delete(room.stamps_ns, 3)
    assert [f.stamp_ns for f in read if f.stamp_ns in wanted] == wanted.tolist()
    assert any(topic in note and "1 of 6 skipped" in note for note in read.notes), read.notes


def test_a_recording_of_a_loop_is_read_to_its_end(room: Sequence, tmp_path: Path) -> None:
    laps = [(t, log + lap * 10**9, m) for lap in (0, 1) for t, log, m in messages(room)]
    read = open_sequence(str(write(tmp_path / "bag", laps)))
    assert read.stamps_ns.tolist() == 2 * room.stamps_ns.tolist()
    first = list(room)
    for k, frame in enumerate(read):
        assert np.array_equal(frame.image, first[k % 6].image) and np.array_equal(frame.depth, first[k % 6].depth)
    assert any("epoch 1" in note for note in read.notes)


@pytest.mark.parametrize("stamp_ns", [0, 7 * 10**9])
def test_header_stamps_that_stand_still_give_way_to_the_time_of_recording(
    room: Sequence, tmp_path: Path, stamp_ns: int
) -> None:
    still = [
        (t, log, dataclasses.replace(m, header=header(stamp_ns)) if hasattr(m, "header") else m)
        for t, log, m in messages(room)
    ]
    read = open_sequence(str(write(tmp_path / "bag", still)))
    assert read.stamps_ns.tolist() == room.stamps_ns.tolist() and len(list(read)) == 6
    assert any("do not advance" in note for note in read.notes)


def transform(stamp_ns: int, parent: str, child: str, T: np.ndarray) -> Any:
    q = TYPES["geometry_msgs/msg/Quaternion"](*map(float, geometry.quaternion(T[:3, :3])))
    p = TYPES["geometry_msgs/msg/Vector3"](*map(float, T[:3, 3]))
    body = TYPES["geometry_msgs/msg/Transform"](p, q)
    return TYPES["geometry_msgs/msg/TransformStamped"](header(stamp_ns, parent), child, body)


@pytest.mark.parametrize(("root", "found"), [("world", True), ("odom", False)])
def test_ground_truth_through_tf(room: Sequence, tmp_path: Path, root: str, found: bool) -> None:
    fixed = room.ground_truth.T_world_camera[0]
    tf = TYPES["tf2_msgs/msg/TFMessage"]
    recorded = messages(room)
    for stamp_ns, T in zip(room.stamps_ns.tolist(), room.ground_truth.T_world_camera):
        moving = transform(stamp_ns, root, "/kinect", T @ np.linalg.inv(fixed))
        still = transform(stamp_ns, "kinect", "camera", fixed)
        recorded.append(("/tf", stamp_ns, tf([moving, still])))
    read = open_sequence(str(write(tmp_path / "bag", sorted(recorded, key=lambda m: m[1]))))
    assert (read.ground_truth is not None) == found
    if found:
        assert np.array_equal(read.ground_truth.stamps_ns, room.stamps_ns)
        difference = read.ground_truth.T_world_camera - room.ground_truth.T_world_camera
        assert np.abs(difference).max() < 1e-12


def test_poses_that_motion_capture_lost_are_left_out(room: Sequence, tmp_path: Path) -> None:
    recorded = messages(room)
    for k, stamp_ns in enumerate(room.stamps_ns.tolist()):
        q = [math.nan] * 4 if k == 0 else [0.0, 0.0, 0.0, 1.0]
        pose = TYPES["geometry_msgs/msg/Pose"](
            TYPES["geometry_msgs/msg/Point"](math.inf if k == 1 else 1.0, 0.0, 0.0),
            TYPES["geometry_msgs/msg/Quaternion"](*q),
        )
        message = TYPES["geometry_msgs/msg/PoseStamped"](header(stamp_ns), pose)
        recorded.append((bag_writer.TRUTH, stamp_ns, message))
    truth = open_sequence(str(write(tmp_path / "bag", recorded))).ground_truth
    assert truth is not None
    np.testing.assert_array_equal(truth.stamps_ns, room.stamps_ns[2:])
    assert np.isfinite(truth.T_world_camera).all()
