# SPDX-License-Identifier: Apache-2.0
"""Which topics belong together: images, depth and calibrations by their content, then by their names."""

from __future__ import annotations

from collections.abc import Callable

from drp_slam.data.camera_info import is_rectified
from drp_slam.data.registration import alike
from drp_slam.data.topics import RAW, Topic

TRUTH_WORDS = ("ground_truth", "groundtruth", "mocap", "vicon", "optitrack")
INFRARED_WORDS = frozenset({"ir", "infra", "infra1", "infra2", "infrared", "amplitude"})
NOT_DEPTH_WORDS = frozenset({"confidence", "conf", "disparity", "mask", "label", "labels"})
PLAUSIBLE_M = (0.05, 40.0)
"""Range of a plausible median depth in metres."""
WHOLE = 0.99
"""Share of whole numbers from which floats are confidences or labels: depth in metres has fractions."""
Linked = Callable[[str, str], bool]
"""Whether TF knows the transform between two frames."""


def is_depth(topic: Topic) -> bool:
    """Whether a topic holds depth: the right type, plausible metres, not whole numbers, and no other name."""
    if topic.kind not in ("depth", "grey16") or not_depth(topic):
        return False
    if topic.encoding.upper().startswith("32FC1") and topic.median:
        return PLAUSIBLE_M[0] <= topic.median <= PLAUSIBLE_M[1] and topic.whole < WHOLE
    return True


def not_depth(topic: Topic) -> bool:
    """Whether the name says that a topic is not depth."""
    return bool(topic.words & NOT_DEPTH_WORDS or (topic.words & INFRARED_WORDS and "depth" not in topic.words))


def is_truth(topic: Topic) -> bool:
    """Whether the name of a topic of poses means ground truth."""
    return any(word in topic.name.lower() for word in TRUTH_WORDS) or "gt" in topic.words


def rank(image: Topic, depth: Topic, known: tuple[Topic, ...], linked: Linked) -> tuple:
    """Sort key of a pair of image and depth, the best first: content before names."""
    same = same_frame(image, depth)
    together = 0 if same else 1 if same is None or linked(image.frame_id, depth.frame_id) else 2
    return (
        is_infrared(image),
        bool(image.problem) + bool(depth.problem),
        together,
        depth.kind == "grey16",
        calibration_of(image, known) is None,
        image.kind != "colour",
        image.size_px != depth.size_px,
        not alike(image.size_px, depth.size_px),
        -min(image.count, depth.count).bit_length(),
        -common_parts(image.base, depth.base),
        is_rectified(image.name) != is_rectified(depth.name),
        not {"registered", "aligned"} & depth.words,
        transport(image) + transport(depth),
        len(image.name) + len(depth.name),
        (image.name, depth.name),
    )


def reason(role: str, image: Topic, depth: Topic, known: tuple[Topic, ...], linked: Linked) -> str:
    """Why the topic of a role was chosen."""
    if role == "image":
        info = calibration_of(image, known)
        return f"{image.kind} image" + (f", calibrated by {info[0].name}" if info else "")
    same = same_frame(image, depth)
    frame = f"in the image's frame {image.frame_id}" if same else f"in frame {depth.frame_id}"
    if same is None:
        frame = "frame not stated"
    elif not same:
        frame += ", linked by /tf_static" if linked(image.frame_id, depth.frame_id) else ", not the image's"
    size = "same size as the image" if image.size_px == depth.size_px else "another size than the image"
    return ", ".join([depth.encoding or "depth", frame, size])


def same_frame(a: Topic, b: Topic) -> bool | None:
    """Whether two topics have the same frame_id; None if one is empty."""
    frames = [t.frame_id.strip().lstrip("/") for t in (a, b)]
    return frames[0] == frames[1] if all(frames) else None


def calibration_of(image: Topic, known: tuple[Topic, ...]) -> tuple[Topic, str] | None:
    """The CameraInfo of an image and the reason: same namespace, or same size and frame. None if it is ambiguous."""
    folder = image.base.rsplit("/", 1)[0]
    beside = {f"{image.base}/camera_info", f"{folder}/camera_info"}

    def fits(info: Topic) -> bool:
        near = info.name in beside
        sized = info.size_px == image.size_px or not image.size_px[0]
        return info.kind == "info" and info.calibrated and (near or (sized and same_frame(info, image) is not False))

    found = [t for t in known if fits(t)]
    if not found:
        return None

    def order(t: Topic) -> tuple:
        return (
            t.size_px != image.size_px,
            t.name not in beside,
            not same_frame(t, image),
            -common_parts(t.name, image.base),
        )

    best = min(found, key=lambda t: (*order(t), t.name))
    tied = [t for t in found if order(t) == order(best)]
    if best.name not in beside and len(tied) > 1:
        return None  # several cameras
    facts = ["same namespace"] if best.name in beside else []
    facts += ["same frame"] if same_frame(best, image) else []
    facts += ["same size"] if best.size_px == image.size_px else []
    return best, ", ".join(facts) or "the only camera_info"


def baseline_m(left: Topic, right: Topic, known: tuple[Topic, ...]) -> float:
    """Baseline in m from the calibrations of two images; 0 without."""
    infos = [calibration_of(t, known) for t in (left, right)]
    if infos[0] is None or infos[1] is None:
        return 0.0
    return infos[0][0].offset_m - infos[1][0].offset_m


def is_infrared(topic: Topic) -> bool:
    """Whether an image is infrared: 16 bits, or named so."""
    return topic.kind == "grey16" or bool(topic.words & INFRARED_WORDS)


def transport(topic: Topic) -> int:
    """Sort key: raw before compressed."""
    return int(topic.msgtype != RAW)


def common_parts(a: str, b: str) -> int:
    """Number of leading parts that two names share."""
    pairs = zip(a.split("/"), b.split("/"))
    count = 0
    for x, y in pairs:
        if x != y:
            break
        count += 1
    return count
