# SPDX-License-Identifier: Apache-2.0
"""Reads rosbag2 (MCAP and sqlite3) without ROS: RGB-D, or a stereo pair."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.data import bag_truth, depth_check, image_codec, topics
from drp_slam.data.bag_storage import Joined, damaged, reader
from drp_slam.data.calibration import Given, own_or_given
from drp_slam.data.camera_info import camera_of, is_rectified, pair_of
from drp_slam.data.depth_stamps import paired
from drp_slam.data.registration import Registration, register_depth
from drp_slam.data.sequence import AS_RECORDED, DepthReading, Sequence, window
from drp_slam.data.stamps import admitted
from drp_slam.data.topic_content import LOOK, describe
from drp_slam.data.topics import Choice, Topic
from drp_slam.data.trajectory import associate
from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import DataError

PAIR_S = 0.005
"""Images of a stereo pair are taken at the same time."""
AROUND_NS = 500_000_000
"""Depth of an epoch is recorded within this of its images."""
STATIC_TF = "/tf_static"


@dataclass
class _Stream:
    """One topic's messages in the order in which they are read: header stamps and log times in ns."""

    stamp_ns: list[int] = field(default_factory=list)
    log_ns: list[int] = field(default_factory=list)
    unread: list[DataError] = field(default_factory=list)


@dataclass(frozen=True)
class _Index:
    """What one pass over a bag finds."""

    choice: Choice
    streams: Mapping[str, _Stream]
    infos: Mapping[str, Any]
    T_image_depth: np.ndarray | None
    truth: Trajectory | None
    notes: tuple[str, ...]

    def topic(self, role: str) -> Topic:
        """What is known of the topic that has this role."""
        return next(t for t in self.choice.candidates if t.name == self.choice.topics[role])


def open_bag(
    path: Path,
    given: Given | None = None,
    start: int = 0,
    frames: int | None = None,
    chosen: Mapping[str, str] | None = None,
    reading: DepthReading = AS_RECORDED,
) -> Sequence:
    """Opens a bag; one pass reads stamps, calibration and ground truth, images are decoded later.

    `chosen` may name topics by role (`topics.ROLES`). Raises DataError; for a damaged bag it names the repair.
    """
    index = _index(path, chosen or {})
    other = "depth" if index.choice.get("depth") else "right"
    image_ns, other_ns, log_ns, places, notes = _pairs(path, index, other, reading)
    picked = window(image_ns, start, frames, str(path))
    image_ns, other_ns, log_ns, places = image_ns[picked], other_ns[picked], log_ns[:, picked], places[:, picked]
    fps = 1e9 / float(np.median(np.diff(image_ns))) if len(image_ns) > 1 else 30.0
    camera, said = _calibration(index, other, given, str(path))
    if given is None or "fps" not in given.stated:
        camera = replace(camera, fps=fps)
    notes = (*index.notes, *notes, *said)
    register, unit_m = None, 1.0
    if other == "depth":
        unit_m, said = _unit(index.topic("depth"), given, reading)
        register = _registration(path, index, camera, reading)
        notes = (*notes, *said)
        camera = replace(camera, depth_scale=float(round(1 / unit_m, 6)), baseline_m=None)

    def source() -> Iterator[Frame | DataError]:
        names = index.choice.topics["image"], index.choice.topics[other]
        window_ns = int(log_ns.min()), int(log_ns.max()) + 1
        logs = [np.array(index.streams[n].log_ns) for n in names]
        for k, (image, second) in enumerate(_messages(path, names, logs, places, window_ns)):
            yield _frame(k, int(image_ns[k]), camera, image, second, f"{path}: frame {k}", names, register, unit_m)

    why = {role: (topic, index.choice.why[role]) for role, topic in index.choice.topics.items()}
    second_ns = other_ns if other == "depth" else None
    return Sequence(path.resolve().stem, camera, image_ns, index.truth, source, second_ns, why, notes)


def _index(path: Path, chosen: Mapping[str, str]) -> _Index:
    """One pass over the bag."""
    store = typestore()
    with reader(path) as bag:
        known = [c for c in bag.connections if c.msgcount]
        static = [s for m in _first(bag, store, known, STATIC_TF) for s in bag_truth.samples(m, topics.TF)]
        found = [_described(bag, store, c) for c in known]
        choice = topics.choose(found, chosen, str(path), lambda a, b: bag_truth.fixed(static, a, b) is not None)
        wanted = {choice.topics[role] for role in ("image", "depth", "right") if role in choice.topics}
        truth = (
            {choice.topics["truth"]} if "truth" in choice.topics else {c.topic for c in known if c.msgtype == topics.TF}
        )
        streams = {name: _Stream() for name in wanted}
        poses: list[bag_truth.Sample] = []
        kind = topics.TF
        for connection, log_ns, data in bag.messages([c for c in known if c.topic in wanted | truth]):
            if connection.topic in streams:
                _note_stamp(streams[connection.topic], data, log_ns, path)
            else:
                kind = connection.msgtype
                try:
                    poses += bag_truth.samples(_message(store, data, kind, path), kind)
                except DataError:
                    continue  # ground truth only scores
        roles = ("camera_info", "right_camera_info", "depth_camera_info")
        named = {role: choice.topics[role] for role in roles if role in choice.topics}
        infos = {role: _calibrated(_first(bag, store, known, topic)) for role, topic in named.items()}
        notes = (bag.note,) if bag.note else ()
    frame = {t.name: t.frame_id for t in choice.candidates}
    T_image_depth = None
    if not choice.registered:
        T_image_depth = bag_truth.fixed(static, frame[choice.topics["image"]], frame[choice.topics["depth"]])
    trajectory = bag_truth.trajectory(poses, kind, frame[choice.topics["image"]]) if poses else None
    return _Index(choice, streams, {k: v for k, v in infos.items() if v is not None}, T_image_depth, trajectory, notes)


def _described(bag: Joined, store: Any, connection: Any) -> Topic:
    """What a topic carries, by its first messages."""
    topic, kind = connection.topic, connection.msgtype
    if kind not in LOOK:
        return describe(topic, kind, connection.msgcount, ())
    messages = list(itertools.islice(_first(bag, store, [connection], topic), LOOK[kind]))
    found = describe(topic, kind, connection.msgcount, messages)
    return found if messages else replace(found, problem=str(damaged(bag.path, ValueError("no message can be read"))))


def _first(bag: Joined, store: Any, known: list[Any], topic: str) -> Iterator[Any]:
    """The messages of a topic from its beginning, without those that cannot be read; none where it is absent."""
    for connection, _, data in bag.messages([c for c in known if c.topic == topic]):
        try:
            yield _message(store, data, connection.msgtype, bag.path)
        except DataError:
            continue


def _calibrated(infos: Iterator[Any]) -> Any:
    """The first CameraInfo that has a K, else the first, else None: drivers may begin with an empty one."""
    found = list(itertools.islice(infos, LOOK[topics.INFO]))
    return next((info for info in found if info.k[0] > 0), found[0] if found else None)


def _note_stamp(stream: _Stream, data: bytes, log_ns: int, path: Path) -> None:
    """One more message of an image topic; what is too short for a header has no stamp, and is refused later."""
    try:
        stream.stamp_ns.append(_stamp(data, path))
    except DataError as error:
        stream.unread.append(error)
        stream.stamp_ns.append(-1)
    stream.log_ns.append(log_ns)


def _pairs(
    path: Path, index: _Index, other: str, reading: DepthReading
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Stamps of images and of their depth or right images (N,), log times and places in the streams (2, N), notes."""
    names = index.choice.topics["image"], index.choice.topics[other]
    notes: tuple[str, ...] = ()
    columns = []
    for name in names:
        stamps, used, epochs, said = _usable(index.streams[name], f"{path}: {name}")
        notes += said
        columns.append((stamps, np.array(index.streams[name].log_ns, np.int64), used, epochs))
    (image_ns, image_log, used, epochs), (other_ns, other_log, other_used, _) = columns
    rows: list[np.ndarray] = []
    for epoch in np.unique(epochs):
        a, b = used[epochs == epoch], other_used
        if epochs[-1]:
            near = (other_log[b] >= image_log[a[0]] - AROUND_NS) & (other_log[b] <= image_log[a[-1]] + AROUND_NS)
            b = b[near]
            b = b[np.unique(other_ns[b], return_index=True)[1]]
        if other == "depth":
            i, j, said = paired(image_ns[a], other_ns[b], reading, str(path))
            notes += said
        else:
            i, j = associate(image_ns[a], other_ns[b], PAIR_S)
        rows.append(np.stack([a[i], b[j]]))
    places = np.concatenate(rows, axis=1)
    if not places.shape[1]:
        raise DataError(f"{path}: no image of {names[0]} has one of {names[1]} within {PAIR_S:g} s; check the stamps")
    logs = np.stack([image_log[places[0]], other_log[places[1]]])
    return image_ns[places[0]], other_ns[places[1]], logs, places, notes


def _usable(stream: _Stream, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Stamps of all messages, indices of those that can be used, their epochs, and notes on the others."""
    stamps = np.array(stream.stamp_ns, np.int64)
    if len(stream.unread) == len(stamps) and stream.unread:
        raise stream.unread[0]
    used, epochs, notes = admitted(stamps, where)
    if 2 * len(used) < len(stamps):
        logs = np.array(stream.log_ns, np.int64)
        by_log = admitted(logs, where)
        if len(by_log[0]) > len(used):
            said = f"{where}: the header stamps do not advance (the first is {stamps[0]} ns); log times are used"
            return logs, *by_log[:2], (said, *by_log[2])
    return stamps, used, epochs, notes


def _calibration(index: _Index, other: str, given: Given | None, where: str) -> tuple[Camera, tuple[str, ...]]:
    """The camera, or that of a pair with its baseline, and notes; `--camera` comes before what was recorded."""
    infos, names = index.infos, index.choice.topics
    size_px = index.topic("image").size_px
    recorded = f"{where}: {names.get('camera_info')}", f"{where}: {names.get('right_camera_info')}"
    rectified = is_rectified(names["image"])
    usable = "camera_info" in infos and infos["camera_info"].k[0] > 0
    if given is not None:
        camera = given.of_size(size_px)
        if other == "right" and camera.baseline_m is None:
            raise DataError(f"{where}: --camera states no baseline_m, which a stereo pair needs; add it")
        instead = (f"{recorded[0]} is not used: --camera is given",) if usable else ()
        return camera, (*instead, *given.notes)
    if other == "right" and usable and "right_camera_info" in infos:
        return pair_of(infos["camera_info"], infos["right_camera_info"], rectified, recorded), ()
    own = camera_of(infos["camera_info"], recorded[0], rectified) if usable and other == "depth" else None
    unread = [t.problem for t in index.choice.candidates if t.msgtype == topics.INFO and t.problem]
    if own is None and unread:
        raise DataError(unread[0])
    return own_or_given(own, None, where)


def _unit(depth: Topic, given: Given | None, reading: DepthReading) -> tuple[float, tuple[str, ...]]:
    """Metres per unit of depth: as asked for, as the file of `--camera` says, or as the encoding says; and notes."""
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
        notes = (
            f"{depth.name}: unit of depth is {unit_m * 1e3:g} mm as {by} says, not {encoded_m * 1e3:g} mm as encoded",
        )
    return unit_m, notes + depth_check.doubt(median * unit_m, unit_m, depth.name)


def _registration(path: Path, index: _Index, camera: Camera, reading: DepthReading) -> Registration | None:
    """What brings depth into the image, None where it is there. Raises DataError for depth that is unregistered."""
    image, depth = index.topic("image"), index.topic("depth")
    info = index.infos.get("depth_camera_info")
    own = camera_of(info, depth.name, is_rectified(depth.name)) if info is not None and info.k[0] > 0 else None
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


def _messages(
    path: Path, names: tuple[str, str], logs: list[np.ndarray], places: np.ndarray, window_ns: tuple[int, int]
) -> Iterator[tuple[Any, Any]]:
    """Both messages of each pair, in order; a DataError in the place of one that cannot be read."""
    store = typestore()
    wanted = [{place: k for k, place in enumerate(row)} for row in places.tolist()]
    # where the window begins, messages before it are not read: count on from there
    arriving = [iter(np.flatnonzero((log >= window_ns[0]) & (log < window_ns[1])).tolist()) for log in logs]
    waiting: dict[int, dict[int, Any]] = {}
    upcoming = 0
    with reader(path) as bag:
        known = [c for c in bag.connections if c.topic in names]
        for connection, _, data in bag.messages(known, *window_ns):
            side = names.index(connection.topic)
            k = wanted[side].get(next(arriving[side]))
            if k is None:
                continue
            waiting.setdefault(k, {})[side] = data, connection.msgtype
            while len(waiting.get(upcoming, ())) == 2:
                both = waiting.pop(upcoming)
                yield _either(store, both[0], path), _either(store, both[1], path)
                upcoming += 1


def _either(store: Any, item: tuple[bytes, str], path: Path) -> Any:
    """The message of bytes and type, or the error that it cannot be read for."""
    try:
        return _message(store, item[0], item[1], path)
    except DataError as error:
        return error


def _frame(
    k: int,
    stamp_ns: int,
    camera: Camera,
    image: Any,
    second: Any,
    where: str,
    names: tuple[str, str],
    register: Registration | None,
    unit_m: float,
) -> Frame | DataError:
    """One frame, or the error that it cannot be read for."""
    try:
        for message in (image, second):
            if isinstance(message, DataError):
                raise message
        pixels = image_codec.colour_of(image, f"{where} of {names[0]}")
        if camera.baseline_m is not None:
            return Frame(k, stamp_ns, pixels, camera, right=image_codec.colour_of(second, f"{where} of {names[1]}"))
        depth, _ = image_codec.depth_of(second, f"{where} of {names[1]}")
        if register is not None:
            depth, unit_m = register(depth, unit_m)
        return Frame(k, stamp_ns, pixels, camera, depth, unit_m)
    except DataError as error:
        return error


def _stamp(data: bytes, path: Path) -> int:
    """The header's stamp in ns, straight from the CDR bytes (byte 1 tells the endianness)."""
    try:
        seconds, nanoseconds = struct.unpack_from("<iI" if data[1] else ">iI", data, 4)
    except (IndexError, struct.error) as error:
        raise damaged(path, error) from error
    return int(seconds) * 10**9 + int(nanoseconds)


def _message(store: Any, data: bytes, kind: str, path: Path) -> Any:
    """The message of that type. Raises DataError where the bytes are no such message."""
    try:
        return store.deserialize_cdr(data, kind)
    except Exception as error:  # damaged bytes surface as whatever numpy or struct raise
        raise damaged(path, error) from error


def typestore() -> Any:
    """Message types of ROS 2 Jazzy."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)
