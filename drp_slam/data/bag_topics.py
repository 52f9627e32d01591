# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag are colour, depth, calibration and ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from drp_slam import geometry
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO, TF = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
POSES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
)
IMAGE_TOPICS = (
    "/camera/color/image_raw",
    "/camera/rgb/image_color",
    "/camera/rgb/image_raw",
    "/camera/image_raw",
    "/image",
)
DEPTH_TOPICS = (
    "/camera/aligned_depth_to_color/image_raw",
    "/camera/depth_registered/image_raw",
    "/camera/depth/image",
    "/camera/depth/image_raw",
    "/depth",
)
TRUTH_WORDS = ("ground_truth", "groundtruth", "mocap", "vicon", "optitrack")
TRUTH_ROOTS = ("world", "mocap", "vicon", "ground_truth")


@dataclass(frozen=True)
class Topics:
    """Connections of the `rosbags` reader; `info` and `truth` may be missing."""

    image: Any
    depth: Any
    info: Any
    truth: tuple[Any, ...]


def choose(connections: Iterable[Any], chosen: Mapping[str, str], name: str) -> Topics:
    """Topics as chosen, else by type and usual name. Raises DataError that lists what there is."""
    known = [c for c in connections if c.msgcount]
    listing = ", ".join(f"{c.topic} ({c.msgtype.rsplit('/', 1)[-1]})" for c in known) or "none"

    def topic(key: str, kinds: tuple[str, ...]) -> Any:
        found = [c for c in known if c.topic == chosen[key] and c.msgtype in kinds]
        if not found:
            raise DataError(f"{name}: no {key} topic {chosen[key]!r}; the bag has: {listing}")
        return found[0]

    pictures = [c for c in known if c.msgtype in (RAW, COMPRESSED)]
    deep = [c for c in pictures if "depth" in c.topic.lower()]
    flat = [c for c in pictures if c not in deep and "infra" not in c.topic and "/ir/" not in c.topic]
    image = topic("image", (RAW, COMPRESSED)) if "image" in chosen else _usual(flat, IMAGE_TOPICS)
    depth = topic("depth", (RAW, COMPRESSED)) if "depth" in chosen else _usual(deep, DEPTH_TOPICS)
    for key, found in (("image", image), ("depth", depth)):
        if found is None:
            raise DataError(
                f"{name}: no {'colour ' * (key == 'image')}{key} topic; the bag has: "
                f"{listing}; choose with {name}:{key}=/TOPIC"
            )
    if "camera_info" in chosen:
        info = topic("camera_info", (INFO,))
    else:
        base = _base(image.topic)
        beside = {f"{base}/camera_info", f"{base.rsplit('/', 1)[0]}/camera_info"}
        infos = [c for c in known if c.msgtype == INFO]
        near = [c for c in infos if c.topic in beside]
        info = near[0] if near else infos[0] if len(infos) == 1 else None
    if "truth" in chosen:
        truth: tuple[Any, ...] = (topic("truth", (*POSES, TF)),)
    else:
        named = [c for c in known if c.msgtype in POSES and _is_truth(c.topic)]
        truth = tuple(named[:1]) or tuple(c for c in known if c.msgtype == TF)
    return Topics(image, depth, info, truth)


def _base(topic: str) -> str:
    """The topic without its transport."""
    for transport in ("/compressed", "/compressedDepth"):
        topic = topic.removesuffix(transport)
    return topic


def _usual(connections: list[Any], names: tuple[str, ...]) -> Any:
    """The usual name, raw before compressed, else the first by name."""

    def rank(c: Any) -> tuple[int, bool, str]:
        base = _base(c.topic)
        return names.index(base) if base in names else len(names), c.msgtype != RAW, c.topic

    return min(connections, key=rank, default=None)


def _is_truth(topic: str) -> bool:
    parts = topic.lower().split("/")
    return any(word in topic.lower() for word in TRUTH_WORDS) or "gt" in parts


Sample = tuple[int, str, str, np.ndarray]
"""Stamp, parent frame, child frame, T_parent_child (4, 4)."""


def samples(message: Any, msgtype: str) -> list[Sample]:
    """The poses in one message, without the invalid ones that motion capture gives for a lost body."""
    if msgtype == TF:
        return [sample for part in message.transforms for sample in samples(part, POSES[3])]
    stamp_ns = stamp_of(message.header.stamp)
    parent, child = message.header.frame_id, getattr(message, "child_frame_id", "")
    if msgtype == POSES[3]:
        place, turn = message.transform.translation, message.transform.rotation
    else:
        pose = message.pose if msgtype == POSES[1] else message.pose.pose
        place, turn = pose.position, pose.orientation
    T = np.eye(4)
    q = np.array([turn.x, turn.y, turn.z, turn.w])
    T[:3, 3] = place.x, place.y, place.z
    if not (q.any() and np.isfinite(q).all() and np.isfinite(T).all()):
        return []
    T[:3, :3] = geometry.rotation(q)
    return [(stamp_ns, parent.lstrip("/"), child.lstrip("/"), T)]


def stamp_of(stamp: Any) -> int:
    """builtin_interfaces/Time -> nanoseconds."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def trajectory(found: list[Sample], msgtype: str, frame_id: str) -> Trajectory | None:
    """The camera's trajectory from the poses of one topic, in order of time; None without any."""
    if msgtype == TF:
        rows = _through_tf(found, frame_id.lstrip("/"))
    else:
        rows = [(stamp_ns, T) for stamp_ns, _, _, T in found]
    by_stamp = dict(rows)
    if not by_stamp:
        return None
    stamps_ns = np.array(sorted(by_stamp), np.int64)
    return Trajectory(stamps_ns, np.array([by_stamp[stamp] for stamp in stamps_ns.tolist()]))


def _through_tf(found: list[Sample], frame_id: str) -> list[tuple[int, np.ndarray]]:
    """The chain from the camera up to a motion-capture frame; one link moves, the others are static."""
    links: dict[str, list[Sample]] = {}
    for sample in found:
        links.setdefault(sample[2], []).append(sample)
    chain: list[list[Sample]] = []
    child = frame_id
    while child in links and len(chain) < 32:
        chain.append(links[child])
        child = links[child][0][1]
    moving = [i for i, link in enumerate(chain) if any(s[3].tobytes() != link[0][3].tobytes() for s in link)]
    if child not in TRUTH_ROOTS or len(moving) != 1:
        return []
    above, below = np.eye(4), np.eye(4)
    for link in chain[: moving[0]]:
        below = link[0][3] @ below
    for link in chain[moving[0] + 1 :]:
        above = link[0][3] @ above
    return [(stamp_ns, above @ T @ below) for stamp_ns, _, _, T in chain[moving[0]]]
