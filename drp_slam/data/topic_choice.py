# SPDX-License-Identifier: Apache-2.0
"""Chooses image, depth, right image, calibration and ground truth among topics by their content: read `choose`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from drp_slam.data import topic_matching as matching
from drp_slam.data.topics import OPTIONAL, POSES, ROLES, Choice, Topic
from drp_slam.errors import DataError

VIDEO_TYPES = ("ffmpeg", "theora", "h264", "h265", "compressedvideo")
"""Parts of the names of message types with video."""


def choose(
    topics: Iterable[Topic], chosen: Mapping[str, str], name: str, linked: matching.Linked = lambda a, b: False
) -> Choice:
    """The topics of one camera: `chosen` ones by role, the others by their content.

    Image and depth are chosen as a pair. Without depth, two calibrated images with a baseline are a stereo pair, an
    image that is the only one of the bag is used alone.
    Raises DataError that lists the topics and says how to choose.
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
    why = dict.fromkeys(taken, "chosen by the user")
    lone = "depth" in without and "right" not in taken
    if (not lone and "right" not in taken and "depth" not in taken) or "image" not in taken:
        _choose_images(known, taken, why, linked, lone)
    lone = lone or (
        "image" in taken and not {"depth", "right"} & taken.keys() and _nothing_beside(taken["image"], known)
    )
    missing = "image" if "image" not in taken else "depth" if not lone and not {"depth", "right"} & taken.keys() else ""
    if missing:
        colour = "colour " * (missing == "image")
        video = [t.msgtype for t in known if any(word in t.msgtype.lower() for word in VIDEO_TYPES)]
        listing += f" ({video[0]} is video, which is not supported: republish it as JPEG)" if video else ""
        unread = "".join(f"; {t.name} cannot be read: {t.problem}" for t in known if t.problem)
        raise DataError(
            f"{name}: no {colour}{missing} topic; there is: {listing}; choose with {name}:{missing}=/TOPIC{unread}"
        )
    registered = "depth" not in taken or matching.same_frame(taken["image"], taken["depth"]) is not False
    alone = registered and "depth" in taken and taken["depth"].size_px == taken["image"].size_px
    for role, of in (("camera_info", "image"), ("right_camera_info", "right"), ("depth_camera_info", "depth")):
        if role in taken or role in without or of not in taken or (alone and of == "depth"):
            continue
        if (info := matching.calibration_of(taken[of], known)) is not None:
            taken[role], why[role] = info
    if not {"truth"} & (taken.keys() | without) and (
        truth := next((t for t in known if t.msgtype in POSES and matching.is_truth(t)), None)
    ):
        taken["truth"], why["truth"] = truth, "named as ground truth"
    return Choice({role: t.name for role, t in taken.items()}, why, registered, known)


def _nothing_beside(image: Topic, known: tuple[Topic, ...]) -> bool:
    """Whether no other topic could be depth, or the other image of a pair."""
    others = [t for t in known if t.base != image.base]
    video = any(word in t.msgtype.lower() for t in others for word in VIDEO_TYPES)
    return not video and not any(
        t.problem or "depth" in t.words or t.kind in ("colour", "grey", "grey16", "depth") for t in others
    )


def _choose_images(
    known: tuple[Topic, ...], taken: dict[str, Topic], why: dict[str, str], linked: matching.Linked, lone: bool
) -> None:
    """Adds image and depth, or image and right image, or a `lone` image."""
    images = [taken["image"]] if "image" in taken else [t for t in known if t.kind in ("colour", "grey", "grey16")]
    # without better candidates, floats that cannot be metres may be millimetres
    odd = [t for t in known if t.kind == "depth" and not matching.not_depth(t)]
    depths = [taken["depth"]] if "depth" in taken else [t for t in known if matching.is_depth(t)] or odd
    pairs = [] if lone else [(i, d) for i in images for d in depths if i.base != d.base]
    if pairs and "right" not in taken:
        image, depth = min(pairs, key=lambda pair: matching.rank(pair[0], pair[1], known, linked))
        for role, topic in (("image", image), ("depth", depth)):
            if role not in taken:
                taken[role], why[role] = topic, matching.reason(role, image, depth, known, linked)
        return
    rights = [] if lone else [taken["right"]] if "right" in taken else images
    stereo = [
        (matching.common_parts(a.name, b.name), a, b, distance_m)
        for a in images
        for b in rights
        if a.base != b.base and a.size_px == b.size_px and (distance_m := matching.baseline_m(a, b, known)) > 0
    ]
    if stereo:
        _, left, right, distance_m = min(
            stereo, key=lambda s: (matching.is_infrared(s[1]), matching.transport(s[1]), -s[0], s[1].name)
        )
        pair = f"a stereo pair: P of its calibrations gives a baseline of {distance_m:.4g} m"
        for role, topic in (("image", left), ("right", right)):
            if role not in taken:
                taken[role], why[role] = topic, pair
    elif "image" not in taken and images:
        best = min(images, key=lambda t: (matching.is_infrared(t), t.kind != "colour", matching.transport(t), t.name))
        taken["image"], why["image"] = best, f"{best.kind} image"
