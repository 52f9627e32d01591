# SPDX-License-Identifier: Apache-2.0
"""The table of checks: faults of a camera, its recording or the graph, their effects and remedies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """Severity; the numbers are those of DiagnosticStatus."""

    NOTE = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Check:
    """One kind of fault: the symptom a user notices, why it matters, and the remedy."""

    name: str
    level: Level
    symptom: str
    why: str
    remedy: str


_N, _W, _E = Level.NOTE, Level.WARN, Level.ERROR
_TABLE = (
    # topics
    Check(
        "no_message",
        _W,
        "The graph waits; no pose is published.",
        "Nothing can be tracked without this topic.",
        "start the camera's driver, or name its topic: --image-topic, --depth-topic, --camera-info-topic (launch: "
        "image:=, depth:=, camera_info:=)",
    ),
    Check(
        "wrong_type",
        _E,
        "The topic exists, but nothing arrives.",
        "ROS 2 connects only publishers and subscribers of one type.",
        "name a topic of the expected type; compressed images belong on TOPIC/compressed",
    ),
    Check(
        "qos_mismatch",
        _E,
        "The topic exists and has the right type, but nothing arrives.",
        "A best-effort or volatile publisher cannot serve a subscriber that requests reliable or transient-local.",
        "set the reliability of the driver's topic to reliable, or override the subscriber's with the parameter "
        "qos_overrides.TOPIC.subscription.reliability: best_effort",
    ),
    Check(
        "latched_info",
        _N,
        "camera_info was published once, before the graph started.",
        "A volatile subscriber that starts later never receives it.",
        "nothing: the nodes subscribe to it as transient-local, too; better, let the driver publish camera_info with "
        "every image",
    ),
    Check(
        "too_early",
        _N,
        "The first images are not in the trajectory.",
        "Images that arrive while nodes still start cannot be tracked.",
        "nothing for a camera; of a recording, play it by `up --sequence BAG`, which waits for the nodes",
    ),
    Check(
        "two_publishers",
        _W,
        "The pose jumps, or frames are refused because of their stamps.",
        "Images of two cameras, or of one camera twice, are mixed in one stream.",
        "stop one of the publishers (a bag that plays beside the driver?), or give each its own topic or namespace",
    ),
    # clocks and stamps
    Check(
        "no_clock",
        _E,
        "use_sim_time is true and nothing moves.",
        "Nodes that follow /clock have no time until a node publishes it.",
        "start the simulator, play the bag with --clock, or leave use_sim_time out",
    ),
    Check(
        "clock_jump",
        _W,
        "The clock went back.",
        "Earlier transforms and timers are in the future now.",
        "restart the graph after a simulator was reset or a bag was restarted",
    ),
    Check(
        "stamps_zero",
        _E,
        "Every frame but the first is refused, or depth is never found.",
        "Stamps are the key that joins colour, depth, features and poses.",
        "let the driver set header.stamp when the image is taken",
    ),
    Check(
        "stamps_ahead",
        _W,
        "Transforms are extrapolated into the future.",
        "A stamp is when the image was taken, which cannot be later than its arrival.",
        "synchronise the clocks of camera and host (chrony, PTP), or let the driver stamp with the host's clock",
    ),
    Check(
        "stamps_behind",
        _N,
        "tf2 says that data is too old.",
        "Stamps are far behind this host's clock, such as those of a bag that is played without its clock.",
        "play the bag with --clock and set use_sim_time, or synchronise the camera's clock",
    ),
    Check(
        "stamps_backwards",
        _W,
        "Frames are refused because of their stamps.",
        "Images must arrive in the order in which they were taken, each with a stamp of its own.",
        "look for two publishers, a bag that plays in a loop, or a driver that repeats or sorts stamps wrongly",
    ),
    Check(
        "unsynchronised",
        _W,
        "Frames are tracked without depth, or the map is smeared when the camera moves.",
        "Depth from another moment does not match the objects in the image.",
        "switch on the driver's synchronisation of colour and depth (RealSense: enable_sync, Orbbec: "
        "enable_frame_sync)",
    ),
    Check(
        "low_rate",
        _W,
        "Tracking is lost when the camera turns.",
        "Consecutive images must overlap: at 5 Hz a turn of 60 degrees a second moves the view by 12 degrees.",
        "raise the camera's frame rate, lower its resolution, or move slower",
    ),
    Check(
        "frames_dropped",
        _W,
        "Tracking is lost from time to time although the camera is fast.",
        "Across missing frames the view changes more.",
        "find where they are lost: at the camera (USB, exposure), on the network (QoS, bandwidth; compressed images) "
        "or in a busy node (fewer features, a faster network, a lower rate)",
    ),
    # images
    Check(
        "dark",
        _W,
        "Few features; tracking is lost.",
        "Noise hides texture where very little light falls on the sensor.",
        "uncover the lens, add light, or expose longer",
    ),
    Check(
        "overexposed",
        _W,
        "Few features in bright parts; tracking is lost.",
        "Saturated pixels have no texture.",
        "switch on automatic exposure, or expose shorter",
    ),
    Check(
        "blurred",
        _W,
        "Few matches although the scene has texture.",
        "A blurred edge cannot be located.",
        "focus or clean the lens; expose shorter with more light, or move slower",
    ),
    Check(
        "textureless",
        _W,
        "Few features; tracking is lost.",
        "A pose needs points in at least a few parts of the image.",
        "point the camera at something with texture, or use a wider lens; where the scene has texture, focus the lens",
    ),
    Check(
        "ir_dots",
        _W,
        "The map seems to move with the camera.",
        "Dots of an infrared projector move with the camera and are mistaken for features of the scene.",
        "use the colour image, or switch the projector off or alternate it (RealSense: emitter_enabled, "
        "emitter_on_off)",
    ),
    Check(
        "frozen",
        _W,
        "The pose does not change while the camera moves.",
        "The driver repeats one image.",
        "restart the driver; check cable and USB power",
    ),
    # depth
    Check(
        "no_depth",
        _E,
        "No map begins.",
        "Without depth the scale of the scene is unknown.",
        "check that depth is switched on, its range (too near, too far, glass, sunlight) and its topic",
    ),
    Check(
        "no_scale",
        _N,
        "Path and map have no scale: their unit has an unknown length.",
        "One camera without depth cannot measure sizes.",
        "start run and up with --sensor mono; for metres add depth or a second camera",
    ),
    Check(
        "depth_unit",
        _E,
        "Distances are wrong by a constant factor.",
        "16UC1 holds millimetres and 32FC1 metres (REP-118); other units give a map with a wrong scale.",
        "publish millimetres as 16UC1 or metres as 32FC1; for a recording give --camera FILE with its depth_scale",
    ),
    Check(
        "unregistered",
        _E,
        "The map is bent; objects have the depth of their surroundings.",
        "Depth must be in the pixels of the colour image: each feature reads the depth under it.",
        "publish depth aligned to colour (RealSense: align_depth.enable, Orbbec: depth_registration, Azure Kinect: "
        "depth_to_rgb)",
    ),
    # calibration
    Check(
        "not_calibrated",
        _E,
        "No pose; camera_info is refused.",
        "Without focal length and principal point, pixels have no directions.",
        "run a camera calibration and let the driver publish it, or name a calibration with --camera",
    ),
    Check(
        "size_mismatch",
        _E,
        "Frames are refused because of their size.",
        "The calibration is for images of another size.",
        "publish the camera_info of this resolution, and depth registered to colour",
    ),
    Check(
        "principal_point",
        _W,
        "The trajectory is bent.",
        "The principal point of a lens lies near the middle of the image; elsewhere it belongs to another image or "
        "resolution.",
        "check K = [fx 0 cx; 0 fy cy; 0 0 1] of camera_info for swapped or scaled numbers",
    ),
    Check(
        "rectification",
        _W,
        "Straight lines are bent in the map.",
        "Rectified images need P and no distortion, raw images K and D.",
        "publish rectified images with a camera_info of their own",
    ),
    Check(
        "wrong_calibration",
        _W,
        "The trajectory is bent and turns have the wrong angle.",
        "The motion between images contradicts the calibration.",
        "calibrate the camera at this resolution and focus",
    ),
    Check(
        "wrong_pair",
        _E,
        "Stereo depth is missing or wrong.",
        "The same point must be on the same row of both rectified images, further to the left in the right one.",
        "calibrate the pair, publish rectified images, and check that left and right are not swapped",
    ),
    # wheels and IMU
    Check(
        "prior_wrong",
        _W,
        "Wheel odometry or IMU is not used: frames without vision are lost.",
        "Its motion contradicts the camera's; a prior only predicts, so poses are the same as without it.",
        "check its frame and the camera's mount on the robot (/tf, mount), its stamps, and that it is not frozen",
    ),
    # the host
    Check(
        "cpu_overload",
        _W,
        "Frames are dropped; poses are late.",
        "All cores are busy, so nodes wait for each other.",
        "stop other programs, lower the camera's rate or resolution, or use fewer features",
    ),
    Check(
        "refused",
        _E,
        "Messages arrive, but no frame is processed.",
        "A node drops messages that it cannot use.",
        "follow the message",
    ),
    Check(
        "reading",
        _N,
        "Frames are missing, or depth has another scale than expected.",
        "The reader omitted or corrected something in the recording.",
        "correct the source of the recording if the note is unexpected",
    ),
    Check(
        "unreadable",
        _E,
        "The recording cannot be played.",
        "A part of it is missing or damaged.",
        "follow the message, then run doctor again",
    ),
)
CHECKS = {check.name: check for check in _TABLE}
"""Every check by name, in the order of docs/troubleshooting.md."""
