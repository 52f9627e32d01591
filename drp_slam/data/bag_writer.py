# SPDX-License-Identifier: Apache-2.0
"""Writes rosbag2 (MCAP and sqlite3) without ROS, through the `rosbags` package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam import geometry
from drp_slam.data import bag_images
from drp_slam.data.bag_storage import typestore
from drp_slam.data.progress import track
from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Frame, Trajectory
from drp_slam.errors import DataError

FORMATS = ("mcap", "sqlite3")
IMAGE, DEPTH = "/camera/color/image_raw", "/camera/aligned_depth_to_color/image_raw"
CAMERA_INFO, TRUTH = "/camera/color/camera_info", "/ground_truth"
OPTICAL_FRAME = "camera_color_optical_frame"


def write_bag(
    folder: Path, sequence: Sequence, storage: str = "mcap", compressed: bool = False, depth_encoding: str | None = None
) -> dict[str, Any]:
    """Writes a sequence as a rosbag2 folder, under a temporary name until it is complete.

    Depth is 16UC1 where the raw unit is a millimetre, else 32FC1 metres, or `depth_encoding`.
    Chunks of MCAP are compressed with zstd. `compressed` stores the images' own files where they are JPEG or PNG, else
    JPEG of quality 95, and 16UC1 depth as PNG. Returns how colour and depth are stored, and the largest rounding of
    depth in metres. Raises DataError.
    """
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError

    if folder.exists():
        raise DataError(f"{folder}: exists already; name another folder or remove it")
    temporary = folder.with_name(f"{folder.name}.part{os.getpid()}")
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    try:
        temporary.mkdir(parents=True)
        bag = Writer(temporary / folder.name, version=8, storage_plugin=plugin)
        if storage == "mcap":
            bag.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with bag as writer:
            result = _write(writer, sequence, compressed, depth_encoding)
        (temporary / folder.name).rename(folder)
    except (OSError, WriterError) as error:
        raise DataError(f"{folder}: cannot write: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return result


def _write(writer: Any, sequence: Sequence, compressed: bool, depth_encoding: str | None) -> dict[str, Any]:
    """All messages: ground truth first, then per frame camera_info, colour and depth, or those of a rectified pair."""
    store = typestore()
    types = store.types
    used: dict[str, Any] = {}

    def put(topic: str, message: Any, stamp_ns: int) -> None:
        kind = message.__msgtype__
        if topic not in used:
            used[topic] = writer.add_connection(topic, kind, typestore=store)
        writer.write(used[topic], stamp_ns, store.serialize_cdr(message, kind))

    def header(stamp_ns: int, frame_id: str = OPTICAL_FRAME) -> Any:
        time = types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
        return types["std_msgs/msg/Header"](time, frame_id)

    if sequence.ground_truth is not None:
        for stamp_ns, pose in _poses(types, sequence.ground_truth):
            put(TRUTH, types["geometry_msgs/msg/PoseStamped"](header(stamp_ns, "world"), pose), stamp_ns)

    lossy = False

    def put_image(topic: str, pixels: np.ndarray, stamp_ns: int, file: Path | None = None) -> None:
        nonlocal lossy
        if compressed:
            message = bag_images.as_recorded(types, header(stamp_ns), pixels, file) if file is not None else None
            lossy |= message is None
            put(f"{topic}/compressed", message or bag_images.compressed(types, header(stamp_ns), pixels), stamp_ns)
        else:
            name = "bgr8" if pixels.ndim == 3 else "mono8"
            put(topic, bag_images.image(types, header(stamp_ns), pixels, name), stamp_ns)

    camera = sequence.camera
    worst_m, encoding = 0.0, depth_encoding or ""
    for frame in track(sequence, len(sequence), "writing the bag"):
        assert frame.image is not None  # readers always provide one
        if frame.right is not None:
            infos = bag_images.pair_infos(types, header(frame.stamp_ns), camera)
            for side, pixels, info in zip(("left", "right"), (frame.image, frame.right), infos):
                put(f"/stereo/{side}/camera_info", info, frame.stamp_ns)
                put_image(
                    f"/stereo/{side}/{'image_rect' if camera.right is None else 'image_raw'}", pixels, frame.stamp_ns
                )
            continue
        depth_ns = sequence.depth_stamp_ns(frame)
        put(CAMERA_INFO, bag_images.camera_info(types, header(frame.stamp_ns), camera), frame.stamp_ns)
        own = sequence.image_files[frame.index] if sequence.image_files else None
        put_image(IMAGE, frame.image, frame.stamp_ns, own)
        encoding = encoding or ("16UC1" if abs(frame.depth_unit_m - 0.001) < 1e-9 else "32FC1")
        depth, rounding_m = encode_depth(frame, encoding)
        worst_m = max(worst_m, rounding_m)
        if compressed and encoding == "16UC1":
            put(f"{DEPTH}/compressedDepth", bag_images.compressed_depth(types, header(depth_ns), depth), depth_ns)
        else:
            put(DEPTH, bag_images.image(types, header(depth_ns), depth, encoding), depth_ns)
    colour = "jpeg, quality 95" if lossy else "exact, the images' own files" if compressed else "exact"
    return {"colour": colour, "depth_encoding": encoding, "depth_rounding_m": worst_m}


def encode_depth(frame: Frame, encoding: str) -> tuple[np.ndarray, float]:
    """Depth as 16UC1 (mm) or 32FC1 (m), and the largest rounding in metres.

    A raw uint16 survives 32FC1 exactly: metres times the scale round back to it.
    """
    if frame.depth is None:
        raise DataError(f"frame {frame.index} has no depth")
    if encoding == "32FC1":
        return (frame.depth * np.float64(frame.depth_unit_m)).astype(np.float32), 0.0
    if frame.depth.dtype == np.uint16 and abs(frame.depth_unit_m - 0.001) < 1e-9:
        return frame.depth, 0.0
    metres = np.nan_to_num(frame.depth * np.float64(frame.depth_unit_m), posinf=0.0, neginf=0.0)
    raw = np.round(metres * 1000)
    raw = np.where((raw > 0) & (raw < 65536), raw, 0)
    return raw.astype(np.uint16), float(np.abs(raw / 1000 - metres).max(initial=0.0))


def _poses(types: Any, truth: Trajectory) -> Iterator[tuple[int, Any]]:
    """Stamps and geometry_msgs/Pose."""
    turns = geometry.quaternion(truth.T_world_camera[:, :3, :3])
    for stamp_ns, place, turn in zip(truth.stamps_ns.tolist(), truth.positions_m, turns):
        yield (
            stamp_ns,
            types["geometry_msgs/msg/Pose"](
                types["geometry_msgs/msg/Point"](*map(float, place)),
                types["geometry_msgs/msg/Quaternion"](*map(float, turn)),
            ),
        )
