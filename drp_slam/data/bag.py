# SPDX-License-Identifier: Apache-2.0
"""Reads rosbag2 (MCAP and sqlite3) without ROS, through the `rosbags` package."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.data import bag_images, bag_topics
from drp_slam.data.calibration import own_or_given
from drp_slam.data.sequence import Sequence, window
from drp_slam.data.trajectory import MAX_DIFFERENCE_S, associate
from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import DataError

OLD_READER = "0.11"
"""rosbags before this, the last for Python 3.10, opens a bag by its folder only."""


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
        raise DataError(
            f"{path}: no colour image has a depth image within {MAX_DIFFERENCE_S:g} s; check the stamps in the headers"
        )
    chosen = window(i, start, frames, str(path))
    colour, depth = index.colour[:, i[chosen]], index.depth[:, j[chosen]]
    camera = own_or_given(index.camera, given, str(path))
    # the encoding defines the unit of depth, not the calibration
    camera = dataclasses.replace(camera, depth_scale=index.depth_scale)

    def source() -> Iterator[Frame]:
        return _frames(path, topics or {}, camera, colour, depth)

    return Sequence(path.resolve().stem, camera, colour[0], index.truth, source, depth[0])


def _index(path: Path, chosen: Mapping[str, str]) -> _Index:
    """One pass over the bag."""
    store = typestore()
    with _reader(path) as reader:
        topics = bag_topics.choose(reader.connections, chosen, str(path))
        rows: dict[str, list[tuple[int, int]]] = {topics.image.topic: [], topics.depth.topic: []}
        first: dict[str, Any] = {}
        poses: list[bag_topics.Sample] = []
        wanted = [c for c in (topics.image, topics.depth, topics.info) if c is not None]
        for connection, log_ns, data in _messages(reader, [*wanted, *topics.truth], path):
            if connection.topic in rows:
                rows[connection.topic].append((_stamp(data, path), log_ns))
            if connection.topic not in first and connection.msgtype != bag_topics.TF:
                first[connection.topic] = _message(store, data, connection.msgtype, path)
            if connection in topics.truth:
                message = _message(store, data, connection.msgtype, path)
                poses += bag_topics.samples(message, connection.msgtype)
    colour, depth = (np.array(rows[c.topic], np.int64).reshape(-1, 2).T for c in wanted[:2])
    for connection, stamps in zip(wanted, (colour[0], depth[0])):
        steps = np.flatnonzero(np.diff(stamps) <= 0)
        if len(steps):
            raise DataError(
                f"{path}: {connection.topic}: header stamps out of order at message "
                f"{steps[0] + 2}; does the driver set them?"
            )
    _, unit_m = bag_images.depth_of(first[topics.depth.topic], f"{path}: {topics.depth.topic}")
    depth_scale = float(round(1 / unit_m))
    fps = 1e9 / float(np.median(np.diff(colour[0]))) if colour.shape[1] > 1 else 30.0
    camera = None
    if topics.info is not None and topics.info.topic in first:
        camera = bag_images.camera_of(first[topics.info.topic], depth_scale, fps, f"{path}: {topics.info.topic}")
    frame_id = first[topics.image.topic].header.frame_id
    truth = None
    if poses:
        truth = bag_topics.trajectory(poses, topics.truth[0].msgtype, frame_id)
    return _Index(colour, depth, camera, depth_scale, truth)


def _frames(
    path: Path, chosen: Mapping[str, str], camera: Camera, colour: np.ndarray, depth: np.ndarray
) -> Iterator[Frame]:
    """Frames in the order of their colour stamps; each is decoded once both images are read."""
    store = typestore()
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
            k = place[side].get(_stamp(data, path))
            if k is None:
                continue
            waiting.setdefault(k, {})[side] = data
            while len(waiting.get(upcoming, ())) == 2:
                both = waiting.pop(upcoming)
                image, range_image = (_message(store, both[s], pair[s].msgtype, path) for s in (0, 1))
                stamp_ns = int(colour[0, upcoming])
                where = f"{path}: frame {upcoming}"
                pixels = bag_images.colour_of(image, f"{where} of {pair[0].topic}")
                metres, unit_m = bag_images.depth_of(range_image, f"{where} of {pair[1].topic}")
                yield Frame(upcoming, stamp_ns, pixels, camera, metres, unit_m)
                upcoming += 1


def _stamp(data: bytes, path: Path) -> int:
    """The header's stamp in ns, straight from the CDR bytes (byte 1 tells the endianness)."""
    try:
        seconds, nanoseconds = struct.unpack_from("<iI" if data[1] else ">iI", data, 4)
    except (IndexError, struct.error) as error:
        raise _damaged(path, error) from error
    return int(seconds) * 10**9 + int(nanoseconds)


def _message(store: Any, data: bytes, kind: str, path: Path) -> Any:
    """Decodes a message of this type. Raises DataError for other bytes."""
    try:
        return store.deserialize_cdr(data, kind)
    except Exception as error:  # damaged bytes surface as whatever numpy or struct raise
        raise _damaged(path, error) from error


def typestore() -> Any:
    """Message types of ROS 2 Jazzy."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


def _damaged(path: Path, error: Exception) -> DataError:
    """The error for a bag that cannot be read, with the remedy."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    store = next((f for f in files if f.suffix in (".db3", ".mcap")), path)
    if isinstance(error, FileNotFoundError):
        kind = "sqlite3" if store.suffix == ".db3" else "mcap"
        repair = f"ros2 bag reindex -s {kind} {path}"
    elif store.suffix == ".db3":
        repair = f"sqlite3 {store} .recover | sqlite3 recovered.db3"
    else:
        repair = f"mcap recover {store} -o recovered.mcap"
    return DataError(f"{path}: damaged, truncated or incomplete bag ({error}); try: {repair}")


def reads_folders_only() -> bool:
    """Whether the installed rosbags is an old one."""
    major_minor = [int(part) for part in version("rosbags").split(".")[:2]]
    return major_minor < [int(part) for part in OLD_READER.split(".")]


@contextlib.contextmanager
def _reader(path: Path) -> Iterator[Any]:
    """An open reader."""
    from rosbags.rosbag2 import Reader

    target = path
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        # an interrupted recording has no metadata yet, but its single file is complete by itself
        files = [f for f in path.iterdir() if f.suffix in (".mcap", ".db3")]
        if len(files) != 1:
            raise _damaged(path, FileNotFoundError("metadata.yaml is missing"))
        target = files[0]
    if target.is_file() and reads_folders_only():
        raise DataError(
            f"{path}: rosbags {version('rosbags')} reads a bag by its folder only; name that, "
            "after `ros2 bag reindex` where it has no metadata.yaml"
        )
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
    reader: Any, connections: list[Any], path: Path, begin: int | None = None, end: int | None = None
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
