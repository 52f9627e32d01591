# SPDX-License-Identifier: Apache-2.0
"""Reads rosbag2 (MCAP and sqlite3) without ROS: RGB-D, a stereo pair, or images alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.data import depth_check, image_codec, topics
from drp_slam.data.bag_index import STATIC_TF, Index, Pairs, pairs_of, read_index
from drp_slam.data.bag_storage import message_of, reader, typestore
from drp_slam.data.calibration import Given, own_or_given
from drp_slam.data.camera_info import camera_of, is_rectified, pair_of
from drp_slam.data.registration import Registration, register_depth
from drp_slam.data.sequence import AS_RECORDED, DepthReading, Sequence, alone, window, without_depth
from drp_slam.data.topics import Topic
from drp_slam.datatypes import Camera, Frame
from drp_slam.errors import DataError


def open_bag(
    path: Path,
    given: Given | None = None,
    start: int = 0,
    frames: int | None = None,
    chosen: Mapping[str, str] | None = None,
    reading: DepthReading = AS_RECORDED,
) -> Sequence:
    """Opens a bag; one pass reads stamps, calibration and ground truth, images are decoded later.

    `chosen` names topics by role (`topics.ROLES`). Raises DataError; for a damaged bag it names the repair.
    """
    index = read_index(path, {**(chosen or {}), **({"depth": "none"} if reading.alone else {})})
    pairs, notes = pairs_of(index, reading)
    pairs = pairs.window(window(pairs.image_ns, start, frames, str(path)))
    camera, said = _calibration(index, given, str(path))
    if given is None or "fps" not in given.stated:
        fps = 1e9 / float(np.median(np.diff(pairs.image_ns))) if len(pairs.image_ns) > 1 else 30.0
        camera = replace(camera, fps=fps)
    notes = (*index.notes, *notes, *said)
    register, unit_m = None, 1.0
    if index.lone:
        camera = alone(camera)
        if not reading.alone:
            notes = (*notes, without_depth(str(path), "no depth topic"))
    elif not index.stereo:
        unit_m, said = _unit(index.topic("depth"), given, reading)
        register = _registration(path, index, camera, reading)
        notes = (*notes, *said)
        camera = replace(camera, depth_scale=float(round(1 / unit_m, 6)), baseline_m=None)

    def source() -> Iterator[Frame | DataError]:
        for k, messages in enumerate(_messages(index, pairs)):
            where = f"{path}: frame {k}"
            yield _frame(k, int(pairs.image_ns[k]), camera, messages, where, index.names, register, unit_m)

    why = {role: (topic, index.choice.why[role]) for role, topic in index.choice.topics.items()}
    depth_ns = pairs.other_ns if "depth" in index.choice.topics else None
    return Sequence(path.resolve().stem, camera, pairs.image_ns, index.truth, source, depth_ns, why, notes)


def _calibration(index: Index, given: Given | None, where: str) -> tuple[Camera, tuple[str, ...]]:
    """The camera, with its baseline if it is a pair, and notes; `--camera` overrides the recorded calibration."""
    names, info, right = index.choice.topics, index.info("camera_info"), index.info("right_camera_info")
    recorded = f"{where}: {names.get('camera_info')}", f"{where}: {names.get('right_camera_info')}"
    rectified = is_rectified(names["image"])
    if given is not None:
        camera = given.of_size(index.topic("image").size_px)
        if index.stereo and camera.baseline_m is None:
            raise DataError(f"{where}: --camera states no baseline_m, which a stereo pair needs; add it")
        instead = (f"{recorded[0]} is not used: --camera is given",) if info is not None else ()
        return camera, (*instead, *given.notes)
    if index.stereo and info is not None and right is not None:
        return pair_of(info, right, rectified, recorded), ()
    own = camera_of(info, recorded[0], rectified) if info is not None and not index.stereo else None
    unread = [t.problem for t in index.choice.candidates if t.msgtype == topics.INFO and t.problem]
    if own is None and unread:
        raise DataError(unread[0])
    return own_or_given(own, None, where)


def _unit(depth: Topic, given: Given | None, reading: DepthReading) -> tuple[float, tuple[str, ...]]:
    """Metres per unit of depth by `depth_unit_m`, `--camera` or the encoding, in this order, and notes."""
    encoded_m = 1.0 if depth.encoding.upper().startswith("32FC1") else 0.001
    unit_m, by = encoded_m, ""
    median = depth.median / encoded_m
    notes: tuple[str, ...] = ()
    if encoded_m != 1.0 and given is not None and "depth_scale" in given.stated:
        unit_m, by = 1.0 / given.camera.depth_scale, "--camera"
        if depth_check.plausible(median * encoded_m) and not depth_check.plausible(median * unit_m):
            notes = (
                f"{depth.name}: kept the encoding's unit of 1 mm: the depth_scale of --camera would put half of the "
                f"depth nearer than {median * unit_m:.3g} m (depth_unit_m={unit_m:g} overrides)",
            )
            unit_m = encoded_m
    if reading.unit_m is not None:
        unit_m, by, notes = reading.unit_m, "depth_unit_m", ()
    if unit_m != encoded_m:
        notes = (f"{depth.name}: unit of depth is {unit_m * 1e3:g} mm by {by}, not {encoded_m * 1e3:g} mm as encoded",)
    return unit_m, notes + depth_check.doubt(median * unit_m, unit_m, depth.name)


def _registration(path: Path, index: Index, camera: Camera, reading: DepthReading) -> Registration | None:
    """How to register depth to the image; None if it is. Raises DataError for unregistered depth."""
    image, depth = index.topic("image"), index.topic("depth")
    info = index.info("depth_camera_info")
    own = camera_of(info, depth.name, is_rectified(depth.name)) if info is not None else None
    T_image_depth = np.eye(4) if index.choice.registered or reading.registered else index.T_image_depth
    if T_image_depth is None:
        raise DataError(
            f"{path}: unregistered depth: {depth.name} is in frame {depth.frame_id}, {image.name} in {image.frame_id}, "
            f"and {STATIC_TF} does not link them; record the driver's registered (aligned) depth or {STATIC_TF}, "
            f"choose topics with {path}:image=/T,depth=/T, or say registered=yes if it is"
        )
    if image.size_px != (camera.width, camera.height):
        return None  # images of another size than the calibration are refused one by one
    try:
        return register_depth(depth.size_px, own, camera, T_image_depth)
    except DataError as error:
        raise DataError(f"{path}: {depth.name}: {error}; choose it with {path}:depth_camera_info=/TOPIC") from error


def _messages(index: Index, pairs: Pairs) -> Iterator[tuple[Any, ...]]:
    """The messages of each frame (image, with depth or right image if any) in order; DataErrors for unreadable ones."""
    store, names = typestore(), index.names
    begin_ns, end_ns = int(pairs.log_ns.min()), int(pairs.log_ns.max()) + 1
    wanted = [{place: k for k, place in enumerate(row)} for row in pairs.places.tolist()]
    logs = [np.array(index.streams[name].log_ns, np.int64) for name in names]
    places = [iter(np.flatnonzero((log >= begin_ns) & (log < end_ns)).tolist()) for log in logs]
    waiting: dict[int, dict[int, Any]] = {}
    upcoming = 0
    with reader(index.path) as bag:
        known = [c for c in bag.connections if c.topic in names]
        for connection, _, data in bag.messages(known, begin_ns, end_ns):
            side = names.index(connection.topic)
            k = wanted[side].get(next(places[side]))
            if k is None:
                continue
            waiting.setdefault(k, {})[side] = data, connection.msgtype
            while len(waiting.get(upcoming, ())) == len(names):
                both = waiting.pop(upcoming)
                yield tuple(_either(store, both[side], index.path) for side in range(len(names)))
                upcoming += 1


def _either(store: Any, item: tuple[bytes, str], path: Path) -> Any:
    """The message of these bytes and type, or the DataError."""
    try:
        return message_of(store, item[0], item[1], path)
    except DataError as error:
        return error


def _frame(
    k: int,
    stamp_ns: int,
    camera: Camera,
    messages: tuple[Any, ...],
    where: str,
    names: tuple[str, ...],
    register: Registration | None,
    unit_m: float,
) -> Frame | DataError:
    """A frame, or the DataError."""
    try:
        for message in messages:
            if isinstance(message, DataError):
                raise message
        pixels = image_codec.colour_of(messages[0], f"{where} of {names[0]}")
        if camera.mono:
            return Frame(k, stamp_ns, pixels, camera)
        second = messages[1]
        if camera.baseline_m is not None:
            return Frame(k, stamp_ns, pixels, camera, right=image_codec.colour_of(second, f"{where} of {names[1]}"))
        depth, _ = image_codec.depth_of(second, f"{where} of {names[1]}")
        if register is not None:
            depth, unit_m = register(depth, unit_m)
        return Frame(k, stamp_ns, pixels, camera, depth, unit_m)
    except DataError as error:
        return error
