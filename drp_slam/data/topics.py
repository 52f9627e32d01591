# SPDX-License-Identifier: Apache-2.0
"""Which topics of a recording or a live graph are image, depth, right image, calibration and ground truth.

What a topic carries decides: its type, encoding, size and frame, the calibration that fits it, what its values look
like. Names only settle what is left. `choose` is pure: of `Topic`s, however they were found, it makes a `Choice`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from drp_slam.data.camera_info import is_rectified
from drp_slam.data.registration import alike
from drp_slam.errors import DataError

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO, TF = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
POSES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
)
TRUTH_WORDS = ("ground_truth", "groundtruth", "mocap", "vicon", "optitrack")
ROLES = {
    "image": (RAW, COMPRESSED),
    "depth": (RAW, COMPRESSED),
    "right": (RAW, COMPRESSED),
    "camera_info": (INFO,),
    "depth_camera_info": (INFO,),
    "right_camera_info": (INFO,),
    "truth": (*POSES, TF),
}
"""What is chosen, and the types that it may have."""
OPTIONAL = ("camera_info", "depth_camera_info", "right_camera_info", "truth")
"""Roles that may be left without a topic, by the name `none`."""
NOT_DEPTH_WORDS = {"confidence", "conf", "disparity", "ir", "infra", "infra1", "infra2", "amplitude", "mask", "label"}
INFRARED_WORDS = {"ir", "infra", "infra1", "infra2", "infrared", "left_ir", "right_ir"}
VIDEO_TYPES = ("ffmpeg", "theora", "h264", "h265", "compressedvideo")
"""Parts of the names of message types that carry video."""
PLAUSIBLE_M = (0.05, 40.0)
"""A median outside of this, in metres, is no depth."""
WHOLE = 0.99
"""Depth in metres has fractions: values of which this part is whole are confidences or labels."""


@dataclass(frozen=True)
class Topic:
    """What is known of one topic.

    `kind` is what its first readable message holds: `colour`, `grey`, `grey16` (mono16: infrared, or depth), `depth`,
    `info`, `truth`, or empty for what is not used. `size_px` is width and height. Of a depth image `median` is that of
    its values in metres (of 16 bits: as millimetres) and `whole` the part of them that are whole numbers; of a
    CameraInfo `calibrated` says whether K is set and `offset_m` is P[0, 3] / P[0, 0]. `problem` says why no message
    could be read.
    """

    name: str
    msgtype: str
    count: int = 1
    kind: str = ""
    encoding: str = ""
    size_px: tuple[int, int] = (0, 0)
    frame_id: str = ""
    median: float = 0.0
    whole: float = 0.0
    calibrated: bool = False
    offset_m: float = 0.0
    problem: str = ""

    @property
    def base(self) -> str:
        """The name without its transport."""
        return re.sub(r"/(compressed|compressedDepth)$", "", self.name)

    @property
    def words(self) -> frozenset[str]:
        """Words of the name, in lower case."""
        return frozenset(re.split(r"[/_]", self.name.lower()))

    @property
    def said(self) -> str:
        """The topic in words, for messages."""
        facts = [self.encoding, f"{self.size_px[0]}x{self.size_px[1]}" if self.size_px[0] else "", self.frame_id]
        about = ", ".join([self.msgtype.rsplit("/", 1)[-1], *filter(None, facts)])
        return f"{self.name} ({about})"


@dataclass(frozen=True)
class Choice:
    """Names of the topics that are taken by role (a key of `ROLES`), and why; roles without a topic are absent.

    `registered` says whether depth is in the image's frame. `candidates` are all topics that were looked at.
    """

    topics: Mapping[str, str]
    why: Mapping[str, str]
    registered: bool = True
    candidates: tuple[Topic, ...] = field(default=(), repr=False)

    def get(self, role: str) -> str | None:
        """The topic of that role, or None."""
        return self.topics.get(role)


Linked = Callable[[str, str], bool]
"""Whether TF knows the transform between two frames."""


def choose(
    topics: Iterable[Topic], chosen: Mapping[str, str], name: str, linked: Linked = lambda a, b: False
) -> Choice:
    """The topics of a camera: those `chosen` by role, the others by what they carry.

    Image and depth are chosen together: the best pair wins. Without depth two calibrated images with a baseline
    are a stereo pair. Raises DataError that lists what there is and how to choose.
    """
    known = tuple(t for t in topics if t.count)
    listing = ", ".join(t.said for t in known) or "none"
    taken: dict[str, Topic] = {}
    without = {role for role, topic in chosen.items() if topic.strip("/") == "none" and role in OPTIONAL}
    for role, topic in chosen.items():
        if role in without:
            continue
        found = [t for t in known if t.name == topic and t.msgtype in ROLES[role]]
        if not found:
            raise DataError(f"{name}: no {role} topic {topic!r}; there is: {listing}")
        taken[role] = found[0]
    why = dict.fromkeys(taken, "chosen by hand")
    if ("right" not in taken and "depth" not in taken) or "image" not in taken:
        _choose_images(known, taken, why, linked)
    missing = "image" if "image" not in taken else "depth" if not {"depth", "right"} & taken.keys() else ""
    if missing:
        colour = "colour " * (missing == "image")
        video = [t.msgtype for t in known if any(word in t.msgtype.lower() for word in VIDEO_TYPES)]
        listing += f" ({video[0]} is video, which is not read: republish it as JPEG)" if video else ""
        unread = "".join(f"; {t.name} cannot be read: {t.problem}" for t in known if t.problem)
        raise DataError(
            f"{name}: no {colour}{missing} topic; there is: {listing}; choose with {name}:{missing}=/TOPIC{unread}"
        )
    registered = "depth" not in taken or _same_frame(taken["image"], taken["depth"]) is not False
    alone = registered and "depth" in taken and taken["depth"].size_px == taken["image"].size_px
    for role, of in (("camera_info", "image"), ("right_camera_info", "right"), ("depth_camera_info", "depth")):
        if role in taken or role in without or of not in taken or (alone and of == "depth"):
            continue
        if (info := _calibration(taken[of], known)) is not None:
            taken[role], why[role] = info
    if not {"truth"} & (taken.keys() | without) and (
        truth := next((t for t in known if t.msgtype in POSES and is_truth(t)), None)
    ):
        taken["truth"], why["truth"] = truth, "named as ground truth"
    return Choice({role: t.name for role, t in taken.items()}, why, registered, known)


def _choose_images(known: tuple[Topic, ...], taken: dict[str, Topic], why: dict[str, str], linked: Linked) -> None:
    """Fills in image and depth, or left and right."""
    images = [taken["image"]] if "image" in taken else [t for t in known if t.kind in ("colour", "grey", "grey16")]
    # floats that cannot be metres may be millimetres, where nothing better is there
    odd = [t for t in known if t.kind == "depth" and not t.words & NOT_DEPTH_WORDS]
    depths = [taken["depth"]] if "depth" in taken else [t for t in known if is_depth(t)] or odd
    pairs = [(i, d) for i in images for d in depths if i.base != d.base]
    if pairs and "right" not in taken:
        image, depth = min(pairs, key=lambda pair: _rank(pair[0], pair[1], known, linked))
        for role, topic in (("image", image), ("depth", depth)):
            if role not in taken:
                taken[role], why[role] = topic, _reason(role, image, depth, known, linked)
        return
    rights = [taken["right"]] if "right" in taken else images
    stereo = [
        (abs(_common(a.name, b.name)), a, b, baseline_m)
        for a in images
        for b in rights
        if a.base != b.base and a.size_px == b.size_px and (baseline_m := _baseline_m(a, b, known)) > 0
    ]
    if stereo:
        _, left, right, baseline_m = min(stereo, key=lambda s: (_is_infrared(s[1]), _transport(s[1]), -s[0], s[1].name))
        reason = f"a stereo pair: P of its calibrations gives a baseline of {baseline_m:.4g} m"
        for role, topic in (("image", left), ("right", right)):
            if role not in taken:
                taken[role], why[role] = topic, reason
    elif "image" not in taken and images:
        best = min(images, key=lambda t: (_is_infrared(t), t.kind != "colour", _transport(t), t.name))
        taken["image"], why["image"] = best, f"{best.kind} image"


def is_depth(topic: Topic) -> bool:
    """Whether the values of a topic are depth: of the right type, plausible in metres, not whole numbers."""
    if topic.kind == "grey16":
        return not topic.words & NOT_DEPTH_WORDS
    if topic.kind != "depth":
        return False
    if topic.encoding.upper().startswith("32FC1") and topic.median:
        return PLAUSIBLE_M[0] <= topic.median <= PLAUSIBLE_M[1] and topic.whole < WHOLE
    return True


def is_truth(topic: Topic) -> bool:
    """Whether a topic of poses is named as ground truth."""
    return any(word in topic.name.lower() for word in TRUTH_WORDS) or "gt" in topic.words


def _rank(image: Topic, depth: Topic, known: tuple[Topic, ...], linked: Linked) -> tuple:
    """Order of the pairs of image and depth, the best first: what they carry, then how they are named."""
    same = _same_frame(image, depth)
    together = 0 if same else 1 if same is None or linked(image.frame_id, depth.frame_id) else 2
    return (
        _is_infrared(image),
        bool(image.problem) + bool(depth.problem),
        together,
        depth.kind == "grey16",
        bool(depth.words & NOT_DEPTH_WORDS),
        _calibration(image, known) is None,
        image.kind != "colour",
        image.size_px != depth.size_px,
        not alike(image.size_px, depth.size_px),
        -min(image.count, depth.count).bit_length(),
        -_common(image.base, depth.base),
        is_rectified(image.name) != is_rectified(depth.name),
        not {"registered", "aligned"} & depth.words,
        _transport(image) + _transport(depth),
        len(image.name) + len(depth.name),
        (image.name, depth.name),
    )


def _reason(role: str, image: Topic, depth: Topic, known: tuple[Topic, ...], linked: Linked) -> str:
    """Why a topic was chosen."""
    if role == "image":
        info = _calibration(image, known)
        return f"{image.kind} image" + (f", calibrated by {info[0].name}" if info else "")
    same = _same_frame(image, depth)
    frame = f"in the image's frame {image.frame_id}" if same else f"in frame {depth.frame_id}"
    if same is None:
        frame = "frame not stated"
    elif not same:
        frame += ", linked by /tf_static" if linked(image.frame_id, depth.frame_id) else ", not the image's"
    size = "same size as the image" if image.size_px == depth.size_px else "another size than the image"
    return ", ".join([depth.encoding or "depth", frame, size])


def _same_frame(a: Topic, b: Topic) -> bool | None:
    """Whether two topics have one frame; None where one of them names none."""
    frames = [t.frame_id.strip().lstrip("/") for t in (a, b)]
    return frames[0] == frames[1] if all(frames) else None


def _calibration(image: Topic, known: tuple[Topic, ...]) -> tuple[Topic, str] | None:
    """The CameraInfo that belongs to an image, and why: of its frame and size, beside it or near it."""
    folder = image.base.rsplit("/", 1)[0]
    beside = {f"{image.base}/camera_info", f"{folder}/camera_info"}

    def fits(info: Topic) -> bool:
        near = info.name in beside
        sized = info.size_px == image.size_px or not image.size_px[0]
        return info.kind == "info" and info.calibrated and (near or (sized and _same_frame(info, image) is not False))

    found = [t for t in known if fits(t)]
    if not found:
        return None

    def rank(t: Topic) -> tuple:
        return t.size_px != image.size_px, t.name not in beside, not _same_frame(t, image), -_common(t.name, image.base)

    best = min(found, key=lambda t: (*rank(t), t.name))
    tied = [t for t in found if rank(t) == rank(best)]
    if best.name not in beside and len(tied) > 1:
        return None  # any of them may be of another camera
    facts = ["same namespace"] if best.name in beside else []
    facts += ["same frame"] if _same_frame(best, image) else []
    facts += ["same size"] if best.size_px == image.size_px else []
    return best, ", ".join(facts) or "the only camera_info"


def _baseline_m(left: Topic, right: Topic, known: tuple[Topic, ...]) -> float:
    """Baseline in m that the calibrations of two images give, 0 where they give none."""
    infos = [_calibration(t, known) for t in (left, right)]
    if infos[0] is None or infos[1] is None:
        return 0.0
    return infos[0][0].offset_m - infos[1][0].offset_m


def _is_infrared(topic: Topic) -> bool:
    return topic.kind == "grey16" or bool(topic.words & INFRARED_WORDS)


def _transport(topic: Topic) -> int:
    """Raw before compressed."""
    return int(topic.msgtype != RAW)


def _common(a: str, b: str) -> int:
    """Leading parts that two names share."""
    pairs = zip(a.split("/"), b.split("/"))
    count = 0
    for x, y in pairs:
        if x != y:
            break
        count += 1
    return count
