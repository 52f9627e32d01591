# SPDX-License-Identifier: Apache-2.0
"""Bags of the layouts that camera drivers publish: the right topics, calibration and registration of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Many
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags.rosbag2")

from bag_messages import TYPES, refused
from recording import OPTICAL, Recorder, colour, confidence, infrared, metres, millimetres, other

from drp_slam.config import Config
from drp_slam.config.config_file import override
from drp_slam.data import bag_images
from drp_slam.data.dataset import named, open_sequence, playable
from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Camera, Frame


@pytest.fixture
def recorder(room: Sequence) -> Recorder:
    return Recorder(room)


def taken(sequence: Sequence, *roles: str) -> list[str]:
    return [sequence.topics[role][0] for role in roles]


def test_oak_d(recorder: Recorder, tmp_path: Path) -> None:
    """Depth is called stereo; the colour image has a compressedDepth below it."""
    recorder.info("/oak/rgb/camera_info", recorder.room.camera).info("/oak/stereo/camera_info", recorder.room.camera)
    recorder.images("/oak/rgb/image_raw", colour, "bgr8").images("/oak/stereo/image_raw", millimetres, "16UC1")
    for f in recorder.frames:
        head = recorder._header(f.stamp_ns, OPTICAL)
        empty = TYPES["sensor_msgs/msg/CompressedImage"](head, "", np.zeros(0, np.uint8))
        recorder.messages.append(("/oak/rgb/image_raw/compressedDepth", f.stamp_ns, empty))
    read = recorder.bag(tmp_path / "bag")
    assert taken(read, "image", "depth") == ["/oak/rgb/image_raw", "/oak/stereo/image_raw"]
    assert all(why for _, why in read.topics.values()) and len(list(read)) == 6


def test_azure_kinect(recorder: Recorder, tmp_path: Path) -> None:
    camera = recorder.room.camera
    small = np.full((40, 40), 900, np.uint16)
    for name in ("rgb", "depth_to_rgb"):
        recorder.info(f"/{name}/camera_info", camera, "rgb_camera_link")
    for name in ("depth", "ir", "rgb_to_depth"):
        recorder.info(f"/{name}/camera_info", dataclasses.replace(camera, width=40, height=40), "depth_camera_link")
    recorder.images("/rgb/image_raw", colour, "bgr8", "rgb_camera_link")
    recorder.images("/depth_to_rgb/image_raw", millimetres, "16UC1", "rgb_camera_link")
    recorder.images("/depth/image_raw", small, "16UC1", "depth_camera_link")
    recorder.images("/ir/image_raw", small, "mono16", "depth_camera_link")
    recorder.images("/rgb_to_depth/image_raw", np.zeros((40, 40, 3), np.uint8), "bgr8", "depth_camera_link")
    read = recorder.bag(tmp_path / "bag")
    assert taken(read, "image", "depth", "camera_info") == [
        "/rgb/image_raw",
        "/depth_to_rgb/image_raw",
        "/rgb/camera_info",
    ]


def test_zed(recorder: Recorder, tmp_path: Path) -> None:
    """Confidence is 32FC1 in the same frame, rectified images take P, the right image has no depth."""
    camera = recorder.room.camera
    rectified = bag_images.camera_info(TYPES, None, dataclasses.replace(camera, fx=camera.fx * 0.9)).p
    raw = dataclasses.replace(camera, distortion=np.full(5, 0.1))
    for name in ("rgb", "depth", "confidence"):
        recorder.info(f"/zed/zed_node/{name}/camera_info", raw, "zed_left", p=rectified)
    recorder.images("/zed/zed_node/confidence/confidence_map", confidence, "32FC1", "zed_left")
    recorder.images("/zed/zed_node/depth/depth_registered", metres, "32FC1", "zed_left")
    recorder.images(
        "/zed/zed_node/rgb/image_rect_color", lambda f: cv2.cvtColor(f.image, cv2.COLOR_BGR2BGRA), "bgra8", "zed_left"
    )
    read = recorder.bag(tmp_path / "bag")
    assert taken(read, "image", "depth") == [
        "/zed/zed_node/rgb/image_rect_color",
        "/zed/zed_node/depth/depth_registered",
    ]
    assert read.camera.fx == camera.fx * 0.9 and not read.camera.distortion.any()


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_cameras_that_with_depth_is_taken(recorder: Recorder, tmp_path: Path, order: int) -> None:
    front, rear = ("front", "rear")[::order]
    for name, make in ((front, other), (rear, colour)):
        recorder.info(f"/{name}/camera_info", recorder.room.camera, f"{name}_optical")
        recorder.images(f"/{name}/image_raw", make, "bgr8", f"{name}_optical")
    recorder.images(f"/{rear}/range", millimetres, "16UC1", f"{rear}_optical")
    read = recorder.bag(tmp_path / "bag")
    assert taken(read, "image", "depth", "camera_info") == [
        f"/{rear}/image_raw",
        f"/{rear}/range",
        f"/{rear}/camera_info",
    ]
    assert np.array_equal(next(iter(read)).image, recorder.frames[0].image)


def test_depth_of_another_camera_is_refused_as_unregistered(recorder: Recorder, tmp_path: Path) -> None:
    recorder.info("/front/camera_info", recorder.room.camera, "front").images("/front/image", colour, "bgr8", "front")
    recorder.images("/rear/depth", millimetres, "16UC1", "rear")
    path = recorder.write(tmp_path / "bag")
    refused(path, "unregistered", "/rear/depth", "frame rear", "registered=yes")
    assert len(list(open_sequence(f"{path}:registered=yes"))) == 6


@pytest.mark.parametrize("size", [1, 2])
def test_depth_in_its_own_frame_is_registered_by_the_extrinsics(recorder: Recorder, tmp_path: Path, size: int) -> None:
    """A wall 2 m away, seen by a depth camera 0.1 m to the left: its edge moves by fx 0.1 / 2 pixels."""
    camera = recorder.room.camera
    shape = camera.height // size, camera.width // size
    depth_camera = Camera(shape[1], shape[0], camera.fx / size, camera.fy / size, camera.cx / size, camera.cy / size)
    wall = np.full(shape, 2000, np.uint16)
    wall[:, : shape[1] // 2] = 0
    recorder.info("/camera/color/camera_info", camera).images("/camera/color/image_raw", colour, "bgr8")
    recorder.info("/camera/depth/camera_info", depth_camera, "camera_depth_optical_frame")
    recorder.images("/camera/depth/image_rect_raw", wall, "16UC1", "camera_depth_optical_frame")
    T = np.eye(4)
    T[0, 3] = -0.1
    recorder.static("camera_link", OPTICAL, np.eye(4)).static("camera_link", "camera_depth_optical_frame", T)
    read = recorder.bag(tmp_path / "bag")
    frame = next(iter(read))
    assert frame.depth.shape == (camera.height, camera.width) and frame.depth_unit_m == 1.0
    edge = camera.width / 2 - camera.fx * 0.1 / 2
    row = frame.depth[camera.height // 2]
    filled = np.flatnonzero(row)
    assert abs(filled[0] - edge) <= 1 + size and np.allclose(row[filled[0] : filled[-1]], 2.0, atol=1e-6)
    assert "linked by /tf_static" in read.topics["depth"][1]


def test_depth_of_another_focal_length_is_resampled(recorder: Recorder, tmp_path: Path) -> None:
    """A depth camera at the same place with half the focal length shows the image's view in its middle."""
    camera = recorder.room.camera
    wide = dataclasses.replace(camera, fx=camera.fx / 2, fy=camera.fy / 2, width=80, height=80, cx=40.0, cy=40.0)
    v, u = np.mgrid[:80, :80]
    plane = (1000 + 4 * u + v).astype(np.uint16)
    recorder.info("/color/camera_info", camera).images("/color/image_raw", colour, "bgr8")
    recorder.info("/depth/camera_info", wide).images("/depth/image_raw", plane, "16UC1")
    depth = next(iter(recorder.bag(tmp_path / "bag"))).depth
    v, u = np.mgrid[: camera.height, : camera.width]
    wanted = 1000 + 4 * np.rint((u - camera.cx) / 2 + 40) + np.rint((v - camera.cy) / 2 + 40)
    assert np.array_equal(depth, wanted)


def test_infrared_is_no_image_beside_colour_and_no_depth(recorder: Recorder, tmp_path: Path) -> None:
    camera = recorder.room.camera
    for name in ("infra1", "infra2"):
        recorder.info(f"/camera/{name}/camera_info", camera, "ir").images(
            f"/camera/{name}/image_rect_raw", infrared, "mono8", "ir"
        )
    recorder.images("/camera/ir/image_raw", lambda f: infrared(f).astype(np.uint16) * 4, "16UC1")
    recorder.info("/camera/rgb/camera_info", camera).images("/camera/rgb/image_raw", colour, "rgb8")
    recorder.images("/camera/zz/points", metres, "32FC1")
    read = recorder.bag(tmp_path / "bag")
    assert taken(read, "image", "depth") == ["/camera/rgb/image_raw", "/camera/zz/points"]


def stereo(recorder: Recorder, left: str = "left", right: str = "right", rectified: bool = False) -> Recorder:
    camera = recorder.room.camera
    base = "image_rect" if rectified else "image_raw"
    P = np.hstack([camera.K, np.zeros((3, 1))])
    recorder.info(f"/stereo/{left}/camera_info", camera, "left", p=P.ravel())
    P = P.copy()
    P[0, 3] = -camera.fx * 0.12
    recorder.info(f"/stereo/{right}/camera_info", camera, "left", p=P.ravel())
    recorder.images(f"/stereo/{left}/{base}", infrared, "mono8", "left")
    return recorder.images(f"/stereo/{right}/{base}", lambda f: infrared(f) // 2, "mono8", "left", shift_ns=1_000_000)


@pytest.mark.parametrize("encoding", ["mono16", "bayer_grbg16"])
def test_16_bit_png_beside_depth_is_an_image(recorder: Recorder, tmp_path: Path, encoding: str) -> None:
    recorder.info("/c/camera_info", recorder.room.camera).images("/c/depth", millimetres, "16UC1")
    for f in recorder.frames:
        png = cv2.imencode(".png", cv2.cvtColor(f.image, cv2.COLOR_BGR2GRAY).astype(np.uint16) << 8)[1].ravel()
        kind = TYPES["sensor_msgs/msg/CompressedImage"]
        message = kind(recorder._header(f.stamp_ns, OPTICAL), f"{encoding}; png compressed ", png)
        recorder.messages.append(("/c/image_raw/compressed", f.stamp_ns, message))
    read = recorder.bag(tmp_path / "bag")
    assert read.topics["image"][0] == "/c/image_raw/compressed" and read.topics["depth"][0] == "/c/depth"
    assert next(iter(read)).image.ndim == (2 if encoding == "mono16" else 3)


@pytest.mark.parametrize("names", [("left", "right"), ("cam1", "cam0"), ("infra1", "infra2")])
def test_a_stereo_pair_is_known_by_its_baseline(recorder: Recorder, tmp_path: Path, names: Many[str]) -> None:
    read = stereo(recorder, *names).bag(tmp_path / "bag")
    assert taken(read, "image", "right") == [f"/stereo/{name}/image_raw" for name in names]
    assert read.camera.baseline_m == pytest.approx(0.12)
    for f, frame in zip(recorder.frames, read, strict=True):
        assert frame.depth is None
        assert np.array_equal(frame.image, infrared(f)) and np.array_equal(frame.right, infrared(f) // 2)


def test_a_pair_beside_depth_is_taken_where_it_is_asked_for(recorder: Recorder, tmp_path: Path) -> None:
    stereo(recorder, rectified=True)
    recorder.info("/color/camera_info", recorder.room.camera).images("/color/image_raw", colour, "bgr8")
    recorder.images("/depth/image_raw", millimetres, "16UC1")
    path = recorder.write(tmp_path / "bag")
    assert taken(open_sequence(str(path)), "image", "depth") == ["/color/image_raw", "/depth/image_raw"]
    read = open_sequence(f"{path}:right=/stereo/right/image_rect,image=/stereo/left/image_rect")
    assert read.camera.baseline_m == pytest.approx(0.12) and next(iter(read)).right is not None


@pytest.mark.parametrize(("factor", "unit_m"), [(10, 1e-4), (4, 2.5e-4), (5, 2e-4), (0.001, 1.0)])
def test_a_unit_that_cannot_be_right_is_reported_and_may_be_given(
    recorder: Recorder, tmp_path: Path, factor: float, unit_m: float
) -> None:
    def scaled(f: Frame) -> np.ndarray:
        return np.round(millimetres(f).astype(np.float64) * factor).clip(0, 65535).astype(np.uint16)

    recorder.info("/c/camera_info", recorder.room.camera).images("/c/image_raw", colour, "bgr8")
    path = recorder.images("/c/depth", scaled, "16UC1").write(tmp_path / "bag")
    assert any("depth_unit_m" in note for note in open_sequence(str(path)).notes)
    read = open_sequence(f"{path}:depth_unit_m={unit_m}")
    assert next(iter(read)).depth_unit_m == unit_m and not any("half of the depth" in note for note in read.notes)


def test_millimetres_in_floats_are_taken_where_there_is_no_other_depth(recorder: Recorder, tmp_path: Path) -> None:
    recorder.info("/c/camera_info", recorder.room.camera).images("/c/image_raw", colour, "bgr8")
    recorder.images("/c/range", lambda f: millimetres(f).astype(np.float32), "32FC1")
    path = recorder.images("/c/confidence_map", confidence, "32FC1").write(tmp_path / "bag")
    read = open_sequence(str(path))
    assert taken(read, "depth") == ["/c/range"] and any("likely units: 1 mm" in note for note in read.notes)
    frame = next(iter(open_sequence(f"{path}:depth_unit_m=0.001")))
    assert np.allclose(frame.depth * frame.depth_unit_m, metres(recorder.frames[0]), atol=6e-4)


def test_roles_may_be_left_out(recorder: Recorder, tmp_path: Path, room_folder: Path) -> None:
    recorder.info("/c/camera_info", recorder.room.camera).images("/c/image_raw", colour, "bgr8")
    path = recorder.images("/c/depth", millimetres, "16UC1").write(tmp_path / "bag")
    refused(f"{path}:camera_info=none", "no calibration")
    read = open_sequence(f"{path}:camera_info=none,truth=none", str(room_folder / "camera.yaml"))
    assert "camera_info" not in read.topics and len(list(read)) == 6


@pytest.mark.parametrize("offset_ms", [25, -31, 90])
def test_a_constant_offset_of_depth_is_measured(recorder: Recorder, tmp_path: Path, offset_ms: int) -> None:
    """Stamps as uneven as a camera's: with even ones an offset of a period cannot be told from none."""
    uneven = np.array([0, 41, 75, 104, 143, 171]) * 1_000_000
    recorder.frames = [
        dataclasses.replace(f, stamp_ns=10**9 + int(s)) for f, s in zip(recorder.frames, uneven, strict=True)
    ]
    recorder.info("/c/camera_info", recorder.room.camera).images("/c/image_raw", colour, "bgr8")
    path = recorder.images("/c/depth", millimetres, "16UC1", shift_ns=offset_ms * 1_000_000).write(tmp_path / "bag")
    read = open_sequence(str(path))
    assert any(f"{offset_ms:+.1f} ms" in note for note in read.notes), read.notes
    for f, frame in zip(recorder.frames, read, strict=True):
        assert frame.stamp_ns == f.stamp_ns and np.array_equal(frame.depth, millimetres(f))
    assert len(open_sequence(f"{path}:depth_offset_s={offset_ms / 1000}")) == 6


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("depth_unit_m=0", "depth_unit_m is '0', expected 1e-06 to 10"),
        ("depth_unit_m=mm", "depth_unit_m is 'mm'"),
        ("registered=maybe", "expected yes or no"),
        ("dept=/d", "unknown choice 'dept=/d'"),
        ("image=/i,depth", "unknown choice 'depth'"),
    ],
)
def test_choices_that_cannot_be_are_one_line(recorder: Recorder, tmp_path: Path, choice: str, words: str) -> None:
    refused(f"{recorder.images('/i', colour, 'bgr8').write(tmp_path / 'bag')}:{choice}", words)


def test_parameters_of_depth_travel_with_the_name_to_the_player() -> None:
    values = {"depth_unit_m": 0.00025, "depth_offset_s": -0.02, "depth_tolerance_s": 0.05, "depth_registered": True}
    config = override(Config(), {f"slam.{key}": value for key, value in values.items()})
    said = "depth_unit_m=0.00025,depth_offset_s=-0.02,registered=yes,depth_tolerance_s=0.05"
    assert named("bag", config.slam) == f"bag:{said}" and named("bag", Config().slam) == "bag"
    assert named("bag:image=/i", config.slam) == f"bag:image=/i,{said}"
    assert named("synthetic:seed=1", config.slam) == "synthetic:seed=1"
    played = playable(override(config, {"player.sequence": "bag"}))
    assert played.player.sequence == f"bag:{said}" and played.slam == Config().slam
