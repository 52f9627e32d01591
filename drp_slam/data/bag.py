# SPDX-License-Identifier: Apache-2.0
"""Reads and writes rosbag2 (MCAP and sqlite3) without ROS, through the `rosbags` package."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.data import bag_images, bag_topics
from drp_slam.data.dataset import calibration
from drp_slam.data.progress import track
from drp_slam.data.sequence import Sequence, window
from drp_slam.data.trajectory import MAX_DIFFERENCE_S, associate, quaternions
from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import DataError

FORMATS = ("mcap", "sqlite3")
IMAGE, DEPTH = "/camera/color/image_raw", "/camera/aligned_depth_to_color/image_raw"
CAMERA_INFO, TRUTH = "/camera/color/camera_info", "/ground_truth"
OPTICAL_FRAME = "camera_color_optical_frame"


@dataclass(frozen=True)
class _Index:
    """What one pass over a bag finds: stamps and log times (M,) int64 of both topics."""

    colour: np.ndarray
    depth: np.ndarray
    camera: Camera | None
    depth_scale: float
    truth: Trajectory | None


def open_bag(
    path: Path,
    given: Camera | None = None,
    start: int = 0,
    frames: int | None = None,
    topics: Mapping[str, str] | None = None,
) -> Sequence:
    """Opens a bag; one pass reads stamps, calibration and ground truth, images are decoded later.

    `topics` may choose `image`, `depth`, `camera_info`, `truth`. Raises DataError; for a damaged
    bag it names the repair.
    """
    index = _index(path, topics or {})
    i, j = associate(index.colour[0], index.depth[0])
    if not len(i):
        raise DataError(f"{path}: no colour image has a depth image within {MAX_DIFFERENCE_S:g} s; "
                        "check the stamps in the headers")  # fmt: skip
    chosen = window(i, start, frames, str(path))
    colour, depth = index.colour[:, i[chosen]], index.depth[:, j[chosen]]
    camera = calibration(index.camera, given, str(path))
    # the encoding says what a unit of depth is, whatever a calibration from elsewhere believes
    camera = dataclasses.replace(camera, depth_scale=index.depth_scale)

    def source() -> Iterator[Frame]:
        return _frames(path, topics or {}, colour, depth)

    return Sequence(path.resolve().stem, camera, colour[0], index.truth, source, depth[0])


def _index(path: Path, chosen: Mapping[str, str]) -> _Index:
    """One pass over the bag."""
    store = _store()
    with _reader(path) as reader:
        topics = bag_topics.choose(reader.connections, chosen, str(path))
        rows: dict[str, list[tuple[int, int]]] = {topics.image.topic: [], topics.depth.topic: []}
        first: dict[str, Any] = {}
        poses: list[bag_topics.Sample] = []
        wanted = [c for c in (topics.image, topics.depth, topics.info) if c is not None]
        for connection, log_ns, data in _messages(reader, [*wanted, *topics.truth], path):
            if connection.topic in rows:
                rows[connection.topic].append((_stamp(data), log_ns))
            if connection.topic not in first and connection.msgtype != bag_topics.TF:
                first[connection.topic] = store.deserialize_cdr(data, connection.msgtype)
            if connection in topics.truth:
                message = store.deserialize_cdr(data, connection.msgtype)
                poses += bag_topics.samples(message, connection.msgtype)
    colour, depth = (np.array(rows[c.topic], np.int64).reshape(-1, 2).T for c in wanted[:2])
    for connection, stamps in zip(wanted, (colour[0], depth[0])):
        steps = np.flatnonzero(np.diff(stamps) <= 0)
        if len(steps):
            raise DataError(f"{path}: {connection.topic}: header stamps out of order at message "
                            f"{steps[0] + 2}; does the driver set them?")  # fmt: skip
    _, unit_m = bag_images.depth_of(first[topics.depth.topic], f"{path}: {topics.depth.topic}")
    depth_scale = float(round(1 / unit_m))
    fps = 1e9 / float(np.median(np.diff(colour[0]))) if colour.shape[1] > 1 else 30.0
    camera = None
    if topics.info is not None and topics.info.topic in first:
        camera = bag_images.camera_of(first[topics.info.topic], depth_scale, fps,
                                      f"{path}: {topics.info.topic}")  # fmt: skip
    frame_id = first[topics.image.topic].header.frame_id
    truth = None
    if poses:
        truth = bag_topics.trajectory(poses, topics.truth[0].msgtype, frame_id)
    return _Index(colour, depth, camera, depth_scale, truth)


def _frames(
    path: Path, chosen: Mapping[str, str], colour: np.ndarray, depth: np.ndarray
) -> Iterator[Frame]:
    """Frames in the order of their colour stamps; each is decoded once both images are read."""
    store = _store()
    place = [{stamp: k for k, stamp in enumerate(rows[0].tolist())} for rows in (colour, depth)]
    waiting: dict[int, dict[int, bytes]] = {}
    upcoming = 0
    begin = int(min(colour[1].min(), depth[1].min()))
    end = int(max(colour[1].max(), depth[1].max())) + 1
    with _reader(path) as reader:
        topics = bag_topics.choose(reader.connections, chosen, str(path))
        pair = (topics.image, topics.depth)
        for connection, _, data in _messages(reader, list(pair), path, begin, end):
            side = pair.index(connection)
            k = place[side].get(_stamp(data))
            if k is None:
                continue
            waiting.setdefault(k, {})[side] = data
            while len(waiting.get(upcoming, ())) == 2:
                both = waiting.pop(upcoming)
                image, range_image = (
                    store.deserialize_cdr(both[s], pair[s].msgtype) for s in (0, 1)
                )
                stamp_ns = int(colour[0, upcoming])
                where = f"{path}: frame {upcoming}"
                pixels = bag_images.colour_of(image, f"{where} of {pair[0].topic}")
                metres, unit_m = bag_images.depth_of(range_image, f"{where} of {pair[1].topic}")
                yield Frame(upcoming, stamp_ns, pixels, metres, unit_m)
                upcoming += 1


def _stamp(data: bytes) -> int:
    """The header's stamp in ns, straight from the CDR bytes (byte 1 tells the endianness)."""
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] else ">iI", data, 4)
    return int(seconds) * 10**9 + int(nanoseconds)


def _store() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


def _damaged(path: Path, error: Exception) -> DataError:
    """What to do about a bag that cannot be read."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    if any(f.suffix == ".db3" for f in files):
        repair = f"ros2 bag reindex -s sqlite3 {path}"
    else:
        repair = f"mcap recover {next((f.name for f in files if f.suffix == '.mcap'), path.name)}"
    return DataError(f"{path}: damaged, truncated or incomplete bag ({error}); try: {repair}")


@contextlib.contextmanager
def _reader(path: Path) -> Iterator[Any]:
    """An open reader."""
    from rosbags.rosbag2 import Reader

    target = path
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        # an interrupted recording has no metadata yet; a single file says it all itself
        files = [f for f in path.iterdir() if f.suffix in (".mcap", ".db3")]
        if len(files) != 1:
            raise _damaged(path, FileNotFoundError("metadata.yaml is missing"))
        target = files[0]
    try:
        reader = Reader(target)
        reader.open()
    except Exception as error:  # damaged bytes surface as any error of the storage libraries
        raise _damaged(path, error) from error
    try:
        yield reader
    finally:
        reader.close()


def _messages(
    reader: Any,
    connections: list[Any],
    path: Path,
    begin: int | None = None,
    end: int | None = None,
) -> Iterator[tuple[Any, int, bytes]]:
    """Messages in order of time. Raises DataError where the bag breaks off."""
    messages = reader.messages(connections, begin, end)
    while True:
        try:
            item = next(messages)
        except StopIteration:
            return
        except Exception as error:  # as above
            raise _damaged(path, error) from error
        yield item


def write_bag(
    folder: Path,
    sequence: Sequence,
    storage: str = "mcap",
    compressed: bool = False,
    depth_encoding: str | None = None,
) -> dict[str, Any]:
    """Writes a sequence as a rosbag2 folder, under a temporary name until it is complete.

    Depth is 16UC1 where the raw unit is a millimetre, else 32FC1 metres; `depth_encoding` asks for
    one of them. `compressed` stores JPEG colour and PNG depth (where 16UC1). Returns the encoding
    and the largest rounding of depth in metres. Raises DataError.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

    if folder.exists():
        raise DataError(f"{folder}: exists already; name another folder or remove it")
    temporary = folder.with_name(f"{folder.name}.part{os.getpid()}")
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    try:
        temporary.mkdir(parents=True)
        with Writer(temporary / folder.name, version=8, storage_plugin=plugin) as writer:
            result = _write(writer, sequence, compressed, depth_encoding)
        (temporary / folder.name).rename(folder)
    except (OSError, WriterError) as error:
        raise DataError(f"{folder}: cannot write: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return result


def _write(
    writer: Any, sequence: Sequence, compressed: bool, depth_encoding: str | None
) -> dict[str, Any]:
    """All messages: ground truth first, then per frame camera_info, colour, depth."""
    store = _store()
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
            put(
                TRUTH,
                types["geometry_msgs/msg/PoseStamped"](header(stamp_ns, "world"), pose),
                stamp_ns,
            )
    worst_m, encoding = 0.0, depth_encoding or ""
    for frame in track(sequence, len(sequence), "writing the bag"):
        depth_ns = sequence.depth_stamp_ns(frame)
        put(CAMERA_INFO, bag_images.camera_info(types, header(frame.stamp_ns), sequence.camera),
            frame.stamp_ns)  # fmt: skip
        if compressed:
            picture = bag_images.compressed(types, header(frame.stamp_ns), frame.image, depth=False)
            put(f"{IMAGE}/compressed", picture, frame.stamp_ns)
        else:
            name = "bgr8" if frame.image.ndim == 3 else "mono8"
            put(IMAGE, bag_images.image(types, header(frame.stamp_ns), frame.image, name),
                frame.stamp_ns)  # fmt: skip
        encoding = encoding or ("16UC1" if abs(frame.depth_unit_m - 0.001) < 1e-9 else "32FC1")
        depth, rounding_m = encode_depth(frame, encoding)
        worst_m = max(worst_m, rounding_m)
        if compressed and encoding == "16UC1":
            packed = bag_images.compressed(types, header(depth_ns), depth, depth=True)
            put(f"{DEPTH}/compressedDepth", packed, depth_ns)
        else:
            put(DEPTH, bag_images.image(types, header(depth_ns), depth, encoding), depth_ns)
    return {"depth_encoding": encoding, "depth_rounding_m": worst_m}


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
    turns = quaternions(truth.T_world_camera[:, :3, :3])
    for stamp_ns, place, turn in zip(truth.stamps_ns.tolist(), truth.positions_m, turns):
        yield (
            stamp_ns,
            types["geometry_msgs/msg/Pose"](
                types["geometry_msgs/msg/Point"](*map(float, place)),
                types["geometry_msgs/msg/Quaternion"](*map(float, turn)),
            ),
        )
