# SPDX-License-Identifier: Apache-2.0
"""The index of a bag: which topics are used, which messages belong together, calibration messages, ground truth."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.data import bag_truth, topics
from drp_slam.data.bag_storage import Joined, damaged, message_of, reader, typestore
from drp_slam.data.camera_info import is_calibrated
from drp_slam.data.depth_stamps import nearest_text, paired
from drp_slam.data.sequence import DepthReading
from drp_slam.data.stamps import admitted
from drp_slam.data.topic_choice import choose
from drp_slam.data.topic_content import LOOK, describe
from drp_slam.data.topics import Choice, Topic
from drp_slam.data.trajectory import associate
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError

PAIR_S = 0.005
"""Largest difference of stamps within a stereo pair."""
AROUND_NS = 500_000_000
"""Largest difference of the log times of an image and its depth, where stamps are used more than once."""
STATIC_TF = "/tf_static"
INFOS = ("camera_info", "right_camera_info", "depth_camera_info")


@dataclass
class Stream:
    """Header stamps and log times of a topic's messages in ns, in reading order; a stamp is -1 if unreadable."""

    stamp_ns: list[int] = field(default_factory=list)
    log_ns: list[int] = field(default_factory=list)
    unread: list[DataError] = field(default_factory=list)

    def add(self, data: bytes, log_ns: int, path: Path) -> None:
        """Adds a message by its CDR bytes."""
        try:
            self.stamp_ns.append(_stamp(data, path))
        except DataError as error:
            self.unread.append(error)
            self.stamp_ns.append(-1)
        self.log_ns.append(log_ns)


@dataclass(frozen=True)
class Pairs:
    """Images with their depth or right images.

    `image_ns` and `other_ns` (N,) are stamps, `log_ns` and `places` (2, N) the log times and the positions in the two
    streams; for images alone (1, N), and both stamps are the images'.
    """

    image_ns: np.ndarray
    other_ns: np.ndarray
    log_ns: np.ndarray
    places: np.ndarray

    def window(self, chosen: slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.image_ns[chosen], self.other_ns[chosen], self.log_ns[:, chosen], self.places[:, chosen])


@dataclass(frozen=True)
class Index:
    """The result of one pass over a bag. `T_image_depth` is None where the frames are equal or not linked."""

    path: Path
    choice: Choice
    streams: Mapping[str, Stream]
    infos: Mapping[str, Any]
    T_image_depth: np.ndarray | None
    truth: Trajectory | None
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Topics of the image and, unless it is alone, of its depth or right image."""
        topics = self.choice.topics
        return (topics["image"],) if self.lone else (topics["image"], topics["right" if self.stereo else "depth"])

    @property
    def lone(self) -> bool:
        """Whether the image is used alone."""
        return not {"depth", "right"} & self.choice.topics.keys()

    @property
    def stereo(self) -> bool:
        """Whether the bag is read as a stereo pair."""
        return "depth" not in self.choice.topics and not self.lone

    def topic(self, role: str) -> Topic:
        """The topic chosen for a role."""
        return next(t for t in self.choice.candidates if t.name == self.choice.topics[role])

    def info(self, role: str) -> Any:
        """The calibrated CameraInfo of a role, or None."""
        info = self.infos.get(role)
        return info if info is not None and is_calibrated(info) else None


def read_index(path: Path, chosen: Mapping[str, str]) -> Index:
    """Reads the first messages of every topic, then all stamps and ground truth. Raises DataError."""
    store = typestore()
    with reader(path) as bag:
        known = [c for c in bag.connections if c.msgcount]
        static = [s for m in _messages(bag, store, known, STATIC_TF) for s in bag_truth.samples(m, topics.TF)]
        found = [_described(bag, store, c) for c in known]
        choice = choose(found, chosen, str(path), lambda a, b: bag_truth.fixed(static, a, b) is not None)
        streams = {choice.topics[role]: Stream() for role in ("image", "depth", "right") if role in choice.topics}
        truth = _truth_topics(choice, chosen, known)
        poses: list[bag_truth.Sample] = []
        kind = topics.TF
        for connection, log_ns, data in bag.messages([c for c in known if c.topic in streams.keys() | truth]):
            if connection.topic in streams:
                streams[connection.topic].add(data, log_ns, path)
                continue
            kind = connection.msgtype
            try:
                poses += bag_truth.samples(message_of(store, data, kind, path), kind)
            except DataError:
                continue  # ground truth is not needed to run
        named = {role: choice.topics[role] for role in INFOS if role in choice.topics}
        infos = {role: _calibrated(_messages(bag, store, known, topic)) for role, topic in named.items()}
        notes = (bag.note,) if bag.note else ()
    frames = {t.name: t.frame_id for t in choice.candidates}
    T_image_depth = None
    if not choice.registered:
        T_image_depth = bag_truth.fixed(static, frames[choice.topics["image"]], frames[choice.topics["depth"]])
    trajectory = bag_truth.trajectory(poses, kind, frames[choice.topics["image"]]) if poses else None
    return Index(path, choice, streams, infos, T_image_depth, trajectory, notes)


def _truth_topics(choice: Choice, chosen: Mapping[str, str], known: list[Any]) -> set[str]:
    """Topics with ground truth: the chosen one, else all of TF."""
    if "truth" in choice.topics or "truth" in chosen:
        return {choice.topics["truth"]} if "truth" in choice.topics else set()
    return {c.topic for c in known if c.msgtype == topics.TF}


def _described(bag: Joined, store: Any, connection: Any) -> Topic:
    """Describes a topic by its first messages."""
    topic, kind = connection.topic, connection.msgtype
    if kind not in LOOK:
        return describe(topic, kind, connection.msgcount, ())
    messages = list(itertools.islice(_messages(bag, store, [connection], topic), LOOK[kind]))
    found = describe(topic, kind, connection.msgcount, messages)
    return found if messages else replace(found, problem=str(damaged(bag.path, ValueError("no message can be read"))))


def _messages(bag: Joined, store: Any, known: list[Any], topic: str) -> Iterator[Any]:
    """The readable messages of a topic."""
    for connection, _, data in bag.messages([c for c in known if c.topic == topic]):
        try:
            yield message_of(store, data, connection.msgtype, bag.path)
        except DataError:
            continue


def _calibrated(infos: Iterator[Any]) -> Any:
    """The first CameraInfo with a calibration, else the first, else None: drivers may start with an empty one."""
    found = list(itertools.islice(infos, LOOK[topics.INFO]))
    return next((info for info in found if is_calibrated(info)), found[0] if found else None)


def pairs_of(index: Index, reading: DepthReading) -> tuple[Pairs, tuple[str, ...]]:
    """Pairs images with depth or right images by their stamps, and notes. Raises DataError if there are no pairs.

    Images alone are all used.
    """
    path, names = index.path, index.names
    if index.lone:
        stamps_ns, logs_ns, used, _, notes = _usable(index.streams[names[0]], f"{path}: {names[0]}")
        if not len(used):
            raise DataError(f"{path}: {names[0]} has no image with a usable stamp; record the bag again")
        return Pairs(stamps_ns[used], stamps_ns[used], logs_ns[None, used], used[None]), notes
    usable = [_usable(index.streams[name], f"{path}: {name}") for name in names]
    (image_ns, image_log, used, epochs, _), (other_ns, other_log, other_used, _, _) = usable
    notes = usable[0][4] + usable[1][4]
    rows = [np.zeros((2, 0), np.int64)]
    for epoch in np.unique(epochs):
        a, b = used[epochs == epoch], other_used
        if epochs[-1]:  # stamps occur more than once: only messages recorded at the same time can form a pair
            near = (other_log[b] >= image_log[a[0]] - AROUND_NS) & (other_log[b] <= image_log[a[-1]] + AROUND_NS)
            b = b[near]
            b = b[np.unique(other_ns[b], return_index=True)[1]]
        if index.stereo:
            i, j = associate(image_ns[a], other_ns[b], PAIR_S)
        else:
            i, j, said = paired(image_ns[a], other_ns[b], reading, str(path))
            notes += said
        rows.append(np.stack([a[i], b[j]]))
    places = np.concatenate(rows, axis=1)
    if not places.shape[1]:
        tolerance_s = PAIR_S if index.stereo else reading.tolerance_s
        raise DataError(
            f"{path}: no image of {names[0]} has one of {names[1]} within {tolerance_s:g} s (nearest: "
            f"{nearest_text(image_ns[used], other_ns[other_used])}); check the stamps, or give depth_offset_s or "
            "depth_tolerance_s"
        )
    logs = np.stack([image_log[places[0]], other_log[places[1]]])
    return Pairs(image_ns[places[0]], other_ns[places[1]], logs, places), notes


def _usable(stream: Stream, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Stamps and log times of all messages, indices of the usable ones, their epochs, and notes on the others."""
    stamps, logs = np.array(stream.stamp_ns, np.int64), np.array(stream.log_ns, np.int64)
    if stream.unread and len(stream.unread) == len(stamps):
        raise stream.unread[0]
    used, epochs, notes = admitted(stamps, where)
    if 2 * len(used) < len(stamps):
        by_log = admitted(logs, where)
        if len(by_log[0]) > len(used):
            note = f"{where}: the header stamps do not advance (the first is {stamps[0]} ns); log times are used"
            return logs, logs, by_log[0], by_log[1], (note, *by_log[2])
    return stamps, logs, used, epochs, notes


def _stamp(data: bytes, path: Path) -> int:
    """The header's stamp in ns, straight from the CDR bytes (byte 1 is the endianness)."""
    try:
        seconds, nanoseconds = struct.unpack_from("<iI" if data[1] else ">iI", data, 4)
    except (IndexError, struct.error) as error:
        raise damaged(path, error) from error
    return int(seconds) * 10**9 + int(nanoseconds)
