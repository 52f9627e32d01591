# SPDX-License-Identifier: Apache-2.0
"""Examines a recording: stamps of its topics, calibration, and a sample of its frames. Read `diagnose` first."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from drp_slam import resources
from drp_slam.data.bag_storage import is_bag, reader, typestore
from drp_slam.data.camera_info import is_rectified
from drp_slam.data.dataset import open_sequence
from drp_slam.data.progress import track
from drp_slam.data.sequence import Sequence
from drp_slam.data.topics import COMPRESSED, INFO, RAW
from drp_slam.doctor.examine import Examiner
from drp_slam.doctor.findings import Finding, found, worst_first
from drp_slam.doctor.intrinsics import Stated, check_calibration
from drp_slam.doctor.streams import Stream, check_pairs, check_stream
from drp_slam.errors import DrpSlamError

log = logging.getLogger(__name__)

SAMPLES = 60
"""Number of frames that are examined, evenly spaced."""
MOST_FRAMES = 6000
"""Frames after which the examination ends: five minutes of a camera."""


@dataclass(frozen=True)
class Survey:
    """The contents of a bag without pixels: streams, calibrations and sizes of images by topic."""

    streams: Mapping[str, Stream] = field(default_factory=dict)
    calibrations: Mapping[str, Stated] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """What was examined, and the findings, the worst first. `topics` are those examined by role."""

    name: str
    frames: int
    examined: int
    topics: Mapping[str, str]
    findings: list[Finding]


def diagnose(name: str, camera: str | None = None, start: int = 0, frames: int | None = None) -> Diagnosis:
    """Examines a recording by its name, as in `open_sequence`. A recording that cannot be read is a finding.

    Raises DataError for a missing file.
    """
    survey = surveyed(name)
    try:
        sequence = open_sequence(name, camera, start, frames)
    except DrpSlamError as error:
        if not survey.streams:
            raise
        findings = [found("unreadable", name, str(error)), *_of_survey(name, survey)]
        return Diagnosis(name, 0, 0, {s.role: s.where for s in survey.streams.values()}, worst_first(findings))
    topics = topics_of(sequence)
    streams = {role: survey.streams.get(topic, _stream(sequence, role, topic)) for role, topic in topics.items()}
    findings = _streams(s for s in streams.values() if s is not None)
    examiner = Examiner(topics, SAMPLES)
    examined, damage = examine(sequence, examiner)
    if damage:
        findings.append(found("unreadable", name, damage))
    findings += [found("reading", name, note) for note in sequence.facts()["warnings"]]
    if sequence.camera.mono:
        findings.append(found("no_scale", name, "images alone, without depth"))
    findings += _calibration(sequence, survey, topics) + examiner.findings()
    return Diagnosis(sequence.name, len(sequence), examined, topics, worst_first(findings))


def examine(sequence: Sequence, examiner: Examiner) -> tuple[int, str]:
    """Examines a sample of the frames; returns how many were read, and why reading ended early."""
    count = min(len(sequence), MOST_FRAMES)
    step = max(1, count // SAMPLES)
    read = 0
    try:
        for frame in track(sequence, count, "examining"):
            if frame.index >= count:
                break
            read += 1
            examiner.follow(frame)
            if frame.index % step == 0:
                examiner.sample(frame)
    except DrpSlamError as error:
        return read, str(error)
    return read, ""


def topics_of(sequence: Sequence) -> dict[str, str]:
    """The topics of a bag by role; for folders the roles themselves."""
    if sequence.topics:
        named = {role: topic for role, (topic, _) in sequence.topics.items() if role != "truth"}
        return {"camera_info": named["image"], **named}
    camera = sequence.camera
    other = () if camera.mono else ("depth",) if camera.baseline_m is None else ("right",)
    return {role: f"{sequence.name}: {role}" for role in ("image", *other, "camera_info")}


def _stream(sequence: Sequence, role: str, topic: str) -> Stream | None:
    """The streams of a sequence, by its stamps."""
    own = {"image": sequence.stamps_ns, "depth": sequence.depth_stamps_ns}.get(role)
    return None if own is None else Stream(topic, role, own)


def _streams(streams: Iterable[Stream]) -> list[Finding]:
    """Findings on each stream, and on depth or the right image against the colour image."""
    known = list(streams)
    out = [finding for stream in known for finding in check_stream(stream)]
    image = next((s for s in known if s.role == "image"), None)
    for stream in known:
        if image is not None and stream.role in ("depth", "right"):
            out += check_pairs(image, stream)
    return out


def _calibration(sequence: Sequence, survey: Survey, topics: Mapping[str, str]) -> list[Finding]:
    """The calibration as stated in the bag, else as read."""
    out = []
    for role in ("camera_info", "right_camera_info"):
        if role in topics:
            stated = survey.calibrations.get(topics[role])
            if stated is None and role == "camera_info":
                stated = Stated.of(sequence.camera)
            if stated is not None:
                rectified = is_rectified(topics["image"])
                size = survey.sizes.get(topics["right" if role.startswith("right") else "image"])
                out += check_calibration(replace(stated, rectified=rectified), topics[role], size)
    return out


def _of_survey(name: str, survey: Survey) -> list[Finding]:
    """Findings on a bag from which no frames can be read."""
    out = _streams(survey.streams.values())
    images = [s for s in survey.streams.values() if s.role == "image"]
    for topic, stated in survey.calibrations.items():
        beside = [size for where, size in survey.sizes.items() if where.rpartition("/")[0] == topic.rpartition("/")[0]]
        out += check_calibration(stated, topic, beside[0] if len(beside) == 1 else None)
    if images and not survey.calibrations:
        out.append(found("not_calibrated", name, "no CameraInfo is in the bag"))
    depths = [s for s in survey.streams.values() if s.role == "depth"]
    if len(images) == 1 and not depths:
        out.append(found("no_depth", name, f"no depth beside {images[0].where}"))
    for depth in depths[:1]:  # the reader may have refused it for its contents
        try:
            sequence = open_sequence(f"{name}:depth={depth.where}", frames=SAMPLES)
        except DrpSlamError:
            continue
        examiner = Examiner(topics_of(sequence), SAMPLES)
        examine(sequence, examiner)
        out += examiner.findings()
    return out


def surveyed(name: str) -> Survey:
    """All streams of images and all calibrations of a bag; empty if it is not a bag or cannot be opened."""
    path = next((p for p in map(resources.user_path, (name, name.partition(":")[0])) if p.exists()), None)
    if path is None or not is_bag(path):
        return Survey()
    stamps: dict[str, list[tuple[int, int]]] = {}
    calibrations: dict[str, Stated] = {}
    sizes: dict[str, tuple[int, int]] = {}
    store = typestore()
    try:
        with reader(path) as bag:
            wanted = [c for c in bag.connections if c.msgtype in (RAW, COMPRESSED, INFO)]
            for connection, log_ns, data in bag.messages(wanted):
                seconds, nanoseconds = struct.unpack_from("<iI" if data[1] else ">iI", data, 4)
                stamps.setdefault(connection.topic, []).append((seconds * 10**9 + nanoseconds, log_ns))
                if connection.msgtype == INFO and connection.topic not in calibrations:
                    calibrations[connection.topic] = stated(store.deserialize_cdr(data, INFO))
                elif connection.msgtype == RAW and connection.topic not in sizes:
                    first = store.deserialize_cdr(data, RAW)
                    sizes[connection.topic] = int(first.width), int(first.height)
    except Exception:  # damage of any kind; `open_sequence` reports it
        log.debug("survey of %s ended early", name, exc_info=True)
    streams = {}
    for topic, rows in stamps.items():
        header_ns, log_ns = np.array(rows, np.int64).T
        role = "camera_info" if topic in calibrations else "depth" if "depth" in topic else "image"
        streams[topic] = Stream(topic, role, header_ns, log_ns)
    return Survey(streams, calibrations, sizes)


def stated(info: Any) -> Stated:
    """The calibration of a CameraInfo message, of rclpy or of `rosbags`."""
    K, P = (np.array(values, np.float64) for values in (info.k, info.p))
    size = int(info.width), int(info.height)
    return Stated(size, K.reshape(3, 3), np.array(info.d, np.float64), P.reshape(3, 4), False, info.distortion_model)
